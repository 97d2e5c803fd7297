"""Median pooling."""

from custom_ops import ops
from custom_ops.layers.base import Pooling, register


@register
class MedianPooling2D(Pooling):
    """The median of each window, robust to outliers and to impulse noise.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> MedianPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])
    """

    rank = 2
    operator = ops.median_pool2d


@register
class MedianPooling1D(Pooling):
    """`MedianPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.median_pool1d
