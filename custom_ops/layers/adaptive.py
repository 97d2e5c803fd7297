"""Adaptive pooling."""

from typing import Any

import keras

from custom_ops import ops
from custom_ops.layers.base import register
from custom_ops.window import positive_ints

Tensor = Any


@register
class AdaptiveAvgPooling1D(keras.layers.AdaptiveAveragePooling1D):
    """The mean of each cell of a grid of fixed size, from an input of any size, known or not.

    It is Keras's layer for `channels_last` data. What Keras computes raises for a grid of 1.

    Args:
        output_size: int; steps of the grid.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, output_size, channels)`

    Raises:
        ValueError: if `output_size` is not what it should be.

    Example:
        >>> AdaptiveAvgPooling1D(7)(tf.ones((8, 30, 16))).shape
        TensorShape([8, 7, 16])
    """

    def __init__(self, output_size: Any, **keywords: Any) -> None:
        sizes = positive_ints(output_size, 1, "output_size")
        super().__init__(sizes, **{**keywords, "data_format": "channels_last"})

    def call(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool1d(x, self.output_size)


@register
class AdaptiveAvgPooling2D(keras.layers.AdaptiveAveragePooling2D):
    """The mean of each cell of a grid of fixed size, from an input of any size, known or not.

    It is Keras's layer for `channels_last` data. What Keras computes raises for a grid of 1.

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

    def __init__(self, output_size: Any, **keywords: Any) -> None:
        sizes = positive_ints(output_size, 2, "output_size")
        super().__init__(sizes, **{**keywords, "data_format": "channels_last"})

    def call(self, x: Tensor) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)


@register
class AdaptiveMaxPooling1D(keras.layers.AdaptiveMaxPooling1D):
    """The maximum of each cell of a grid of fixed size, from an input of any size, known or not.

    It is Keras's layer for `channels_last` data. What Keras computes raises for a grid of 1.

    Args:
        output_size: int; steps of the grid.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, output_size, channels)`

    Raises:
        ValueError: if `output_size` is not what it should be.

    Example:
        >>> AdaptiveMaxPooling1D(7)(tf.ones((8, 30, 16))).shape
        TensorShape([8, 7, 16])
    """

    def __init__(self, output_size: Any, **keywords: Any) -> None:
        sizes = positive_ints(output_size, 1, "output_size")
        super().__init__(sizes, **{**keywords, "data_format": "channels_last"})

    def call(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool1d(x, self.output_size)


@register
class AdaptiveMaxPooling2D(keras.layers.AdaptiveMaxPooling2D):
    """The maximum of each cell of a grid of fixed size, from an input of any size, known or not.

    It is Keras's layer for `channels_last` data. What Keras computes raises for a grid of 1.

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

    def __init__(self, output_size: Any, **keywords: Any) -> None:
        sizes = positive_ints(output_size, 2, "output_size")
        super().__init__(sizes, **{**keywords, "data_format": "channels_last"})

    def call(self, x: Tensor) -> Tensor:
        return ops.adaptive_max_pool2d(x, self.output_size)
