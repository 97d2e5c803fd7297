"""Mixtures of maximum and mean: `y = a max + (1 - a) avg` with a learned, or depending on the window.

The maximum has the gradient of max pooling: all of it goes to the first maximum. NaN in a window makes its output
NaN, through the mean, in both forms. Infinity of either sign makes it the same infinity for `0 < a < 1`; at the ends
of that, which the gate reaches when the infinity is in it, it makes NaN.
"""

from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.avg import mean
from custom_ops.kernels.gradient import differentiable, never_compiled
from custom_ops.kernels.max import LOWEST, chosen_one, first_maximum
from custom_ops.kernels.reductions import sum_like, sum_members
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any


def mixed_pool(x: Tensor, alpha: Tensor, window: Window) -> Tensor:
    """Alpha max + (1 - alpha) avg; `alpha` is a scalar or has one value per channel."""
    backward = (mixed_backward, mixed_backward_alpha)
    return differentiable(choose("mixed", x), window, mixed_forward, backward, (mixed_chosen,))(x, alpha)


def gated_pool(x: Tensor, weights: Tensor, window: Window) -> Tensor:
    """A max + (1 - a) avg with a = sigmoid(weights . window); `weights` has channels or 1 last."""
    backward, stages = (gated_backward, gated_backward_weights), (gated_chosen, gated_gate, gated_product)
    return differentiable(choose("gated", x), window, gated_forward, backward, stages)(x, weights)


def maximum(view: View, x: Tensor) -> Tensor:
    """The maximum of the members."""
    return reduce(tf.maximum, view.members(x, LOWEST))


def mix(view: View, x: Tensor, a: Tensor) -> Tensor:
    """The mixture `a max + (1 - a) avg`."""
    return a * maximum(view, x) + (1 - a) * mean(view, x)


def shares(numbers: Any, chosen: Tensor, to_maximum: Tensor, to_each: Tensor) -> Tensor:
    """What the positions of a cell get from a window: all of them something, and the maximum more."""
    return chosen_one(numbers, chosen, to_maximum) + covered(numbers, to_each)


def mixed_forward(view: View, x: Tensor, alpha: Tensor) -> Tensor:
    """The mixture."""
    return mix(view, x, alpha)


def mixed_chosen(view: View, x: Tensor, alpha: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """Which member is the maximum."""
    return first_maximum(view.members(x, LOWEST))


def mixed_backward(view: View, x: Tensor, alpha: Tensor, y: Tensor, dy: Tensor, chosen: Tensor) -> Tensor:
    """The gradient `alpha dy` for the maximum and `(1 - alpha) dy / n` for each member."""
    to_each = (1 - alpha) * dy / view.counts(x.dtype)
    cells = [shares(numbers, *views) for numbers, views in view.covering(chosen, alpha * dy, to_each)]
    return view.join(reduce(tf.add, cells))


def mixed_backward_alpha(view: View, x: Tensor, alpha: Tensor, y: Tensor, dy: Tensor, chosen: Tensor) -> Tensor:
    """The gradient `dy (max - avg)`."""
    return sum_like(alpha, dy * (maximum(view, x) - mean(view, x)))


def gate(view: View, x: Tensor, weights: Tensor) -> Tensor:
    """The gate a = sigmoid(weights . window); absent positions add nothing to the product."""
    pairs = zip(view.per_member(weights), view.members(x, 0.0), strict=True)
    return tf.sigmoid(reduce(tf.add, [w * v for w, v in pairs]))


def gated_forward(view: View, x: Tensor, weights: Tensor) -> Tensor:
    """The mixture, with the gate of each window."""
    return mix(view, x, gate(view, x, weights))


def gated_chosen(view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """Which member is the maximum."""
    return first_maximum(view.members(x, LOWEST))


def gated_gate(view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor, chosen: Tensor) -> Tensor:
    """The gate of each window."""
    return gate(view, x, weights)


def gated_product(view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor, chosen: Tensor, a: Tensor) -> Tensor:
    """The gradient of the product `weights . window`: `dy (max - avg) a (1 - a)`."""
    return dy * (maximum(view, x) - mean(view, x)) * a * (1 - a)


def gated_backward(
    view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor, chosen: Tensor, a: Tensor, product: Tensor
) -> Tensor:
    """The gradient of the input, through the mixture and through the gate."""
    outputs = (chosen, a * dy, (1 - a) * dy / view.counts(x.dtype), product)
    cells = [
        shares(numbers, *views) + covered(numbers, view.weights_at(numbers, weights) * through_gate)
        for numbers, (*views, through_gate) in view.covering(*outputs)
    ]
    return view.join(reduce(tf.add, cells))


@never_compiled
def gated_backward_weights(
    view: View, x: Tensor, weights: Tensor, y: Tensor, dy: Tensor, chosen: Tensor, a: Tensor, product: Tensor
) -> Tensor:
    """The gradient of the weights: each is that of the product times the member."""
    return sum_members(view, x, product, weights)
