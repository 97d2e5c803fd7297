"""Max pooling."""

from custom_ops import ops
from custom_ops.layers.base import Pooling, register


@register
class MaxPooling2D(Pooling):
    """The largest value of each window; its first maximum gets the gradient.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> MaxPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])
    """

    rank = 2
    operator = ops.max_pool2d


@register
class MaxPooling1D(Pooling):
    """`MaxPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.max_pool1d
