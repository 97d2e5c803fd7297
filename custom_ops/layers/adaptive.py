"""Adaptive pooling: Keras's layers for `channels_last` data, whose own computation raises for a grid of 1."""

from collections.abc import Callable
from typing import Any

import keras

from custom_ops import ops
from custom_ops.layers.base import register
from custom_ops.window import positive_ints

Tensor = Any


class AdaptivePooling(keras.layers.Layer):
    """What replaces the constructor and the computation of Keras's layers."""

    rank: int
    operator: Callable[..., Tensor]

    def __init__(self, output_size: Any, **keywords: Any) -> None:
        sizes = positive_ints(output_size, self.rank, "output_size")
        super().__init__(sizes, **{**keywords, "data_format": "channels_last"})

    def call(self, x: Tensor) -> Tensor:
        return type(self).operator(x, self.output_size)


@register
class AdaptiveAvgPooling2D(AdaptivePooling, keras.layers.AdaptiveAveragePooling2D):
    """The mean of each cell of a grid of fixed size, from an input of any size, known or not.

    Args:
        output_size: int or 2 ints; rows and columns of the grid.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, *output_size, channels)`

    Raises:
        ValueError: if `output_size` is not what it should be.

    Example:
        >>> AdaptiveAvgPooling2D(7)(tf.ones((8, 30, 40, 16))).shape
        TensorShape([8, 7, 7, 16])
    """

    rank = 2
    operator = ops.adaptive_avg_pool2d


@register
class AdaptiveAvgPooling1D(AdaptivePooling, keras.layers.AdaptiveAveragePooling1D):
    """`AdaptiveAvgPooling2D` over steps.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, output_size, channels)`
    """

    rank = 1
    operator = ops.adaptive_avg_pool1d


@register
class AdaptiveMaxPooling2D(AdaptivePooling, keras.layers.AdaptiveMaxPooling2D):
    """The maximum of each cell of a grid of fixed size, from an input of any size, known or not.

    Args:
        output_size: int or 2 ints; rows and columns of the grid.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, *output_size, channels)`

    Raises:
        ValueError: if `output_size` is not what it should be.

    Example:
        >>> AdaptiveMaxPooling2D(7)(tf.ones((8, 30, 40, 16))).shape
        TensorShape([8, 7, 7, 16])
    """

    rank = 2
    operator = ops.adaptive_max_pool2d


@register
class AdaptiveMaxPooling1D(AdaptivePooling, keras.layers.AdaptiveMaxPooling1D):
    """`AdaptiveMaxPooling2D` over steps.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, output_size, channels)`
    """

    rank = 1
    operator = ops.adaptive_max_pool1d
