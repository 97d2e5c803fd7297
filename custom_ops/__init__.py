"""Pooling operators as pure functions with XLA kernels, and thin Keras layers over them."""

from custom_ops import layers as layers
from custom_ops import ops as ops
from custom_ops.dispatch import lowering as lowering
