"""The kernels of a network's first convolution, as pictures."""

from dataclasses import dataclass

import keras
import numpy as np

from recipes.parts.feature_maps import compute
from zoo.graph import Graph, KerasTensor, sublayers

# With kernels of their own for each channel that they read.
_BY_CHANNEL = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_CONVOLUTIONS = (keras.layers.Conv2D, *_BY_CHANNEL)


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """The kernels of one layer."""

    layer: str
    """Its name."""
    pictures: np.ndarray
    """float32 `(kernels, height, width, 3)` in red, green and blue, or `(kernels, height, width)`; each kernel divided
    by its largest magnitude and moved from [-1, 1] to [0, 1], so that a weight of zero is 0.5 in every kernel."""
    meaning: str
    """What the pictures show."""


def first_kernels(graph: Graph) -> Kernels | None:
    """Make pictures of the kernels of the first convolution that runs.

    Where it reads the colours of the image, whatever their order, a kernel is a picture in colours: it answers most
    strongly to a patch of the image that looks like it.

    Args:
        graph: Of a network with one input.

    Returns:
        The kernels; None if the network has no convolution.
    """
    for call in graph.calls:
        for layer in sublayers(call.operation):
            if isinstance(layer, _CONVOLUTIONS):
                return _pictures(layer, _colour_channels(graph, call.inputs[0]))
    return None


def _pictures(layer: keras.layers.Layer, colours: list[int] | None) -> Kernels:
    weights = layer.depthwise_kernel if isinstance(layer, keras.layers.SeparableConv2D) else layer.kernel
    kernels = keras.ops.convert_to_numpy(keras.ops.cast(weights, "float32"))
    height, width, read, filters = kernels.shape
    if isinstance(layer, _BY_CHANNEL):
        meaning = "each reads one channel"
        pictures = kernels.reshape(height, width, read * filters).transpose(2, 0, 1)
    elif read == 3 and colours:
        meaning = "red, green, blue as in the image"
        pictures = kernels[:, :, colours].transpose(3, 0, 1, 2)
    else:
        meaning = "" if read == 1 else f"mean over the {read} channels that each reads"
        pictures = kernels.mean(axis=2).transpose(2, 0, 1)
    largest = np.abs(pictures).max(axis=tuple(range(1, pictures.ndim)), keepdims=True)
    return Kernels(
        layer=str(layer.name),
        pictures=0.5 + 0.5 * pictures / np.where(largest > 0, largest, 1),
        meaning=meaning,
    )


def _colour_channels(graph: Graph, tensor: KerasTensor) -> list[int] | None:
    """Which channel of a tensor holds red, green and blue; None if its channels are not the colours of the image.

    Found by trial, since there are many ways to reverse or normalise channels: which channel answers to red?
    """
    (image,) = graph.model.inputs
    if tensor.shape[-1] != 3 or image.shape[-1] != 3:
        return None
    trials = np.zeros((4, *image.shape[1:]), np.float32)
    for colour in range(3):
        trials[1 + colour, ..., colour] = 255
    (answers,) = compute(graph, [tensor], trials)
    changes = np.abs(answers[1:] - answers[:1]).mean(axis=(1, 2)) > 0
    one_each = (changes.sum(axis=0) == 1).all() and (changes.sum(axis=1) == 1).all()
    return [int(channel) for channel in changes.argmax(axis=1)] if one_each else None
