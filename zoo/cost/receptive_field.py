"""Which part of the image a position of a feature map can see, for any graph of layers.

The receptive field is followed from layer to layer by the windows that each one looks through (`zoo.cost.windows`).
Where branches meet, it reaches as far as the widest of them. The borders of the image are no limit: a receptive
field is what a position far from all borders would see, and can be larger than the image. What pools over all
positions, or is multiplied by something that did, sees the whole image, no more.

Batch, layer and group normalization count as looking at one position, although their statistics come from others.
A layer that is not known here and changes the number of positions counts as seeing everything.

Reference:
    - [Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural
    Networks](https://distill.pub/2019/computing-receptive-fields)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from keras import layers

from custom_ops.layers.base import Pooling
from custom_ops.layers.max_blur import MaxBlurPooling
from zoo.cost.multiply_adds import CONVOLUTIONS, DEPTHWISE, SEPARABLE, TRANSPOSED
from zoo.cost.windows import Windows, cells, enlarged, shifted, sliding, transposed

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Reach:
    """What the positions of a tensor see of the image.

    Args:
        windows: Along each axis of the image; empty where the tensor's positions are no places in the image any
            more, as behind global pooling.
        everything: Whether every position sees all of the image, on whatever way. With windows, these are what
            it sees of its own neighbourhood.
    """

    windows: tuple[Windows, ...]
    everything: bool


EVERYTHING = Reach(windows=(), everything=True)

# They keep the number of positions, and yet each output position looks at all of them.
_MIXING = (
    *(layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention, layers.AdditiveAttention),
    *(layers.RNN, layers.Bidirectional),
)


def reach_of(operation: Any, inputs: Sequence[tuple[Shape, Reach]], output_shape: Shape) -> Reach:
    """What an operation's output sees of the image.

    Args:
        operation: A layer or another operation of Keras, on `channels_last` data.
        inputs: Shape `(batch, ..., channels)` and reach of each input; at least one.
        output_shape: `(batch, ..., channels)`.

    Returns:
        The reach of the output.
    """
    shape, reach = _together(inputs)
    if len(output_shape) != len(reach.windows) + 2 or isinstance(operation, _MIXING):
        return EVERYTHING
    windows = layer_windows(operation, shape[1:-1], output_shape[1:-1])
    if windows is not None:
        through = (seen.then(own) for seen, own in zip(reach.windows, windows, strict=True))
        return Reach(tuple(through), reach.everything)
    return reach if output_shape[1:-1] == shape[1:-1] else EVERYTHING


def _together(inputs: Sequence[tuple[Shape, Reach]]) -> tuple[Shape, Reach]:
    """The shape and the reach of several inputs that are combined position by position.

    One with fewer positions is the same for all positions of the others, as the gate of a squeeze-and-excite
    block: through it, each sees all that it sees.
    """
    shape, reach = max(inputs, key=lambda given: (len(given[0]), math.prod(given[0][1:-1])))
    for other_shape, other in inputs:
        if other_shape[:-1] != shape[:-1] or not other.windows:
            reach = Reach(reach.windows, everything=True)
            continue
        both = [ours.union(theirs) for ours, theirs in zip(reach.windows, other.windows, strict=True)]
        held = tuple(windows for windows in both if windows is not None)
        reach = Reach(held, reach.everything or other.everything) if len(held) == len(both) else EVERYTHING
    return shape, reach


def layer_windows(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...] | None:
    """The windows through which a layer looks.

    Args:
        layer: A layer.
        lengths: Positions of its input along each axis, without batch and channels.
        output_lengths: Positions of its output, likewise.

    Returns:
        The windows along each axis; None if the layer is of no kind that has any.
    """
    for kinds, windows_of in _KINDS:
        if isinstance(layer, kinds):
            return windows_of(layer, lengths, output_lengths)
    return None


def _convolution(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    sizes = zip(lengths, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    return tuple(sliding(*size, layer.padding) for size in sizes)


def _transposed(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    sizes = zip(lengths, output_lengths, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    return tuple(transposed(*size, layer.padding) for size in sizes)


def _pooling(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    sizes = zip(lengths, layer.pool_size, layer.strides, strict=True)
    return tuple(sliding(length, size, stride, 1, layer.padding) for length, size, stride in sizes)


def _max_blur(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    """A maximum at every position, then a filter with strides."""
    found = []
    for length, size, filter_size, stride in zip(
        lengths, layer.pool_size, layer.filter_size, layer.strides, strict=True
    ):
        between = length if layer.padding == "same" else length - size + 1
        dense = sliding(length, size, 1, 1, layer.padding)
        found.append(dense.then(sliding(between, filter_size, stride, 1, layer.padding)))
    return tuple(found)


def _adaptive(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    return tuple(cells(length, count) for length, count in zip(lengths, output_lengths, strict=True))


def _upsampling(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...] | None:
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation not in ("nearest", "bilinear"):
        return None
    factors = (output // length for length, output in zip(lengths, output_lengths, strict=True))
    return tuple(enlarged(factor, between=interpolation == "bilinear") for factor in factors)


def _borders(layer: Any, lengths: Shape, output_lengths: Shape) -> tuple[Windows, ...]:
    """Padding and cropping: pairs of positions before and after."""
    cropping = getattr(layer, "cropping", None)
    pairs = layer.padding if cropping is None else cropping
    if len(lengths) == 1:
        pairs = (pairs,)
    return tuple(shifted(-before if cropping is None else before) for before, _ in pairs)


_KINDS: tuple[tuple[Any, Callable[[Any, Shape, Shape], tuple[Windows, ...] | None]], ...] = (
    (CONVOLUTIONS + DEPTHWISE + SEPARABLE, _convolution),
    (TRANSPOSED, _transposed),
    (MaxBlurPooling, _max_blur),
    (Pooling, _pooling),
    ((layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D), _pooling),
    ((layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D), _pooling),
    ((layers.AdaptiveMaxPooling1D, layers.AdaptiveMaxPooling2D, layers.AdaptiveMaxPooling3D), _adaptive),
    ((layers.AdaptiveAveragePooling1D, layers.AdaptiveAveragePooling2D, layers.AdaptiveAveragePooling3D), _adaptive),
    ((layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D), _upsampling),
    ((layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D), _borders),
    ((layers.Cropping1D, layers.Cropping2D, layers.Cropping3D), _borders),
)
