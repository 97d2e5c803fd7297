"""Max pooling: `y = max(window)`. The whole gradient goes to the first maximum of the window.

NaN: the native form leaves it out of the maximum, unless nothing else is there. The xla form returns either
NaN or the maximum of the rest, depending on where the NaN stands. Infinity is the largest number, and minus infinity
the smallest: a window of nothing else gives minus infinity in the xla form and the lowest finite number in the
native one.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.gradient import accumulator, differentiable
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any
LOWEST = float("-inf")
NO_MEMBER = -2  # -1 is the number of a position that a window does not cover


def max_pool(x: Tensor, window: Window) -> Tensor:
    """The largest value of each window of `x (batch, height, width, channels)`."""
    form = choose("max", x)
    if form == "native":
        return native(x, window)
    return differentiable(form, window, forward, (backward,))(x)


def native(x: Tensor, window: Window) -> Tensor:
    """TensorFlow's own kernel. Its gradient adds up in the type it is given, so that is a wide one."""
    wide = tf.cast(x, accumulator(x.dtype))
    y = tf.nn.max_pool2d(wide, window.size, window.strides, window.padding.upper())
    return tf.cast(y, x.dtype)


def forward(view: View, x: Tensor) -> Tensor:
    """The maximum of the members."""
    return reduce(tf.maximum, view.members(x, LOWEST))


def backward(view: View, x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient, where the maximum was. The output is not needed for it."""
    return route(view, first_maximum(view.members(x, LOWEST)), dy)


def first_maximum(members: Sequence[Tensor]) -> Tensor:
    """The number of the first member that no other exceeds."""
    largest, number = members[0], tf.zeros_like(members[0], tf.int32)
    for candidate, member in enumerate(members):
        exceeds = member > largest
        largest = tf.where(exceeds, member, largest)
        number = tf.where(exceeds, candidate, number)
    return compact(number, len(members))


def compact(number: Tensor, members: int) -> Tensor:
    """Member numbers in one byte if that is enough: a loop over offsets reads them again and again."""
    return tf.cast(number, tf.int8) if members <= 127 else number


def route(view: View, number: Tensor, dy: Tensor) -> Tensor:
    """Hands each window's gradient to one of its members, whose `number` is given; to none for `NO_MEMBER`."""
    # Where no window stands dy is zero, so that it does not matter which number stands there.
    cells = [chosen_one(numbers, number, g) for numbers, (number, g) in view.covering(number, dy)]
    return view.join(reduce(tf.add, cells))


def chosen_one(numbers: Any, chosen: Tensor, values: Tensor) -> Tensor:
    """The values where a position of a cell is the chosen member of its window, and zero elsewhere."""
    return tf.where(chosen == tf.cast(numbers, chosen.dtype), values, tf.zeros([], values.dtype))
