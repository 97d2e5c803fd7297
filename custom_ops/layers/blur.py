"""Blur pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Pooling, register


class BlurPooling(Pooling):
    """Blur pooling of either rank."""

    def __init__(self, pool_size: Any = 3, strides: Any = None, padding: str = "valid", **keywords: Any) -> None:
        super().__init__(pool_size, strides, padding, **keywords)


@register
class BlurPooling2D(BlurPooling):
    """A binomial filter of `pool_size`, then every stride-th value: subsampling without aliasing.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> BlurPooling2D(3, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 15, 15, 16])

    Reference:
        [Making convolutional networks shift-invariant again](https://arxiv.org/abs/1904.11486),
        Zhang 2019
    """

    rank = 2
    operator = ops.blur_pool2d


@register
class BlurPooling1D(BlurPooling):
    """`BlurPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.blur_pool1d
