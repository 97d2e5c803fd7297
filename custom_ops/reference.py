"""The definition of every operator, in plain NumPy loops: slow, obvious, and what the tests compare with.

Read it as the textbook of this package. `pool2d` slides a window over an image and hands the positions that
it covers to a function of one window; each operator is such a function. Outside positions are absent: they
are left out of the list, so that no average counts them. All arithmetic is in float64.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Padding = str
Pair = tuple[int, int]


# ---------------------------------------------------------------------------------------------- windows


def output_size(length: int, size: int, stride: int, padding: Padding) -> int:
    """Number of windows along an axis of `length` positions.

    Valid: the last window starts at `length - size` at the latest, so `floor((length - size) / stride) + 1`.
    Same: one window for every stride that was begun, so `ceil(length / stride)`.
    """
    if padding == "valid":
        return (length - size) // stride + 1
    return -(-length // stride)


def first_position(length: int, size: int, stride: int, padding: Padding) -> int:
    """Where the first window starts: 0, or before the input (negative) in same padding."""
    if padding == "valid":
        return 0
    covered = (output_size(length, size, stride, padding) - 1) * stride + size
    return -(max(covered - length, 0) // 2)


def positions(index: int, length: int, size: int, stride: int, padding: Padding) -> list[tuple[int, int]]:
    """The present positions of window `index`, each as (offset in the window, position in the input)."""
    start = first_position(length, size, stride, padding) + index * stride
    return [(offset, start + offset) for offset in range(size) if 0 <= start + offset < length]


def pool2d(x: Array, size: Pair, strides: Pair, padding: Padding, function: Callable[..., float]) -> Array:
    """Slides a window over `x (batch, height, width, channels)` and applies `function` to each.

    `function(where, values, rows, columns)` gets the index `where = (n, a, b, c)` of the output it computes,
    the values that are present in the window, and the row and the column of each within the window.
    """
    batch, height, width, channels = x.shape
    out_height = output_size(height, size[0], strides[0], padding)
    out_width = output_size(width, size[1], strides[1], padding)
    y = np.zeros((batch, out_height, out_width, channels))
    for n in range(batch):
        for a in range(out_height):
            for b in range(out_width):
                rows = positions(a, height, size[0], strides[0], padding)
                columns = positions(b, width, size[1], strides[1], padding)
                covered = [(i, j, r, c) for i, r in rows for j, c in columns]
                row_offsets = np.array([i for i, _, _, _ in covered])
                column_offsets = np.array([j for _, j, _, _ in covered])
                for channel in range(channels):
                    values = np.array([x[n, r, c, channel] for _, _, r, c in covered], np.float64)
                    y[n, a, b, channel] = function((n, a, b, channel), values, row_offsets, column_offsets)
    return y


# ----------------------------------------------------------------------------------- functions of one window


def softmax(values: Array) -> Array:
    """exp(v) / sum(exp(v)), with the largest subtracted first so that nothing overflows."""
    e = np.exp(values - values.max())
    return e / e.sum()


def lp(values: Array, p: float) -> float:
    """(sum of abs(v)^p)^(1/p)."""
    largest = np.abs(values).max()
    if largest == 0:
        return 0.0
    return float(largest * (np.abs(values / largest) ** p).sum() ** (1 / p))


def gem(values: Array, p: float, epsilon: float = 1e-6) -> float:
    """(mean of max(v, epsilon)^p)^(1/p)."""
    floored = np.maximum(values, epsilon)
    largest = floored.max()
    return float(largest * ((floored / largest) ** p).mean() ** (1 / p))


def stochastic_mean(values: Array) -> float:
    """What stochastic pooling expects to draw: sum of v^2 over sum of v, for the positive part of v."""
    positive = np.maximum(values, 0)
    return float((positive**2).sum() / positive.sum()) if positive.sum() > 0 else 0.0


def binomial(size: int) -> Array:
    """Row `size - 1` of Pascal's triangle: 1 2 1 for 3, 1 4 6 4 1 for 5."""
    row = np.ones(1)
    for _ in range(size - 1):
        row = np.convolve(row, [1.0, 1.0])
    return row


# ------------------------------------------------------------------------------------------- operators


