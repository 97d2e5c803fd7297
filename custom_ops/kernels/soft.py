"""Means weighted with a softmax: soft pooling, `y = sum softmax(beta x) x`, and LIP.

Both are `y = sum e^(g - m) x / sum e^(g - m)` with the maximum m of the logits g subtracted, so that nothing
overflows. The backward pass has the weights of the positions as `w = e^(g - l)` from one number per window, `l =
m + log(sum e^(g - m))`. The gradients are `dy/dx = w` and `dy/dg = w (x - y)`; soft pooling has `g = beta x`,
hence `dy/dx = w (1 + beta (x - y))`.

NaN in the input or in the logits makes the outputs of its windows NaN. Infinity in the input makes them infinite; in
soft pooling minus infinity makes them minus infinity or, in the native form, NaN. An infinite logit takes all the
weight, and minus infinity none, unless there is nothing else: that gives NaN.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.fast_math import at_most, exp, log
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.reductions import sum_like
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any


def soft_pool(x: Tensor, beta: Tensor, window: Window) -> Tensor:
    """The mean weighted with softmax(beta x); `beta` is a scalar or has one value per channel."""
    backward = (soft_backward, soft_backward_beta)
    return differentiable(choose("soft", x), window, soft_forward, backward, (soft_log_sum,))(x, beta)


def lip_pool(x: Tensor, logits: Tensor, window: Window) -> Tensor:
    """The mean weighted with e^logits; `logits` has the shape of x."""
    backward, stages = (lip_backward, lip_backward_logits), (lip_log_sum, lip_backward)
    return differentiable(choose("lip", x), window, lip_forward, backward, stages)(x, logits)


def soft_forward(view: View, x: Tensor, beta: Tensor) -> Tensor:
    """The mean `sum softmax(beta x) x`."""
    return weighted_mean(view, x, beta * x)


def soft_log_sum(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The logarithm of the sum of each window's exponentials."""
    return log_sum_exp(view, beta * x)


def soft_backward(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor, log_sum: Tensor) -> Tensor:
    """The gradient `dy w (1 + beta (x - y))`."""
    values = view.split(x)
    return gather(view, beta * x, log_sum, dy, y, lambda output: 1 + beta * (values - output))


def soft_backward_beta(view: View, x: Tensor, beta: Tensor, y: Tensor, dy: Tensor, log_sum: Tensor) -> Tensor:
    """The gradient `dy sum w (x - y) x`: the sum is the variance of a window under its weights."""
    pairs = zip(weights(logit_members(view, beta * x), log_sum), view.members(x, 0.0), strict=True)
    return sum_like(beta, dy * reduce(tf.add, [w * (v - y) * v for w, v in pairs]))


def lip_forward(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean `sum softmax(logits) x`."""
    return weighted_mean(view, x, logits)


def lip_log_sum(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The logarithm of the sum of each window's exponentials."""
    return log_sum_exp(view, logits)


def lip_backward(view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor, log_sum: Tensor) -> Tensor:
    """The gradient `dy w`."""
    return gather(view, logits, log_sum, dy, y, lambda output: 1.0)


def lip_backward_logits(
    view: View, x: Tensor, logits: Tensor, y: Tensor, dy: Tensor, log_sum: Tensor, dx: Tensor
) -> Tensor:
    """The gradient `dy w (x - y)`."""
    values = view.split(x)
    if view.overlaps:
        return gather(view, logits, log_sum, dy, y, lambda output: values - output)
    # One window a cell: dx holds the weight already.
    ((numbers, (output,)),) = view.covering(y)
    return view.join(covered(numbers, view.split(dx) * (values - output)))


def logit_members(view: View, logits: Tensor) -> list[Tensor]:
    """The logits of the members; for absent ones a number whose exponential is next to nothing."""
    return view.members(logits, logits.dtype.min)


def largest_of(logits: list[Tensor]) -> Tensor:
    """The largest logit of each window; a finite number for infinity, which is then above it."""
    return tf.minimum(reduce(tf.maximum, logits), logits[0].dtype.max)


def weights(logits: list[Tensor], base: Tensor) -> list[Tensor]:
    """The exponentials e^(g - base), at most 1, of logits that are not above the base unless they are infinite."""
    return [exp(at_most(g - base, 0.0)) for g in logits]


def weighted_mean(view: View, x: Tensor, logits: Tensor) -> Tensor:
    """The mean of the members with weights e^logits."""
    members = logit_members(view, logits)
    exponentials = weights(members, largest_of(members))
    weighted = [w * v for w, v in zip(exponentials, view.members(x, 0.0), strict=True)]
    return reduce(tf.add, weighted) / reduce(tf.add, exponentials)


def log_sum_exp(view: View, logits: Tensor) -> Tensor:
    """The logarithm of the sum of the exponentials of each window."""
    members = logit_members(view, logits)
    largest = largest_of(members)
    return largest + log(reduce(tf.add, weights(members, largest)))


def gather(
    view: View, logits: Tensor, log_sum: Tensor, dy: Tensor, y: Tensor, factor: Callable[[Tensor], Tensor]
) -> Tensor:
    """Sum over the windows of a position of `dy w factor(y)`, where w is its weight in the window."""
    g = view.split(logits)
    cells = [
        # No weight is above 1 but where no window covers the position.
        covered(numbers, gradient * exp(at_most(g - total, 0.0)) * factor(output))
        for numbers, (total, gradient, output) in view.covering(log_sum, dy, y)
    ]
    return view.join(reduce(tf.add, cells))
