"""Layers that Keras lacks, and beside them its `SeparableConv2D`, which belongs with the pointwise one."""

from keras.layers import SeparableConv2D as SeparableConv2D

from zoo.layers.pointwise_conv import PointwiseConv2D as PointwiseConv2D
from zoo.layers.stochastic_depth import StochasticDepth as StochasticDepth