def max_pool2d(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The largest value of each window."""
    return pool2d(x, size, strides, padding, lambda where, v, i, j: v.max())


def avg_pool2d(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mean of the positions that are present."""
    return pool2d(x, size, strides, padding, lambda where, v, i, j: v.mean())


def lp_pool2d(x: Array, p: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The p-norm of each window; `p` is a scalar or has one value per channel."""
    p = np.broadcast_to(p, x.shape[-1:])
    return pool2d(x, size, strides, padding, lambda where, v, i, j: lp(v, p[where[3]]))


def gem_pool2d(x: Array, p: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The generalised mean of each window; `p` is a scalar or has one value per channel."""
    p = np.broadcast_to(p, x.shape[-1:])
    return pool2d(x, size, strides, padding, lambda where, v, i, j: gem(v, p[where[3]]))


def soft_pool2d(x: Array, beta: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mean weighted with softmax(beta x); `beta` is a scalar or has one value per channel."""
    beta = np.broadcast_to(beta, x.shape[-1:])
    return pool2d(x, size, strides, padding, lambda where, v, i, j: (softmax(beta[where[3]] * v) * v).sum())


def lip_pool2d(x: Array, logits: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mean weighted with e^logits, which are given per position."""
    height, width = x.shape[1:3]

    def importance(where: tuple[int, ...], values: Array, i: Array, j: Array) -> float:
        n, a, b, channel = where
        rows = first_position(height, size[0], strides[0], padding) + a * strides[0] + i
        columns = first_position(width, size[1], strides[1], padding) + b * strides[1] + j
        return float((softmax(logits[n, rows, columns, channel]) * values).sum())

    return pool2d(x, size, strides, padding, importance)


def mixed_pool2d(x: Array, alpha: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mixture alpha max + (1 - alpha) avg; `alpha` is a scalar or has one value per channel."""
    alpha = np.broadcast_to(alpha, x.shape[-1:])

    def mix(where: tuple[int, ...], values: Array, i: Array, j: Array) -> float:
        a = alpha[where[3]]
        return float(a * values.max() + (1 - a) * values.mean())

    return pool2d(x, size, strides, padding, mix)


def gated_pool2d(x: Array, weights: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mixture a max + (1 - a) avg with a = sigmoid(weights . window); the weights may have channels."""
    weights = np.broadcast_to(weights.reshape((*size, -1)), (*size, x.shape[-1]))

    def gate(where: tuple[int, ...], values: Array, i: Array, j: Array) -> float:
        a = 1 / (1 + np.exp(-(weights[i, j, where[3]] * values).sum()))
        return float(a * values.max() + (1 - a) * values.mean())

    return pool2d(x, size, strides, padding, gate)


def stochastic_pool2d(x: Array, draw: Array | None, size: Pair, strides: Pair, padding: Padding) -> Array:
    """Draws v with probability v / sum(v); `draw` is a number in [0, 1) per output, or None at inference."""
    if draw is None:
        return pool2d(x, size, strides, padding, lambda where, v, i, j: stochastic_mean(v))

    def pick(where: tuple[int, ...], values: Array, i: Array, j: Array) -> float:
        positive = np.maximum(values, 0)
        passed = np.cumsum(positive) > draw[where] * positive.sum()
        return float(positive[passed.argmax()]) if passed.any() else 0.0

    return pool2d(x, size, strides, padding, pick)


def weighted_pool2d(x: Array, weights: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The mean with given `weights (rows, columns, channels)`, renormalised over those present."""

    def mean(where: tuple[int, ...], values: Array, i: Array, j: Array) -> float:
        present = weights[i, j, where[3]]
        return float((present * values).sum() / present.sum())

    return pool2d(x, size, strides, padding, mean)


def blur_pool2d(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """A binomial filter, then every stride-th value."""
    weights = np.outer(binomial(size[0]), binomial(size[1]))
    return weighted_pool2d(x, np.repeat(weights[:, :, None], x.shape[-1], 2), size, strides, padding)


def max_blur_pool2d(x: Array, size: Pair, filter_size: Pair, strides: Pair, padding: Padding) -> Array:
    """The maximum at every position, then a binomial filter, then every stride-th value."""
    return blur_pool2d(max_pool2d(x, size, (1, 1), padding), filter_size, strides, padding)


def separable_pool2d(
    x: Array, row_logits: Array, column_logits: Array, size: Pair, strides: Pair, padding: Padding
) -> Array:
    """The mean weighted with softmax(row_logits) times softmax(column_logits), each (positions, channels)."""
    rows = np.stack([softmax(channel) for channel in row_logits.T], -1)
    columns = np.stack([softmax(channel) for channel in column_logits.T], -1)
    return weighted_pool2d(x, rows[:, None] * columns[None, :], size, strides, padding)


def median_pool2d(x: Array, size: Pair, strides: Pair, padding: Padding) -> Array:
    """The middle value, or the mean of the two middle ones."""
    return pool2d(x, size, strides, padding, lambda where, v, i, j: np.median(v))


# ----------------------------------------------------------------------------------- global and dynamic


def global_gem_pool(x: Array, p: Array) -> Array:
    """The generalised mean over all positions of `x (batch, ..., channels)`."""
    p = np.broadcast_to(p, x.shape[-1:])
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return np.array([[gem(image[:, c], p[c]) for c in range(x.shape[-1])] for image in flat])


def global_attention_pool(x: Array, scores: Array) -> Array:
    """The mean over all positions weighted with the softmax of `scores (batch, ..., 1 or channels)`."""
    channels = x.shape[-1]
    values = x.reshape(x.shape[0], -1, channels)
    scores = np.broadcast_to(scores, x.shape).reshape(values.shape)
    return np.array(
        [
            [(softmax(s[:, c]) * image[:, c]).sum() for c in range(channels)]
            for image, s in zip(values, scores, strict=True)
        ]
    )


def adaptive_pool2d(x: Array, grid: Pair, function: Callable[[Array], float]) -> Array:
    """Cell (a, b) of the grid covers rows floor(a H / A) to ceil((a + 1) H / A), and columns likewise."""
    batch, height, width, channels = x.shape
    y = np.zeros((batch, *grid, channels))
    for n in range(batch):
        for a in range(grid[0]):
            for b in range(grid[1]):
                rows = slice(a * height // grid[0], -(-(a + 1) * height // grid[0]))
                columns = slice(b * width // grid[1], -(-(b + 1) * width // grid[1]))
                for c in range(channels):
                    y[n, a, b, c] = function(x[n, rows, columns, c])
    return y


def spatial_pyramid_pool2d(x: Array, levels: tuple[int, ...], function: Callable[[Array], float]) -> Array:
    """The adaptive pools of a pyramid of square grids, each flattened row by row, side by side."""
    return np.concatenate([adaptive_pool2d(x, (level, level), function).reshape(x.shape[0], -1) for level in levels], 1)


def k_max_pool1d(x: Array, k: int) -> Array:
    """The k largest steps of each channel of `x (batch, steps, channels)`, in the order of the steps."""
    y = np.zeros((x.shape[0], k, x.shape[2]))
    for n in range(x.shape[0]):
        for c in range(x.shape[2]):
            steps = sorted(range(x.shape[1]), key=lambda step: (-x[n, step, c], step))[:k]
            y[n, :, c] = x[n, sorted(steps), c]
    return y


# ----------------------------------------------------------------------------------------- convolutions


def conv2d(x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "valid") -> Array:
    """Convolution as networks mean it (no flip), with zeros outside.

    Args:
        x: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels, filters)`.
        strides: rows and columns from one window to the next.
        padding: `"valid"` or `"same"`.
    """
    batch, height, width, _ = x.shape
    size = kernel.shape[:2]
    out_height = output_size(height, size[0], strides[0], padding)
    out_width = output_size(width, size[1], strides[1], padding)
    y = np.zeros((batch, out_height, out_width, kernel.shape[3]))
    for n in range(batch):
        for a in range(out_height):
            for b in range(out_width):
                for i, r in positions(a, height, size[0], strides[0], padding):
                    for j, c in positions(b, width, size[1], strides[1], padding):
                        y[n, a, b] += x[n, r, c] @ kernel[i, j]
    return y


def depthwise_conv2d(x: Array, kernel: Array, strides: Pair = (1, 1), padding: Padding = "valid") -> Array:
    """Convolution of each channel with its own filters: (rows, columns, channels, depth_multiplier)."""
    per_channel = [conv2d(x[..., c : c + 1], kernel[:, :, c : c + 1], strides, padding) for c in range(x.shape[-1])]
    return np.concatenate(per_channel, -1)


def separable_conv2d(
    x: Array, depthwise: Array, pointwise: Array, strides: Pair = (1, 1), padding: Padding = "valid"
) -> Array:
    """A depthwise convolution and then `pointwise (1, 1, channels * depth_multiplier, filters)`."""
    return conv2d(depthwise_conv2d(x, depthwise, strides, padding), pointwise)
