"""Every pooling operator, as a pure function: defined in `custom_ops.reference`.

All windowed operators take

- `x`: `(batch, height, width, channels)`, or `(batch, steps, channels)` for the 1-D functions, in any type of
  floating point number. Half precision is added up in float32; the output has the type of `x`.
- `pool_size`: an int, or one per spatial axis.
- `strides`: the same; `None` means `pool_size`.
- `padding`: `"valid"` or `"same"`. In same padding the positions outside the image are absent, they are no
  zeros: averages and learned weights are renormalised over the rest.

and return `(batch, out_height, out_width, channels)` or `(batch, out_steps, channels)`. Parameters follow the
input and have gradients. A mistake raises `ValueError`. Each operator has two forms, and
`custom_ops.dispatch` tells which of them runs.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from custom_ops.arguments import (
    attention_scores,
    check_input,
    check_p,
    check_seed,
    gate_weights,
    per_channel,
    with_shape,
)
from custom_ops.kernels import global_pool
from custom_ops.kernels.avg import avg_pool
from custom_ops.kernels.linear import binomial_kernel, softmax_kernel, weighted_pool
from custom_ops.kernels.max import max_pool
from custom_ops.kernels.median import median_pool
from custom_ops.kernels.mixed import gated_pool, mixed_pool
from custom_ops.kernels.power import gem_pool, lp_pool
from custom_ops.kernels.soft import lip_pool, soft_pool
from custom_ops.kernels.stochastic import stochastic_pool
from custom_ops.window import Window, check_choice, check_levels, make_window, positive_ints

Tensor = Any
Ints = int | Sequence[int]


def _image(rank: int, x: Any, size: Ints, strides: Ints | None, padding: str) -> tuple[Tensor, Window]:
    """The checked input and window; steps become the rows of an image that is one column wide."""
    window = make_window(size, strides, padding, rank)
    x = check_input(x, rank)
    image = x if rank == 2 else _column(x)
    window.output_shape(*image.shape[1:3])  # raises where no window fits
    return image, window


def _column(steps: Tensor) -> Tensor:
    """Steps as an image that is one column wide."""
    return tf.expand_dims(steps, 2)


def _steps(image: Tensor) -> Tensor:
    """The steps that stand in an image that is one column wide."""
    return tf.squeeze(image, 2)


# ------------------------------------------------------------------------------------------------ windowed


def max_pool1d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The largest value of each window; its first maximum gets the gradient."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(max_pool(x, window))


def max_pool2d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The largest value of each window; its first maximum gets the gradient."""
    x, window = _image(2, x, pool_size, strides, padding)
    return max_pool(x, window)


def avg_pool1d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The mean of each window."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(avg_pool(x, window))


def avg_pool2d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The mean of each window."""
    x, window = _image(2, x, pool_size, strides, padding)
    return avg_pool(x, window)


def lp_pool1d(x: Any, p: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The norm `(sum abs(x)^p)^(1/p)`; `p >= 1` is a scalar or per channel (Sermanet et al. 2012)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(lp_pool(x, per_channel(check_p(p), x, "p"), window))


def lp_pool2d(x: Any, p: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The norm `(sum abs(x)^p)^(1/p)`; `p >= 1` is a scalar or per channel (Sermanet et al. 2012)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return lp_pool(x, per_channel(check_p(p), x, "p"), window)


def gem_pool1d(x: Any, p: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The generalised mean `(mean max(x, 1e-6)^p)^(1/p)`; `p` as in `lp` (Radenovic et al. 2017)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(gem_pool(x, per_channel(check_p(p), x, "p"), window))


def gem_pool2d(x: Any, p: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The generalised mean `(mean max(x, 1e-6)^p)^(1/p)`; `p` as in `lp` (Radenovic et al. 2017)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return gem_pool(x, per_channel(check_p(p), x, "p"), window)


def soft_pool1d(
    x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid", beta: Any = 1.0
) -> Tensor:
    """The mean weighted with softmax(beta x); `beta` is a scalar or per channel (Stergiou et al. 2021)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(soft_pool(x, per_channel(beta, x, "beta"), window))


