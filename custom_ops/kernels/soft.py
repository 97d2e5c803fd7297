"""Means weighted with a softmax: soft pooling, `y = sum softmax(beta x) x`, and LIP.

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
    backward, stages = (soft_backward, soft_backward_beta), (soft_largest, soft_share)
    return differentiable(choose("soft", x), window, soft_forward, backward, stages)(x, beta)


def lip_pool(x: Tensor, logits: Tensor, window: Window) -> Tensor:
    """The mean weighted with e^logits; `logits` has the shape of x."""
    backward, stages = (lip_backward, lip_backward_logits), (lip_largest, lip_share)
    return differentiable(choose("lip", x), window, lip_forward, backward, stages)(x, logits)


def soft_forward(view: View, x: Tensor, beta: Tensor) -> Tensor:
    """The mean `sum softmax(beta x) x`."""
    return weighted_mean(view, x, beta * x)


def soft_largest(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The largest logit of each window."""
    return largest_member(logit_members(view, beta * x))


def soft_share(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor, largest: Tensor) -> Tensor:
    """What each unit of weight gets of a window's gradient."""
    return dy / reduce(tf.add, exponentials(view, beta * x, largest))


def soft_backward(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor, largest: Tensor, share: Tensor) -> Tensor:
    """The gradient `dy w (1 + beta (x - y))`."""
    values = view.split(x)
    return gather(view, beta * x, largest, share, y, lambda output: 1 + beta * (values - output))


def soft_backward_beta(
    view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor, largest: Tensor, share: Tensor
) -> Tensor:
    """The gradient `dy sum w (x - y) x`: the sum is the variance of a window under its weights."""
    pairs = zip(exponentials(view, beta * x, largest), view.members(x, 0.0), strict=True)
    return sum_like(beta, share * reduce(tf.add, [w * (v - y) * v for w, v in pairs]))


def lip_forward(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean `sum softmax(logits) x`."""
    return weighted_mean(view, x, logits)


def lip_largest(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The largest logit of each window."""
    return largest_member(logit_members(view, logits))


def lip_share(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor, largest: Tensor) -> Tensor:
    """What each unit of weight gets of a window's gradient."""
    return dy / reduce(tf.add, exponentials(view, logits, largest))


def lip_backward(
    view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor, largest: Tensor, share: Tensor
) -> Tensor:
    """The gradient `dy w`."""
    return gather(view, logits, largest, share, y, lambda output: 1.0)


def lip_backward_logits(
    view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor, largest: Tensor, share: Tensor
) -> Tensor:
    """The gradient `dy w (x - y)`."""
    values = view.split(x)
    return gather(view, logits, largest, share, y, lambda output: values - output)


def logit_members(view: View, logits: Tensor) -> list[Tensor]:
    """The logits of the members; for absent ones a number whose exponential is next to nothing."""
    return view.members(logits, logits.dtype.min)


def largest_member(members: list[Tensor]) -> Tensor:
    """The largest of the members."""
    return reduce(tf.maximum, members)


def exponentials(view: View, logits: Tensor, largest: Tensor) -> list[Tensor]:
    """The exponentials e^(g - m) of the members, with the largest member m of each window."""
    return [exp(g - largest) for g in logit_members(view, logits)]


def weighted_mean(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean of the members with weights e^logits."""
    weights = exponentials(view, logits, largest_member(logit_members(view, logits)))
    weighted = [w * v for w, v in zip(weights, view.members(x, 0.0), strict=True)]
    return reduce(tf.add, weighted) / reduce(tf.add, weights)


def gather(
    view: View,
    logits: Tensor,
    largest: Tensor,
    share: Tensor,
    y: Tensor,
    factor: Callable[[Tensor], Tensor],
) -> Tensor:
    """Sum over the windows of a position of `dy w factor(y)`, where w is its weight in the window."""
    g = view.split(logits)
    cells = [
        # No logit is above the largest of a window that covers it; `minimum` is for those that do not.
        covered(numbers, gradient * exp(tf.minimum(g - m, 0.0)) * factor(output))
        for numbers, (m, gradient, output) in view.covering(largest, share, y)
    ]
    return view.join(reduce(tf.add, cells))
