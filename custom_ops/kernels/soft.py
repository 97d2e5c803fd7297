"""Means weighted with a softmax: soft pooling, `y = sum softmax(beta x) x`, and LIP, with logits of their own.

Both are `y = sum e^(g - m) x / sum e^(g - m)` with the maximum m of the logits g subtracted, so that nothing
overflows. With the weight `w` of a position, the gradients are `dy/dx = w` and `dy/dg = w (x - y)`; soft
pooling has `g = beta x`, hence `dy/dx = w (1 + beta (x - y))`. NaN and infinity in the input make the outputs
of their windows NaN or infinite, or in the xla form any number.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.fast_math import exp
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.reductions import sum_like
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any


def soft_pool(x: Tensor, beta: Tensor, window: Window) -> Tensor:
    """The mean weighted with softmax(beta x); `beta` is a scalar or has one value per channel."""
    return differentiable(choose("soft", x), soft_forward, (soft_backward, soft_backward_beta), window)(
        x, beta
    )


def lip_pool(x: Tensor, logits: Tensor, window: Window) -> Tensor:
    """The mean weighted with e^logits; `logits` has the shape of x."""
    return differentiable(choose("lip", x), lip_forward, (lip_backward, lip_backward_logits), window)(
        x, logits
    )


def soft_forward(view: View, x: Tensor, beta: Tensor) -> Tensor:
    """The mean `sum softmax(beta x) x`."""
    return weighted_mean(view, x, beta * x)


def lip_forward(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean `sum softmax(logits) x`."""
    return weighted_mean(view, x, logits)


def soft_backward(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy w (1 + beta (x - y))`."""
    values = view.split(x)
    return gather(view, beta * x, y, dy, lambda y: 1 + beta * (values - y))


def soft_backward_beta(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy sum w (x - y) x`: the sum is the variance of a window under its weights."""
    weights, _ = exponentials(view, beta * x)
    members = view.members(x, 0.0)
    squares = reduce(tf.add, [w * (v - y) * v for w, v in zip(weights, members, strict=True)])
    variance = squares / reduce(tf.add, weights)
    return sum_like(beta, dy * variance)


def lip_backward(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy w`."""
    return gather(view, logits, y, dy, lambda y: 1.0)


def lip_backward_logits(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy w (x - y)`."""
    values = view.split(x)
    return gather(view, logits, y, dy, lambda y: values - y)


def exponentials(view: View, logits: Tensor) -> tuple[list[Tensor], Tensor]:
    """The exponentials e^(g - m) of the members, next to nothing for absent ones, and the maximum m of each window."""
    members = view.members(logits, logits.dtype.min)
    largest = reduce(tf.maximum, members)
    return [exp(g - largest) for g in members], largest


def weighted_mean(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean of the members with weights e^logits."""
    weights, _ = exponentials(view, logits)
    members = view.members(x, 0.0)
    weighted = reduce(tf.add, [w * v for w, v in zip(weights, members, strict=True)])
    return weighted / reduce(tf.add, weights)


def gather(view: View, logits: Tensor, y: Tensor, dy: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over the windows of a position of dy w factor(y), where w is its weight in the window."""
    weights, largest = exponentials(view, logits)
    g = view.split(logits)
    cells = [
        # The position is not above the maximum of a window that covers it; `minimum` is for those that do
        # not.
        covered(numbers, gradient * exp(tf.minimum(g - m, 0.0)) * factor(output))
        for numbers, (gradient, m, output) in view.covering(dy / reduce(tf.add, weights), largest, y)
    ]
    return view.join(reduce(tf.add, cells))
