"""Power means: lp pooling `(sum abs(x)^p)^(1/p)` and GeM pooling `(mean max(x, eps)^p)^(1/p)`.

Both are `log y = m + log(sum e^(p (log v - m)) / n) / p` of non-negative numbers v with the largest logarithm m,
where n is 1 or the number of positions. Taking m out keeps every power between 0 and 1, so nothing overflows
however large p or x are. (XLA's own `pow` takes 13 times as long as copying the input.)

Gradients: `dy/dv = (v / y)^(p - 1) / n`, and `dy/dp = y / p sum w log(v / y)` with weights `w = (v / y)^p /
n`. A zero has no part in either, so that lp has the gradient 0 at 0, for p = 1 as well.

NaN makes the outputs of its windows NaN, and infinity makes them infinite, in both forms; minus infinity is
infinity to lp and the floor to GeM. Such windows have no gradient, or NaN. The sum of a window counts as infinite
from 3.4e38.
"""

import math
from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.fast_math import at_least, exp, log
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.reductions import sum_like
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any
EPSILON = 1e-6  # the floor of GeM, as in its authors' code
TINY = 1e-37  # stands for zero under a logarithm
INFINITY = float("inf")


def lp_pool(x: Tensor, p: Tensor, window: Window) -> Tensor:
    """The p-norm of each window; `p >= 1` is a scalar or has one value per channel."""
    return differentiable(choose("lp", x), window, lp_forward, (lp_backward, lp_backward_p))(x, p)


def gem_pool(x: Tensor, p: Tensor, window: Window) -> Tensor:
    """The generalised mean of each window; `p` is a scalar or has one value per channel."""
    return differentiable(choose("gem", x), window, gem_forward, (gem_backward, gem_backward_p))(x, p)


def lp_forward(view: View, x: Tensor, p: Tensor) -> Tensor:
    """The norm `(sum abs(x)^p)^(1/p)`."""
    return power_mean(view.members(tf.abs(x), 0.0), p, 1.0)


def gem_forward(view: View, x: Tensor, p: Tensor) -> Tensor:
    """The mean `(mean max(x, eps)^p)^(1/p)`."""
    return power_mean(view.members(at_least(x, EPSILON), 0.0), p, view.counts(x.dtype))


def lp_backward(view: View, x: Tensor, p: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy sign(x) (abs(x) / y)^(p - 1)`."""
    return tf.sign(x) * share(view, tf.abs(x), p, y, dy)


def gem_backward(view: View, x: Tensor, p: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy / n (x / y)^(p - 1)`, where x is above the floor."""
    gradient = share(view, at_least(x, EPSILON), p, y, dy / view.counts(x.dtype))
    return tf.where(x > EPSILON, gradient, 0.0)


def lp_backward_p(view: View, x: Tensor, p: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient of p; zeros have no part in it."""
    return sum_like(p, exponent_gradient(view.members(tf.abs(x), 0.0), p, y, dy, 1.0))


def gem_backward_p(view: View, x: Tensor, p: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient of p."""
    members = view.members(at_least(x, EPSILON), 0.0)
    return sum_like(p, exponent_gradient(members, p, y, dy, view.counts(x.dtype)))


def power_mean(members: list[Tensor], p: Tensor, count: Any) -> Tensor:
    """The mean `(sum v^p / count)^(1/p)` of non-negative members; zeros, and so absent ones, add next to nothing."""
    logs = [safe_log(v) for v in members]
    largest = reduce(tf.maximum, logs)
    total = reduce(tf.add, [exp(p * (log_v - largest)) for log_v in logs])
    # Zeros, infinity and NaN are what they add up to.
    plain_sum = reduce(tf.add, members)
    return tf.where((plain_sum > 0) & (plain_sum < INFINITY), exp(largest + log(total / count) / p), plain_sum)


def safe_log(v: Tensor) -> Tensor:
    """The logarithm, with a number instead of minus infinity for zero."""
    return log(tf.maximum(v, TINY))


def share(view: View, v: Tensor, p: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """Sum over the windows of a position of `dy (v / y)^(p - 1)`."""
    log_v, log_y = view.split(safe_log(v)), safe_log(y)
    # No power is above the number of positions, except where no window stands: infinity times zero would be NaN.
    limit = math.log(view.window.positions)
    cells = [
        covered(numbers, g * exp(tf.minimum((p - 1) * (log_v - log_of_window), limit)))
        for numbers, (log_of_window, g) in view.covering(log_y, tf.where(y > 0, dy, 0.0))
    ]
    return view.join(reduce(tf.add, cells))


def exponent_gradient(members: list[Tensor], p: Tensor, y: Tensor, dy: Tensor, count: Any) -> Tensor:
    """The gradient `dy y / p sum w log(v / y)`, per window."""
    log_y = safe_log(y)
    ratios = [safe_log(v) - log_y for v in members]
    return dy * y / p / count * reduce(tf.add, [exp(p * ratio) * ratio for ratio in ratios])
