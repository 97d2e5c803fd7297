"""Lp pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import register
from custom_ops.layers.exponent import ExponentPooling


class LpPooling(ExponentPooling):
    """Lp pooling of either rank: the usual p is 2, and fixed."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        p: float = 2.0,
        learned: bool = False,
        per_channel: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, p, learned, per_channel, **keywords)


@register
class LpPooling2D(LpPooling):
    """The p-norm of each window, `(sum abs(x)^p)^(1/p)`: their sum for p = 1, near the maximum for a large p.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.
        p: float of at least 1; the exponent, or where it starts.
        learned: bool; whether p is a weight.
        per_channel: bool; whether each channel has a p of its own.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> LpPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Convolutional neural networks applied to house numbers digit classification](https://arxiv.org/abs/1204.3968),
        Sermanet et al. 2012
    """

    rank = 2
    operator = ops.lp_pool2d


@register
class LpPooling1D(LpPooling):
    """`LpPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.lp_pool1d
