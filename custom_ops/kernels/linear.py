"""Weighted means: `y = sum k x / sum k`, with a fixed binomial kernel (blur) or a learned one (separable).

A kernel is `(rows, columns, channels or 1)`. The sum of the weights runs over the positions that are present.
Gradients: `dy/dx = k / sum k` and `dy/dk = (x - y) / sum k`.
NaN makes the outputs of its windows NaN and infinity makes them infinite, in both forms. The gradient of the input
has neither.
"""

import math
from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.arguments import with_shape
from custom_ops.dispatch import choose
from custom_ops.kernels.gradient import accumulator, differentiable, never_compiled
from custom_ops.kernels.reductions import sum_members
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any


def weighted_pool(operator: str, x: Tensor, kernel: Tensor, window: Window) -> Tensor:
    """The mean of each window with the weights `kernel`; `operator` is its name in the dispatch table."""
    form = choose(operator, x)
    if form == "native" and window.strides[0] == window.strides[1]:
        return native(x, kernel, window)
    return differentiable(form, window, forward, (backward, backward_kernel))(x, kernel)


def native(x: Tensor, kernel: Tensor, window: Window) -> Tensor:
    """TensorFlow's depthwise convolution, which knows equal strides only, over the sum of the weights."""
    dtype = accumulator(x.dtype)
    wide, kernel = tf.cast(x, dtype), tf.cast(kernel, dtype)
    filters = tf.broadcast_to(kernel, (*window.size, tf.shape(x)[-1]))[..., None]
    y = tf.nn.depthwise_conv2d(wide, filters, (1, *window.strides, 1), window.padding.upper())
    view = View(window, x)
    # An empty batch comes back with the rows and the columns of the input.
    y = y[:, : view.down.count, : view.across.count]
    return tf.cast(y / total(view, kernel), x.dtype)


def forward(view: View, x: Tensor, kernel: Tensor) -> Tensor:
    """The sum of the weighted members over the sum of the weights."""
    weighted = [k * v for k, v in zip(view.per_member(kernel), view.members(x, 0.0), strict=True)]
    return reduce(tf.add, weighted) / total(view, kernel)


def backward(view: View, x: Tensor, kernel: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy k / sum k`."""
    if view.presence():
        return view.transpose(dy / total(view, kernel), kernel)
    return view.transpose(dy, kernel / total(view, kernel))


@never_compiled
def backward_kernel(view: View, x: Tensor, kernel: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy (x - y) / sum k`, summed over the windows."""
    if view.presence():
        share = dy / total(view, kernel)
        return sum_members(view, x, share, kernel) - sum_members(view, tf.ones_like(x), share * y, kernel)
    # With the same sum of weights everywhere, y is the same sum of x.
    of_x = sum_members(view, x, dy, kernel)
    of_y = tf.reduce_sum(kernel * of_x, (0, 1)) / total(view, kernel)
    return (of_x - of_y) / total(view, kernel)


def total(view: View, kernel: Tensor) -> Tensor:
    """The sum of the weights that are present: `(channels,)`, or `(rows, columns, channels)`."""
    presence = view.presence()
    if not presence:
        return tf.reduce_sum(kernel, (0, 1))
    weights = view.per_member(kernel)
    return tf.add_n([tf.cast(inside, kernel.dtype) * k for inside, k in zip(presence, weights, strict=True)])


def binomial_kernel(size: tuple[int, int], dtype: Any) -> Tensor:
    """The products of two rows of Pascal's triangle: 1 2 1, 2 4 2, 1 2 1 for 3 x 3."""
    rows, columns = ([math.comb(n - 1, k) for k in range(n)] for n in size)
    return tf.constant([[[row * column] for column in columns] for row in rows], accumulator(dtype))


def softmax_kernel(x: Tensor, size: tuple[int, int], row_logits: Any, column_logits: Any | None = None) -> Tensor:
    """The products of softmax(row_logits (rows, channels)) and softmax(column_logits (columns, channels))."""

    def softmax(logits: Any, positions: int, name: str) -> Tensor:
        logits = with_shape(logits, x, (positions, x.shape[-1]), name)
        return tf.nn.softmax(tf.cast(logits, accumulator(x.dtype)), 0)

    rows = softmax(row_logits, size[0], "row_logits")[:, None]
    return rows if column_logits is None else rows * softmax(column_logits, size[1], "column_logits")
