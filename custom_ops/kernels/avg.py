"""Average pooling: `y = sum(window) / count`, over the positions that are present.

NaN makes the outputs of its windows NaN and infinity makes them infinite, in both forms. The gradient has neither.
"""

from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.gradient import accumulator, differentiable
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any


def avg_pool(x: Tensor, window: Window) -> Tensor:
    """The mean of each window of `x (batch, height, width, channels)`."""
    form = choose("avg", x)
    if form == "native":
        return native(x, window)
    return differentiable(form, window, forward, (backward,))(x)


def native(x: Tensor, window: Window) -> Tensor:
    """TensorFlow's own kernel, which leaves out absent positions too, in a type wide enough to add up in."""
    wide = tf.cast(x, accumulator(x.dtype))
    return tf.cast(tf.nn.avg_pool2d(wide, window.size, window.strides, window.padding.upper()), x.dtype)


def forward(view: View, x: Tensor) -> Tensor:
    """The mean of the members."""
    return mean(view, x)


def backward(view: View, x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """An equal share of the gradient for each member."""
    share = dy / view.counts(dy.dtype)
    return view.join(reduce(tf.add, [covered(numbers, g) for numbers, (g,) in view.covering(share)]))


def mean(view: View, x: Tensor) -> Tensor:
    """The mean of the members that are present."""
    return reduce(tf.add, view.members(x, 0.0)) / view.counts(x.dtype)
