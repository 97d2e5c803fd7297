"""Find out what a network costs: one pass through its graph, in which nothing is computed but shapes and windows."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras

from custom_ops.layers.base import Layer as PoolingLayer
from zoo.cost.costs import Description, LayerCost
from zoo.cost.multiply_adds import multiply_adds
from zoo.cost.receptive_field import Reach, reach_of
from zoo.cost.windows import ITSELF
from zoo.errors import InputError
from zoo.graph import Call, Graph, as_functional

Shape: TypeAlias = tuple[int, ...]

BYTES = 4  # of a float32
# The grammar of layer names in the zoo, see `zoo.build.build_model`.
_STAGE = re.compile(r"(preprocess|stem|stage\d+|head)(?:_.*)?")
_BEFORE, _HEAD = "input", "head"


def describe(
    model: keras.Model, *, input_shape: Shape | None = None, stages: Mapping[str, str] | None = None
) -> Description:
    """Find out what a network costs, layer by layer, for one image.

    Models inside the model, as in ConvNeXt, are opened; all else counts as one layer.

    Args:
        model: A functional or sequential model on `channels_last` data, of the zoo, of `keras.applications` or
            any other.
        input_shape: `(height, width, channels)` of the images, for a model that leaves its input's size open.
        stages: The stage of each layer by its name. Layers that it does not name belong to the stage of the
            layer before them. By default the stages are `preprocess`, `stem`, `stage1` and so on, and `head`,
            by the layer names of the zoo; where no layer is called so, layers of the same output stride are a
            stage.

    Returns:
        The costs.

    Raises:
        InputError: If the model has no graph that can be walked, is `channels_first`, or its input has no fixed size.

    Example:
        ```python
        costs = describe(build_model("efficientnet_lite0", input_shape=(224, 224, 3), num_classes=1000))
        costs.total.multiply_adds    # 385_187_552: convolutions and dense layers
        costs.total.parameters    # 4_694_024
        ```
    """
    model = as_functional(model)
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if input_shape is not None:
        fixed = [(size, given) for size, given in zip(shapes[0], input_shape, strict=False) if size is not None]
        if len(input_shape) != len(shapes[0]) or any(size != given for size, given in fixed):
            raise InputError(f"{model.name} takes inputs of {shapes[0]}. Received: input_shape={input_shape!r}")
        shapes[0] = tuple(input_shape)
    if any(size is None for shape in shapes for size in shape):
        raise InputError(
            f"The input of {model.name} has no fixed size, {shapes[0]}: give `input_shape`, "
            "such as input_shape=(224, 224, 3)"
        )
    walk = _Walk(image=shapes[0])
    walk.through(model, [walk.start(shape, tensor.dtype) for shape, tensor in zip(shapes, model.inputs, strict=True)])
    labels = _labels(walk.layers, stages)
    return Description(
        name=model.name,
        input_shape=shapes[0],
        layers=tuple(dataclasses.replace(layer, stage=label) for layer, label in zip(walk.layers, labels, strict=True)),
        uncounted=tuple(walk.uncounted),
    )


@dataclass(frozen=True)
class _Signal:
    """A tensor on its way through the graph."""

    spec: Any
    """A KerasTensor: shape and dtype."""
    reach: Reach


class _Walk:
    """One pass through the graph, which notes down every call of a layer.

    Args:
        image: Shape of the image without batch, `(height, width, channels)`.
    """

    def __init__(self, image: Shape) -> None:
        self.image = image
        self.layers: list[LayerCost] = []
        self.uncounted: list[str] = []
        self.seen: set[int] = set()
        """Variables whose parameters are counted, by identity."""

    def start(self, shape: Shape, dtype: str) -> _Signal:
        """An input of the model. One of another rank than the image has no place in it."""
        windows = (ITSELF,) * (len(shape) - 1) if len(shape) == len(self.image) else ()
        return _Signal(keras.KerasTensor((None, *shape), dtype=dtype), Reach(windows, everything=not windows))

    def through(self, model: keras.Model, inputs: Sequence[_Signal], prefix: str = "") -> list[_Signal]:
        """Run through a model; its layers are noted with `prefix` before their names."""
        graph = Graph(model)
        known = {id(tensor): signal for tensor, signal in zip(graph.model.inputs, inputs, strict=True)}
        for call in graph.calls:
            if call.inputs:
                outputs = self.call(call, [known[id(tensor)] for tensor in call.inputs], prefix)
                known |= {id(tensor): output for tensor, output in zip(call.outputs, outputs, strict=True)}
        return [known[id(tensor)] for tensor in graph.model.outputs]

    def call(self, call: Call, inputs: Sequence[_Signal], prefix: str) -> list[_Signal]:
        """Follow one call of a layer, and note down what it costs; or of a model, and look inside."""
        operation, name = call.operation, prefix + call.name
        if isinstance(operation, keras.Sequential) or hasattr(operation, "operations"):
            return self.through(operation, inputs, f"{name}/")
        if getattr(operation, "data_format", None) == "channels_first":
            raise InputError(f"Only models on channels_last data can be described. {name} has channels_first")
        specs = {id(tensor): signal.spec for tensor, signal in zip(call.inputs, inputs, strict=True)}
        args, kwargs = keras.tree.map_structure(lambda value: specs.get(id(value), value), (call.args, call.kwargs))
        given = [(tuple(signal.spec.shape), signal.reach) for signal in inputs]
        outputs = [
            _Signal(spec, reach_of(operation, given, tuple(spec.shape)))
            for spec in keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
        ]
        self._note(name, operation, given[0][0], outputs)
        return outputs

    def _note(self, name: str, operation: Any, input_shape: Shape, outputs: Sequence[_Signal]) -> None:
        shape, reach = tuple(outputs[0].spec.shape), outputs[0].reach
        products = multiply_adds(operation, input_shape, shape)
        if products is None and _holds_matrices(operation):
            self.uncounted.append(name)
        self.layers.append(
            LayerCost(
                name=name,
                kind=type(operation).__name__,
                stage="",
                output_shape=shape[1:],
                receptive_field=self.image[:-1] if reach.everything else tuple(axis.size for axis in reach.windows),
                sees_all=reach.everything,
                windows=reach.windows,
                trainable=self._new_parameters(getattr(operation, "trainable_weights", ())),
                frozen=self._new_parameters(getattr(operation, "non_trainable_weights", ())),
                multiply_adds=products or 0,
                activation_bytes=BYTES * sum(math.prod(output.spec.shape[1:]) for output in outputs),
            )
        )

    def _new_parameters(self, variables: Sequence[Any]) -> int:
        new = [variable for variable in variables if id(variable) not in self.seen]
        self.seen.update(map(id, new))
        return sum(math.prod(variable.shape) for variable in new)


def _holds_matrices(operation: Any) -> bool:
    """Whether an operation seems to multiply by matrices. Pooling does not count, not even with weights."""
    known = isinstance(operation, PoolingLayer | keras.layers.Embedding | keras.layers.PReLU)
    return not known and any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def _labels(layers: Sequence[LayerCost], stages: Mapping[str, str] | None) -> list[str]:
    """The stage of every layer; a layer inside a model goes by the name of that model."""
    names = [layer.name.partition("/")[0] for layer in layers]
    if stages is None:
        stages = {name: match[1] for name in names if (match := _STAGE.fullmatch(name))}
        if not any(name.startswith("stage") for name in stages):
            return _labels_by_stride(layers)
    labels: list[str] = []
    for name in names:
        labels.append(stages.get(name, labels[-1] if labels else _BEFORE))
    return labels


def _labels_by_stride(layers: Sequence[LayerCost]) -> list[str]:
    """What works on vectors belongs to the feature maps that it stands between, as a gate, or else to the head."""
    labels: list[str] = []
    end = max((index for index, layer in enumerate(layers) if layer.windows), default=-1)
    for index, layer in enumerate(layers):
        if layer.windows:
            labels.append("stride " + " x ".join(f"{step:g}" for step in dict.fromkeys(layer.stride)))
        else:
            labels.append(labels[-1] if labels and index < end else _HEAD)
    return labels
