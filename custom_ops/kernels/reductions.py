"""Sums over all positions, for the gradients of parameters."""

from typing import Any

import tensorflow as tf

from custom_ops.dispatch import xla_is_compiling
from custom_ops.kernels.views import View

Tensor = Any


def sum_like(parameter: Tensor, x: Tensor) -> Tensor:
    """Sums over batch, rows and columns, to the shape of a parameter: `()`, `(1,)` or `(channels,)`.

    The sum over the positions is a product with a vector of ones: XLA on CPU fuses a plain sum into the loop
    that makes `x`, which then runs one number at a time.
    """
    rows = tf.reshape(x, (-1, x.shape[-1]))
    per_channel = tf.linalg.matvec(rows, tf.ones(tf.shape(rows)[:1], x.dtype), transpose_a=True)
    if parameter.shape.rank == 1 and parameter.shape[0] != 1:
        return per_channel
    return tf.reshape(tf.reduce_sum(per_channel), parameter.shape)


def sum_members(view: View, x: Tensor, dy: Tensor, kernel: Tensor) -> Tensor:
    """For each member the sum over all windows of the member times dy, in the shape of `kernel`.

    It is the gradient of a depthwise convolution's filter, for which TensorFlow has a kernel (for equal
    strides) that is faster than what XLA makes of the formula, and very slow where XLA compiles it.
    """
    if view.window.strides[0] == view.window.strides[1] and not xla_is_compiling():
        return sum_members_natively(view, x, dy, kernel)
    sums = [sum_like(kernel[0, 0], member * dy) for member in view.members(x, 0.0)]
    return tf.reshape(tf.stack(sums), tf.shape(kernel))


def sum_members_natively(view: View, x: Tensor, dy: Tensor, kernel: Tensor) -> Tensor:
    """The same with TensorFlow's kernel."""
    sums = tf.nn.depthwise_conv2d_backprop_filter(
        x, (*view.window.size, x.shape[-1], 1), dy, (1, *view.window.strides, 1), view.window.padding.upper()
    )[..., 0]
    return sums if kernel.shape[-1] == sums.shape[-1] else tf.reduce_sum(sums, -1, keepdims=True)
