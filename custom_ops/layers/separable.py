"""Separable pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Pooling, Shape, register

Tensor = Any


@register
class SeparablePooling1D(Pooling):
    """A mean with learned weights, softmax(logits) along the steps, for each channel.

    The logits start at zero, where the layer is average pooling.

    Args:
        pool_size: int, or a tuple of one; steps of a window.
        strides: int or `None`; steps from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> SeparablePooling1D(2, strides=2)(tf.ones((8, 32, 16))).shape
        TensorShape([8, 16, 16])
    """

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", **keywords: Any) -> None:
        super().__init__(1, pool_size, strides, padding, **keywords)

    def build(self, input_shape: Shape) -> None:
        """Makes the logits."""
        shape = (self.pool_size[0], input_shape[-1])
        self.logits = self.add_weight(shape=shape, initializer="zeros", autocast=False, name="logits")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, ops.separable_pool1d, x, self.logits)


@register
class SeparablePooling2D(Pooling):
    """A mean with learned weights, softmax(row_logits) softmax(column_logits), for each channel.

    The logits start at zero, where the layer is average pooling.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> SeparablePooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])
    """

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", **keywords: Any) -> None:
        super().__init__(2, pool_size, strides, padding, **keywords)

    def build(self, input_shape: Shape) -> None:
        """Makes the logits."""
        (rows, columns), channels = self.pool_size, input_shape[-1]
        options = {"initializer": "zeros", "autocast": False}
        self.row_logits = self.add_weight(shape=(rows, channels), name="row_logits", **options)
        self.column_logits = self.add_weight(shape=(columns, channels), name="column_logits", **options)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, ops.separable_pool2d, x, self.row_logits, self.column_logits)
