"""Generalised mean (GeM) pooling."""

from custom_ops import ops
from custom_ops.layers.base import register
from custom_ops.layers.exponent import ExponentPooling


@register
class GemPooling2D(ExponentPooling):
    """The generalised mean of each window, `(mean max(x, 1e-6)^p)^(1/p)`: the mean for p = 1.

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
        >>> GemPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Fine-tuning CNN image retrieval with no human annotation](https://arxiv.org/abs/1711.02512),
        Radenovic et al. 2017
    """

    rank = 2
    operator = ops.gem_pool2d


@register
class GemPooling1D(ExponentPooling):
    """`GemPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.gem_pool1d
