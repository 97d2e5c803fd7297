"""Median pooling: the middle value of each window, or the mean of the two middle ones.

A sorting network of minima and maxima brings the members into order without a branch: each step is one pass
over whole arrays, and they all fuse. Half of the gradient goes to the first member that equals the lower
middle value, and half to the first that equals the upper one; for an odd number of values they are the same.
NaN in a window gives NaN in the native form, and NaN or a median of other values in the xla form. Infinity is the
largest value there is, and minus infinity the smallest.
"""

import functools
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import choose
from custom_ops.kernels.gradient import differentiable
from custom_ops.kernels.max import NO_MEMBER, compact, route
from custom_ops.kernels.views import View
from custom_ops.window import Window

Tensor = Any
ABSENT = float("inf")  # sorts behind everything


def median_pool(x: Tensor, window: Window) -> Tensor:
    """The median of each window of `x (batch, height, width, channels)`."""
    return differentiable(choose("median", x), window, forward, (backward,))(x)


def forward(view: View, x: Tensor) -> Tensor:
    """The mean of the two middle values."""
    low, high = middle(view, x)
    return low if low is high else 0.5 * low + 0.5 * high


def backward(view: View, x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """Half of the gradient where the lower middle value was, half where the upper one was."""
    members = view.members(x, ABSENT)
    low, high = middle(view, x)
    if low is high:
        return route(view, first_equal(members, low), dy)
    return route(view, first_equal(members, low), 0.5 * dy) + route(view, first_equal(members, high), 0.5 * dy)


def middle(view: View, x: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper middle value of each window, one tensor if the number is always odd."""
    members = view.members(x, ABSENT)
    size = len(members)
    if not view.presence():
        ordered = sort(members, frozenset({(size - 1) // 2, size // 2}))
        return ordered[(size - 1) // 2], ordered[size // 2]
    # At the border fewer values are present, so that the middle lies further ahead.
    ordered = sort(members, frozenset(range(size // 2 + 1)))
    count = view.counts(tf.int32)
    return select(ordered, (count - 1) // 2), select(ordered, count // 2)


def select(ordered: dict[int, Tensor], rank: Tensor) -> Tensor:
    """Picks the value of a rank that differs from window to window."""
    chosen = ordered[0]
    for candidate, value in ordered.items():
        chosen = tf.where(rank == candidate, value, chosen)
    return chosen


def first_equal(members: list[Tensor], value: Tensor) -> Tensor:
    """The number of the first member that equals a value; none does if the value is NaN."""
    number = tf.fill(tf.shape(value), NO_MEMBER)
    for candidate, member in reversed(list(enumerate(members))):
        number = tf.where(member == value, candidate, number)
    return compact(number, len(members))


def sort(members: list[Tensor], ranks: frozenset[int]) -> dict[int, Tensor]:
    """The members of the given ranks (0 for the smallest), by rank."""
    line = list(members)
    for i, j in network(len(members), ranks):
        line[i], line[j] = tf.minimum(line[i], line[j]), tf.maximum(line[i], line[j])
    return {rank: line[rank] for rank in sorted(ranks)}


@functools.cache
def network(size: int, ranks: frozenset[int]) -> list[tuple[int, int]]:
    """Comparisons (i, j) that bring the smaller value to i, and in the end the given ranks to their places.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2 M), without the
    comparisons that the ranks do not depend on.
    """
    comparisons = []
    top = 1 << max(size - 1, 1).bit_length() - 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            comparisons += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    needed, kept = set(ranks), []
    for i, j in reversed(comparisons):
        if i in needed or j in needed:
            needed |= {i, j}
            kept.append((i, j))
    return kept[::-1]