def soft_pool2d(
    x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid", beta: Any = 1.0
) -> Tensor:
    """The mean weighted with softmax(beta x); `beta` is a scalar or per channel (Stergiou et al. 2021)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return soft_pool(x, per_channel(beta, x, "beta"), window)


def lip_pool1d(x: Any, logits: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The mean weighted with e^logits, which have the shape of `x` (Gao et al. 2019)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(lip_pool(x, with_shape(_column(tf.convert_to_tensor(logits)), x, x.shape, "logits"), window))


def lip_pool2d(x: Any, logits: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The mean weighted with e^logits, which have the shape of `x` (Gao et al. 2019)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return lip_pool(x, with_shape(logits, x, x.shape, "logits"), window)


def mixed_pool1d(
    x: Any, alpha: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The mixture `alpha max + (1 - alpha) avg`; `alpha` is a scalar or per channel (Lee et al. 2016)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(mixed_pool(x, per_channel(alpha, x, "alpha"), window))


def mixed_pool2d(
    x: Any, alpha: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The mixture `alpha max + (1 - alpha) avg`; `alpha` is a scalar or per channel (Lee et al. 2016)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return mixed_pool(x, per_channel(alpha, x, "alpha"), window)


def gated_pool1d(
    x: Any, weights: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The mixture with `alpha = sigmoid(weights . window)`; `weights` is `(steps[, channels])`."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(gated_pool(x, gate_weights(weights, x, window.size), window))


def gated_pool2d(
    x: Any, weights: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The mixture with `alpha = sigmoid(weights . window)`; `weights` is `(rows, columns[, channels])`."""
    x, window = _image(2, x, pool_size, strides, padding)
    return gated_pool(x, gate_weights(weights, x, window.size), window)


def stochastic_pool1d(
    x: Any,
    seed: Any,
    training: bool,
    pool_size: Ints = 2,
    strides: Ints | None = None,
    padding: str = "valid",
) -> Tensor:
    """Draws max(x, 0) with a probability in proportion to it, or takes its mean (Zeiler and Fergus 2013)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(stochastic_pool(x, check_seed(seed), training, window))


def stochastic_pool2d(
    x: Any,
    seed: Any,
    training: bool,
    pool_size: Ints = 2,
    strides: Ints | None = None,
    padding: str = "valid",
) -> Tensor:
    """Draws max(x, 0) with a probability in proportion to it, or takes its mean (Zeiler and Fergus 2013)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return stochastic_pool(x, check_seed(seed), training, window)


