"""Multiply-adds of a layer: how often it multiplies an input by a weight and adds the product to a sum.

Counted are the layers that do nearly all the arithmetic: convolutions of every kind and dense layers. Not counted
are biases, normalization, activations, pooling, sums and products of feature maps. One multiply-add is one
multiplication with its addition; a count of floating-point operations is about twice that.
"""

import math
from typing import Any, TypeAlias

from keras import layers

Shape: TypeAlias = tuple[int, ...]

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


def multiply_adds(layer: Any, input_shape: Shape, output_shape: Shape) -> int | None:
    """Multiply-adds of one layer for one input without its batch axis, as for one image.

    Args:
        layer: A layer that is built, on `channels_last` data, or another operation of Keras.
        input_shape: `(batch, ..., channels)`.
        output_shape: `(batch, ..., channels)`.

    Returns:
        The number; None if the layer is of no kind that is counted.
    """
    if isinstance(layer, SEPARABLE):
        weights = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return weights * math.prod(output_shape[1:-1])
    if isinstance(layer, TRANSPOSED):
        # Every input position is multiplied by the whole kernel; what falls outside is cut off afterwards.
        return math.prod(layer.kernel.shape) * math.prod(input_shape[1:-1])
    if isinstance(layer, CONVOLUTIONS + DEPTHWISE + (layers.Dense,)):
        # The kernel of a grouped convolution holds the channels of one group only, so its size says it all.
        return math.prod(layer.kernel.shape) * math.prod(output_shape[1:-1])
    return None
