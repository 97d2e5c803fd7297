"""Stochastic pooling: training draws a value x with probability `x / sum x`, inference takes its mean.

Negative values count as zero, and a window of zeros gives zero. The whole gradient goes to the value that was
drawn. The number that decides is a hash of the seed and of the output's index, so the draw is the same
eagerly, in a graph and under XLA, and the backward pass repeats it instead of storing it.

In both forms NaN in a window gives NaN, infinity is drawn for certain and is the mean, and minus infinity counts as
zero.
"""

from functools import reduce
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.fast_math import at_least, at_most
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.max import NO_MEMBER, compact, route
from custom_ops.kernels.views import View, covered
from custom_ops.window import Window

Tensor = Any


def stochastic_pool(x: Tensor, seed: Tensor, training: bool, window: Window) -> Tensor:
    """Draws, or averages; `seed` holds two int32 numbers."""
    form = choose("stochastic", x)
    if training:
        return differentiable(form, window, draw_forward, (draw_backward, None))(x, seed)
    return differentiable(form, window, mean_forward, (mean_backward,))(x)


def draw_forward(view: View, x: Tensor, seed: Tensor) -> Tensor:
    """The value that was drawn."""
    members = view.members(at_least(x, 0.0), 0.0)
    # Nothing is drawn from zeros, nor from NaN: there the sum stays, which is the same.
    drawn, value = draw(members, seed), reduce(tf.add, members)
    for candidate, member in enumerate(members):
        value = tf.where(drawn == candidate, member, value)
    return value


def draw_backward(view: View, x: Tensor, seed: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient, where the drawn value was."""
    return route(view, draw(view.members(at_least(x, 0.0), 0.0), seed), dy)


def mean_forward(view: View, x: Tensor) -> Tensor:
    """The mean `sum x^2 / sum x`."""
    members = view.members(at_least(x, 0.0), 0.0)
    return reduce(tf.add, [v * v for v in members]) / positive_sum(members)


def mean_backward(view: View, x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The gradient `dy (2 x - y) / sum x` where x is positive."""
    share = dy / positive_sum(view.members(at_least(x, 0.0), 0.0))
    values = view.split(x)
    cells = [covered(numbers, g * (2 * values - output)) for numbers, (g, output) in view.covering(share, y)]
    return tf.where(x > 0, view.join(reduce(tf.add, cells)), 0.0)


def positive_sum(members: list[Tensor]) -> Tensor:
    """The sum of non-negative members, or 1 where it is zero and divides zeros; finite, so that infinity over it is."""
    total = at_most(reduce(tf.add, members), members[0].dtype.max)
    return tf.where(total == 0, tf.ones([], total.dtype), total)


def draw(members: list[Tensor], seed: Tensor) -> Tensor:
    """The first member at which the running sum passes a random part of the sum; none if that is zero or NaN."""
    sums = [members[0]]
    for member in members[1:]:
        sums.append(sums[-1] + member)
    threshold = uniform(tf.shape(members[0]), seed, members[0].dtype) * at_most(sums[-1], members[0].dtype.max)
    drawn = tf.fill(tf.shape(threshold), NO_MEMBER)
    for candidate, running in reversed(list(enumerate(sums))):
        drawn = tf.where(running > threshold, candidate, drawn)
    return compact(drawn, len(members))


def uniform(shape: Tensor, seed: Tensor, dtype: Any) -> Tensor:
    """Numbers in [0, 1) with 23 random bits, a function of the index and of the seed `(2,)`.

    TensorFlow's generators either differ between their implementations or take longer than the pooling.
    Mixing the key in twice is needed: with the seed just added to the index, neighbouring seeds were
    correlated by -0.11.
    """
    words = tf.bitcast(tf.cast(seed, tf.int32), tf.uint32)
    first = scramble(words[0] + number(0x9E3779B9))
    second = scramble(tf.bitwise.bitwise_xor(words[1] + number(0x85EBCA6B), first))
    index = tf.bitcast(tf.reshape(tf.range(tf.reduce_prod(shape)), shape), tf.uint32)
    bits = scramble(scramble(tf.bitwise.bitwise_xor(index, first)) + second)
    # The bits as the fraction of a float between 1 and 2.
    fraction = tf.bitwise.bitwise_or(tf.bitwise.right_shift(bits, number(9)), number(0x3F800000))
    return tf.cast(tf.bitcast(fraction, tf.float32) - 1.0, dtype)


def scramble(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which each bit changes half of them (lowbias32 of C. Wellons)."""
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, number(16))) * number(0x7FEB352D)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, number(15))) * number(0x846CA68B)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, number(16)))


def number(value: int) -> Tensor:
    """An unsigned constant; TensorFlow converts plain ints to signed ones."""
    return tf.constant(value, tf.uint32)
