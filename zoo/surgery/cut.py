"""Cut a model in two, or take tensors out of its middle. The parts share the layers of the model."""

import math
from bisect import bisect_left
from collections.abc import Sequence

import keras

from zoo.errors import InputError
from zoo.graph import Graph, KerasTensor, dtype_policy
from zoo.registry import unknown_name
from zoo.surgery.pooling import GLOBAL


def cuts(model: keras.Model) -> tuple[str, ...]:
    """The places where a model can be cut in two.

    Args:
        model: A functional model or a built `Sequential`.

    Returns:
        The names of the layers and other operations behind which a single tensor crosses to the rest, in the order
        in which they run. The inputs and the last layer are not among them. Around residual blocks that is
        behind their sum, not inside them.

    Raises:
        InputError: If the model has no graph, as a subclass of `keras.Model` with a `call` of its own.

    Example:
        ```python
        cuts(keras.applications.MobileNetV2(weights=None))[-4:]
        # ("Conv_1", "Conv_1_bn", "out_relu", "global_average_pooling2d")
        ```
    """
    graph = Graph(model)
    return tuple(graph.calls[index].name for index in _cut_places(graph))


def split(model: keras.Model, layer: str) -> tuple[keras.Model, keras.Model]:
    """Cut a model in two behind a layer.

    `suffix(prefix(x))` runs the same operations as `model(x)` and gives the same bits. The layers are shared, not
    copied: what trains in the suffix trains in the model.

    Args:
        model: A functional model or a built `Sequential`, in any state; `trainable` stays as it is set.
        layer: The last layer of the prefix, one of `cuts(model)`.

    Returns:
        `(prefix, suffix)`: from the inputs of the model to the output of the layer, and from a new input of that
        shape and dtype to the outputs of the model.

    Raises:
        InputError: If there is no such layer, or more than one tensor crosses behind it. Then the message names the
            nearest cuts before and after it.

    Example:
        ```python
        prefix, suffix = split(model, "block_15_add")
        activations = prefix.predict(images)    # once
        suffix.compile(optimizer, loss)
        suffix.fit(activations, labels, epochs=10)    # trains the layers of `model`
        ```
    """
    graph = Graph(model)
    places = _cut_places(graph)
    found = graph.named(layer)
    if not found:
        raise unknown_name("layer", layer, [call.name for call in graph.calls])
    index = found[-1]
    if index not in places:
        raise InputError(f"{model.name} cannot be cut behind {layer!r}: {_obstacle(graph, index, places)}")
    (tensor,) = graph.calls[index].outputs
    with dtype_policy(model.dtype_policy):
        prefix = keras.Model(graph.model.input, tensor, name=f"{model.name}_prefix")
        return prefix, keras.Model(tensor, graph.model.output, name=f"{model.name}_suffix")


def feature_extractor(model: keras.Model, stages: Sequence[str | int]) -> keras.Model:
    """A model that gives several tensors from the middle of another, such as the levels of a feature pyramid.

    The layers are shared, not copied.

    Args:
        model: A functional model or a built `Sequential`.
        stages: What to give, each one of:

            - the name of a layer or other operation: its output;
            - the beginning of names, up to an underscore: the output of the last layer whose name begins so. In
              models of the zoo `"stage3"` is a stage and `"stage3_block2"` a block; in ResNet50 `"conv4_block6"`
              is a block;
            - an output stride, pixels: the last image-like tensor that many times smaller than the input, where a
              single tensor crosses (with MobileNetV2 and 4, the output of `block_3_expand_relu`). Where two tensors
              cross everywhere, as between the cells of NASNet, only names will do.

    Returns:
        A functional model with a list of outputs, one for each of `stages`.

    Raises:
        InputError: If there is no such layer or stride.

    Example:
        ```python
        pyramid = feature_extractor(model, (8, 16, 32))
        fine, middle, coarse = pyramid(images)    # 1/8, 1/16 and 1/32 of the height and width
        ```
    """
    if not stages or isinstance(stages, str):
        raise InputError(f"`stages` must be a sequence of layer names or output strides. Received: stages={stages!r}")
    graph = Graph(model)
    by_stride = _last_at_each_stride(graph)
    tensors: list[KerasTensor] = []
    for stage in stages:
        if isinstance(stage, str):
            tensors += graph.calls[_last_named(graph, stage)].outputs
        elif stage in by_stride:
            tensors += graph.calls[by_stride[stage]].outputs
        else:
            there = ", ".join(f"{stride} ({graph.calls[index].name})" for stride, index in by_stride.items())
            raise InputError(
                f"{model.name} has no image-like tensor of output stride {stage!r} where a single tensor crosses. "
                f"There are: {there or 'none, as its input has no fixed size'}. A layer's name can be given as well."
            )
    with dtype_policy(model.dtype_policy):
        return keras.Model(graph.model.input, tensors, name=f"{model.name}_features")


def _cut_places(graph: Graph) -> list[int]:
    """The indexes of the calls behind which a model can be split: real cuts that a name tells."""
    return [
        index
        for index in graph.cuts()
        if graph.calls[index].inputs
        and not graph.is_output[index]  # Keras has no model that gives what it takes
        and len(graph.calls[index].outputs) == 1
        and len(graph.named(graph.calls[index].name)) == 1
    ]


def _obstacle(graph: Graph, index: int, places: list[int]) -> str:
    name = graph.calls[index].name
    if not graph.calls[index].inputs:
        return "nothing stands before it."
    if not graph.consumers[index]:
        return "nothing stands after it."
    if len(graph.named(name)) > 1:
        return "it is called more than once."
    if graph.is_output[index]:
        return "it is an output of the model."
    after = bisect_left(places, index)
    nearest = [f"{graph.calls[place].name!r} before" for place in places[max(0, after - 1) : after]]
    nearest += [f"{graph.calls[place].name!r} after" for place in places[after : after + 1]]
    return f"more than one tensor crosses there. The nearest cuts: {' and '.join(nearest) or 'none'} it."


def _last_named(graph: Graph, name: str) -> int:
    """The index of the last call of this name, or else of the last one whose name begins with it."""
    found = graph.named(name) or [
        index for index, call in enumerate(graph.calls) if call.name.startswith(f"{name.rstrip('_')}_")
    ]
    if not found:
        raise unknown_name("layer", name, [call.name for call in graph.calls])
    return found[-1]


def _last_at_each_stride(graph: Graph) -> dict[int, int]:
    """For each output stride, the index of the last call at a cut that gives an image-like tensor of it."""
    size = graph.model.inputs[0].shape[1]
    if size is None:
        return {}
    found: dict[int, int] = {}
    stride = 1
    for index in (*_cut_places(graph), len(graph.calls) - 1):
        shape = graph.calls[index].outputs[0].shape
        if len(shape) != 4 or isinstance(graph.operations[index], GLOBAL):
            break  # the head
        # From cut to cut, and rounded: a convolution without padding takes off the border as well.
        stride *= 2 ** max(0, round(math.log2(size / shape[1])))
        size = shape[1]
        if not isinstance(graph.operations[index], keras.layers.ZeroPadding2D):
            found[stride] = index
    return found