def blur_pool1d(x: Any, pool_size: Ints = 3, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """A binomial filter of `pool_size`, then every stride-th value (Zhang 2019)."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(weighted_pool("blur", x, binomial_kernel(window.size, x.dtype), window))


def blur_pool2d(x: Any, pool_size: Ints = 3, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """A binomial filter of `pool_size`, then every stride-th value (Zhang 2019)."""
    x, window = _image(2, x, pool_size, strides, padding)
    return weighted_pool("blur", x, binomial_kernel(window.size, x.dtype), window)


def max_blur_pool1d(
    x: Any, pool_size: Ints = 2, filter_size: Ints = 3, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The maximum at every position, a binomial filter, then every stride-th value (Zhang 2019)."""
    dense = max_pool1d(x, pool_size, 1, padding)
    return blur_pool1d(dense, filter_size, pool_size if strides is None else strides, padding)


def max_blur_pool2d(
    x: Any, pool_size: Ints = 2, filter_size: Ints = 3, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The maximum at every position, a binomial filter, then every stride-th value (Zhang 2019)."""
    dense = max_pool2d(x, pool_size, 1, padding)
    return blur_pool2d(dense, filter_size, pool_size if strides is None else strides, padding)


def separable_pool1d(
    x: Any, logits: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid"
) -> Tensor:
    """The mean weighted with softmax(logits), `(steps, channels)`."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(weighted_pool("separable", x, softmax_kernel(x, window.size, logits), window))


def separable_pool2d(
    x: Any,
    row_logits: Any,
    column_logits: Any,
    pool_size: Ints = 2,
    strides: Ints | None = None,
    padding: str = "valid",
) -> Tensor:
    """The mean weighted with softmax(row_logits) softmax(column_logits), `(rows or columns, channels)`."""
    x, window = _image(2, x, pool_size, strides, padding)
    return weighted_pool("separable", x, softmax_kernel(x, window.size, row_logits, column_logits), window)


def median_pool1d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The median of each window."""
    x, window = _image(1, x, pool_size, strides, padding)
    return _steps(median_pool(x, window))


def median_pool2d(x: Any, pool_size: Ints = 2, strides: Ints | None = None, padding: str = "valid") -> Tensor:
    """The median of each window."""
    x, window = _image(2, x, pool_size, strides, padding)
    return median_pool(x, window)


# ------------------------------------------------------------------------------------ global and dynamic

# The global ones return `(batch, channels)`; with `keepdims`, and ones for the axes that were pooled.


def global_avg_pool1d(x: Any, keepdims: bool = False) -> Tensor:
    """The mean over all positions."""
    return global_pool.global_avg(check_input(x, 1), keepdims)


def global_avg_pool2d(x: Any, keepdims: bool = False) -> Tensor:
    """The mean over all positions."""
    return global_pool.global_avg(check_input(x, 2), keepdims)


def global_max_pool1d(x: Any, keepdims: bool = False) -> Tensor:
    """The maximum over all positions; equal maxima share its gradient."""
    return global_pool.global_max(check_input(x, 1), keepdims)


def global_max_pool2d(x: Any, keepdims: bool = False) -> Tensor:
    """The maximum over all positions; equal maxima share its gradient."""
    return global_pool.global_max(check_input(x, 2), keepdims)


def global_avg_max_pool1d(x: Any, keepdims: bool = False) -> Tensor:
    """The mean, then the maximum: `2 * channels` values."""
    return tf.concat([global_avg_pool1d(x, keepdims), global_max_pool1d(x, keepdims)], -1)


def global_avg_max_pool2d(x: Any, keepdims: bool = False) -> Tensor:
    """The mean, then the maximum: `2 * channels` values."""
    return tf.concat([global_avg_pool2d(x, keepdims), global_max_pool2d(x, keepdims)], -1)


def global_gem_pool1d(x: Any, p: Any, keepdims: bool = False) -> Tensor:
    """The generalised mean over all positions; `p >= 1` is a scalar or per channel."""
    x = check_input(x, 1)
    return global_pool.global_gem(x, per_channel(check_p(p), x, "p"), keepdims)


def global_gem_pool2d(x: Any, p: Any, keepdims: bool = False) -> Tensor:
    """The generalised mean over all positions; `p >= 1` is a scalar or per channel."""
    x = check_input(x, 2)
    return global_pool.global_gem(x, per_channel(check_p(p), x, "p"), keepdims)


def global_attention_pool1d(x: Any, scores: Any, keepdims: bool = False) -> Tensor:
    """The mean weighted with the softmax over positions of `scores`, with 1 or all channels."""
    x = check_input(x, 1)
    return global_pool.global_attention(x, attention_scores(scores, x), keepdims)


def global_attention_pool2d(x: Any, scores: Any, keepdims: bool = False) -> Tensor:
    """The mean weighted with the softmax over positions of `scores`, with 1 or all channels."""
    x = check_input(x, 2)
    return global_pool.global_attention(x, attention_scores(scores, x), keepdims)


def adaptive_avg_pool1d(x: Any, output_size: Ints) -> Tensor:
    """The mean of each cell of a grid of `output_size` steps, from an input of any size."""
    return global_pool.adaptive("avg", check_input(x, 1), positive_ints(output_size, 1, "output_size"))


def adaptive_avg_pool2d(x: Any, output_size: Ints) -> Tensor:
    """The mean of each cell of a grid of `output_size` (rows, columns), from an input of any size."""
    return global_pool.adaptive("avg", check_input(x, 2), positive_ints(output_size, 2, "output_size"))


def adaptive_max_pool1d(x: Any, output_size: Ints) -> Tensor:
    """The maximum of each cell of a grid of `output_size` steps, from an input of any size."""
    return global_pool.adaptive("max", check_input(x, 1), positive_ints(output_size, 1, "output_size"))


def adaptive_max_pool2d(x: Any, output_size: Ints) -> Tensor:
    """The maximum of each cell of a grid of `output_size` (rows, columns), from an input of any size."""
    return global_pool.adaptive("max", check_input(x, 2), positive_ints(output_size, 2, "output_size"))


def spatial_pyramid_pool2d(x: Any, levels: Sequence[int] = (1, 2, 4), mode: str = "max") -> Tensor:
    """Adaptive pools to `n x n` for each level n, flattened: `(batch, sum n^2 channels)` (He et al. 2014)."""
    check_choice(mode, ("avg", "max"), "mode")
    return global_pool.spatial_pyramid(mode, check_input(x, 2), check_levels(levels))


def k_max_pool1d(x: Any, k: int) -> Tensor:
    """The k largest steps of each channel, in the order of the steps (Kalchbrenner et al. 2014)."""
    (k,) = positive_ints(k, 1, "k")
    x = check_input(x, 1)
    if x.shape[1] is not None and x.shape[1] < k:
        raise ValueError(f"`k` must be at most the number of steps, {x.shape[1]}. Received: k={k}")
    return global_pool.k_max(x, k)
