"""Mixtures of maximum and mean: `y = avg + a (max - avg)` with a learned, or depending on the window.

The maximum has the gradient of max pooling: all of it goes to the first maximum. NaN and infinity in the
input make the outputs of their windows NaN or infinite, or leave out the maximum's part where max pooling
drops a NaN.
"""

from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.avg import mean, spread
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.max import LOWEST, first_maximum, route
from custom_ops.kernels.reductions import sum_like, sum_members
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any


def mixed_pool(x: Tensor, alpha: Tensor, window: Window) -> Tensor:
    """Alpha max + (1 - alpha) avg; `alpha` is a scalar or has one value per channel."""
    return differentiable(choose("mixed", x), mixed_forward, (mixed_backward, mixed_backward_alpha), window)(
        x, alpha
    )


def gated_pool(x: Tensor, weights: Tensor, window: Window) -> Tensor:
    """A max + (1 - a) avg with a = sigmoid(weights . window); `weights` has channels or 1 last."""
    return differentiable(
        choose("gated", x), gated_forward, (gated_backward, gated_backward_weights), window
    )(x, weights)


def maximum(view: View, x: Tensor) -> Tensor:
    """The maximum of the members."""
    return reduce(tf.maximum, view.members(x, LOWEST))


def mix(view: View, x: Tensor, a: Tensor) -> Tensor:
    """The mixture `avg + a (max - avg)`."""
    average = mean(view, x)
    return average + a * (maximum(view, x) - average)


def unmix(view: View, x: Tensor, a: Tensor, dy: Tensor) -> Tensor:
    """The gradient of a mixture with a fixed a: its shares of a maximum and of a mean."""
    to_maximum = route(view, first_maximum(view.members(x, LOWEST)), a * dy)
    return to_maximum + spread(view, (1 - a) * dy / view.counts(x.dtype))


def mixed_forward(view: View, x: Tensor, alpha: Tensor) -> Tensor:
    """The mixture."""
    return mix(view, x, alpha)


def mixed_backward(view: View, x: Tensor, alpha: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient of the input."""
    return unmix(view, x, alpha, dy)


def mixed_backward_alpha(view: View, x: Tensor, alpha: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy (max - avg)`."""
    return sum_like(alpha, dy * (maximum(view, x) - mean(view, x)))


def gate(view: View, x: Tensor, weights: Tensor) -> Tensor:
    """The gate a = sigmoid(weights . window); absent positions add nothing to the product."""
    members, per_member = view.members(x, 0.0), view.per_member(weights)
    return tf.sigmoid(reduce(tf.add, [w * v for w, v in zip(per_member, members, strict=True)]))


def gated_forward(view: View, x: Tensor, weights: Tensor) -> Tensor:
    """The mixture, with the gate of each window."""
    return mix(view, x, gate(view, x, weights))


def gate_gradient(view: View, x: Tensor, a: Tensor, dy: Tensor) -> Tensor:
    """The gradient of `weights . window`: `dy (max - avg) a (1 - a)`."""
    return dy * (maximum(view, x) - mean(view, x)) * a * (1 - a)


def gated_backward(view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient of the input, through the mixture and through the gate."""
    a = gate(view, x, weights)
    return unmix(view, x, a, dy) + view.transpose(gate_gradient(view, x, a, dy), weights)


def gated_backward_weights(view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient of the weights: each is that of the product times the member."""
    return sum_members(view, x, gate_gradient(view, x, gate(view, x, weights), dy), weights)
