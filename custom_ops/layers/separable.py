"""Separable pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Pooling, Shape, register

Tensor = Any


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

    rank = 2
    operator = ops.separable_pool2d

    def build(self, input_shape: Shape) -> None:
        """Makes the logits."""
        (rows, columns), channels = self.pool_size, input_shape[-1]
        options = {"initializer": "zeros", "autocast": False}
        self.row_logits = self.add_weight(shape=(rows, channels), name="row_logits", **options)
        self.column_logits = self.add_weight(shape=(columns, channels), name="column_logits", **options)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, self.row_logits, self.column_logits)


@register
class SeparablePooling1D(Pooling):
    """`SeparablePooling2D` over steps, with one softmax: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.separable_pool1d

    def build(self, input_shape: Shape) -> None:
        """Makes the logits."""
        shape = (self.pool_size[0], input_shape[-1])
        self.logits = self.add_weight(shape=shape, initializer="zeros", autocast=False, name="logits")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, self.logits)
