"""Pools over all positions, and to a grid of fixed size. They are plain reductions, so one form does.

NaN in what is averaged gives NaN, infinity gives infinity. Maxima, of which a grid and the pyramid may consist, give
NaN for NaN, but leave it out where XLA compiles them. GeM takes minus infinity as its floor. A score of attention
that is NaN or infinite gives NaN; minus infinity has no weight. K-max takes NaN for any value.
Nothing leaks into other images, channels or cells.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from custom_ops.kernels.gradient import accumulator
from custom_ops.kernels.power import EPSILON
from custom_ops.kernels.views import dimension

Tensor = Any


def spatial_axes(x: Tensor) -> list[int]:
    """All axes between batch and channels."""
    return list(range(1, x.shape.rank - 1))


def global_avg(x: Tensor, keepdims: bool) -> Tensor:
    """The mean over all positions."""
    mean = tf.reduce_mean(tf.cast(x, accumulator(x.dtype)), spatial_axes(x), keepdims)
    return tf.cast(mean, x.dtype)


def global_max(x: Tensor, keepdims: bool) -> Tensor:
    """The maximum over all positions; maxima that are equal share its gradient."""
    return tf.reduce_max(x, spatial_axes(x), keepdims)


def global_gem(x: Tensor, p: Tensor, keepdims: bool) -> Tensor:
    """(mean of max(x, eps)^p)^(1/p), of values over the maximum so that no power overflows."""
    v = tf.maximum(tf.cast(x, accumulator(x.dtype)), EPSILON)
    p = tf.cast(p, v.dtype)
    # The result does not depend on what it is scaled by, so the scale needs no gradient. A finite one: infinity
    # over infinity would be NaN.
    scale = tf.stop_gradient(tf.minimum(tf.reduce_max(v, spatial_axes(x), keepdims=True), v.dtype.max))
    mean = tf.reduce_mean((v / scale) ** p, spatial_axes(x), keepdims=True)
    y = scale * mean ** (1 / p)
    return tf.cast(y if keepdims else tf.squeeze(y, spatial_axes(x)), x.dtype)


def global_attention(x: Tensor, scores: Tensor, keepdims: bool) -> Tensor:
    """The mean over all positions weighted with the softmax of the scores."""
    dtype = accumulator(x.dtype)
    scores = tf.cast(scores, dtype)
    weights = tf.exp(scores - tf.stop_gradient(tf.reduce_max(scores, spatial_axes(x), keepdims=True)))
    weights /= tf.reduce_sum(weights, spatial_axes(x), keepdims=True)
    return tf.cast(tf.reduce_sum(weights * tf.cast(x, dtype), spatial_axes(x), keepdims), x.dtype)


def adaptive(mode: str, x: Tensor, grid: Sequence[int]) -> Tensor:
    """Pools to a fixed grid. Keras's own operation cannot pool to a grid of 1, nor from sizes that are unknown."""
    reduction = tf.reduce_mean if mode == "avg" else tf.reduce_max
    # Every cell of the grid is a rectangle, so one axis after the other gives the same mean and maximum.
    y = tf.cast(x, accumulator(x.dtype))
    for axis, cells in enumerate(grid, start=1):
        y = adaptive_axis(reduction, y, axis, cells)
    return tf.cast(y, x.dtype)


def adaptive_axis(reduction: Callable[..., Tensor], x: Tensor, axis: int, cells: int) -> Tensor:
    """Reduces an axis to `cells` positions; cell a covers floor(a n / cells) to ceil((a + 1) n / cells)."""
    length = dimension(x, axis)
    before = (slice(None),) * axis
    bounds = [(a * length // cells, -(-(a + 1) * length // cells)) for a in range(cells)]
    return tf.stack([reduction(x[(*before, slice(start, stop))], axis) for start, stop in bounds], axis)


def spatial_pyramid(mode: str, x: Tensor, levels: Sequence[int]) -> Tensor:
    """Adaptive pools to square grids, each flattened row by row, side by side."""
    channels = x.shape[-1]
    flat = [tf.reshape(adaptive(mode, x, (n, n)), (-1, n * n * channels)) for n in levels]
    return tf.concat(flat, 1)


def k_max(x: Tensor, k: int) -> Tensor:
    """The k largest steps of each channel, in the order of the steps; of equal ones the first."""
    channels_first = tf.transpose(x, (0, 2, 1))
    steps = tf.sort(tf.math.top_k(channels_first, k).indices)
    return tf.transpose(tf.gather(channels_first, steps, batch_dims=2), (0, 2, 1))
