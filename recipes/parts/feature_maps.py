"""The feature maps of a network: which there are, where they become smaller, and what they are for one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from recipes.parts.names import printable
from zoo.errors import InputError
from zoo.graph import Call, Graph, KerasTensor
from zoo.registry import unknown_name
from zoo.surgery.pooling import GLOBAL

# From one size to the next, maps become at least so many times smaller. A convolution without padding, which takes off
# a border, makes less of a difference.
_SMALLER = 1.5


@dataclass(frozen=True, eq=False)
class Reduction:
    """A place where the feature map becomes smaller."""

    call: Call
    """What does it: a pooling layer, or a convolution with strides."""
    source: str
    """The name of the layer that `before` comes from."""
    before: KerasTensor
    """`(batch, height, width, channels)`: what the layer reads, without the zeros that padding puts around it."""
    after: KerasTensor
    """The same of what it gives."""

    @property
    def pools(self) -> bool:
        """Whether it is a pooling layer."""
        return max(np.atleast_1d(getattr(self.call.operation, "pool_size", 1))) > 1

    @property
    def keeps_channels(self) -> bool:
        """Whether channel i of `after` is made from channel i of `before` alone."""
        operation = self.call.operation
        by_channel = isinstance(operation, keras.layers.DepthwiseConv2D) or not getattr(operation, "weights", None)
        return bool(self.before.shape[-1] == self.after.shape[-1] and (self.pools or by_channel))


def feature_map_calls(graph: Graph) -> list[Call]:
    """What gives a feature map: everything with an image-like output from the first layer with weights on."""
    weighted = (index for index, call in enumerate(graph.calls) if getattr(call.operation, "weights", None))
    return [call for call in graph.calls[next(weighted, len(graph.calls)) :] if _is_map(call.outputs[0])]


def last_feature_map(graph: Graph) -> Call | None:
    """What gives the last feature map before the pooling of the head; None if the network has no feature map."""
    found = [call for call in feature_map_calls(graph) if not _is_global(call)]
    crossing = {id(graph.calls[index]) for index in graph.cuts()}
    # A branch, such as that of squeeze-and-excitation, is not all that the head sees.
    return next((call for call in reversed(found) if id(call) in crossing), found[-1] if found else None)


def find_feature_map(graph: Graph, name: str) -> Call:
    """What gives the feature map of this name.

    Args:
        graph: Of the network.
        name: Of a layer or operation; if it is called several times, the last call counts.

    Raises:
        InputError: If there is no such layer, or it gives no feature map.
    """
    calls = {call.name: call for call in feature_map_calls(graph)}
    if name in calls:
        return calls[name]
    if graph.named(name) and not calls:
        raise InputError(
            f"The layer {printable(name)} gives no feature map, and neither does any other of this network"
        )
    if graph.named(name):
        raise InputError(
            f"The layer {printable(name)} gives no feature map of the network. These do, among others: "
            f"{', '.join(printable(each) for each in list(calls)[-3:])}"
        )
    raise unknown_name("layer", printable(name), map(printable, calls))


def find_reductions(graph: Graph) -> list[Reduction]:
    """The places where the feature map becomes smaller, from input to head, one for each size.

    Where several layers lead to the same size, as the branches of a residual block do, a pooling layer stands for them,
    or else the first one. Global pooling and the pooling of the head do not count.
    """
    found: dict[tuple[int, ...], Reduction] = {}
    for call in graph.calls:
        if not call.inputs or _is_global(call) or not (_is_map(call.inputs[0]) and _is_map(call.outputs[0])):
            continue
        before, after = call.inputs[0], call.outputs[0]
        producer = graph.calls[graph.producer(before)]
        while isinstance(producer.operation, keras.layers.ZeroPadding2D):
            (before,) = producer.inputs
            producer = graph.calls[graph.producer(before)]
        sizes = zip(before.shape[1:3], after.shape[1:3], strict=True)
        if max(old / new for old, new in sizes) < _SMALLER:
            continue
        reduction = Reduction(call, producer.name, before, after)
        first = found.setdefault(tuple(after.shape[1:3]), reduction)
        if reduction.pools and not first.pools:
            found[tuple(after.shape[1:3])] = reduction
    return list(found.values())


def compute(graph: Graph, tensors: Sequence[KerasTensor], images: np.ndarray) -> list[np.ndarray]:
    """The values of tensors in a network.

    Args:
        graph: Of the network, which has one input.
        tensors: From anywhere in it.
        images: float32 `(batch, height, width, channels)`.

    Returns:
        float32 arrays, one for each tensor.
    """
    (image,) = graph.model.inputs
    inner = [tensor for tensor in tensors if tensor is not image]  # Keras has no model that gives what it takes
    # Of one tensor in a list, Keras gives the values without the list.
    answers = iter(keras.tree.flatten(keras.Model(image, inner)(images, training=False)) if inner else ())
    return [
        images if tensor is image else keras.ops.convert_to_numpy(keras.ops.cast(next(answers), "float32"))
        for tensor in tensors
    ]


def select_channels(
    reduction: Reduction, before: np.ndarray, after: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Select what to show of a place where the feature map becomes smaller.

    Those channels are selected that vary most over the positions, by their standard deviation: one that is large
    everywhere, as by a bias, would show nothing of the image.

    Args:
        reduction: The place.
        before: Feature map `(height, width, channels)`.
        after: The smaller one, perhaps with other channels.
        count: How many channels at most.

    Returns:
        Indexes of channels before and after, most varied first; the same ones where channels are kept.
    """
    first, second = (np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:count] for maps in (before, after))
    return first, first if reduction.keeps_channels else second


def _is_map(tensor: KerasTensor) -> bool:
    return len(tensor.shape) == 4


def _is_global(call: Call) -> bool:
    return isinstance(call.operation, GLOBAL) or call.name.startswith("head_pool")
