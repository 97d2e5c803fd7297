"""The graph of a functional model: what runs, in which order, and who reads what.

`model.layers` is not the whole of it. In ConvNeXt and MobileNetV3 part of the graph consists of operations such as
an addition or a multiplication, which stand in `model.operations` alone, and a layer may be called more than once,
also in another model that shares it. So the unit here is the call.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras

from zoo.errors import InputError

KerasTensor: TypeAlias = Any
Operation: TypeAlias = Any
"""A `keras.Operation`: a layer, a nested model, or an operation without state."""


@dataclass(frozen=True, eq=False)
class Call:
    """One use of an operation."""

    operation: Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[KerasTensor, ...]
    """The tensors among the arguments; none for an input of the model."""
    outputs: tuple[KerasTensor, ...]

    @property
    def name(self) -> str:
        """The name of the operation."""
        return str(self.operation.name)


class Graph:
    """The calls of a functional model in the order in which they run.

    Args:
        model: A functional model or a built `Sequential`.

    Attributes:
        calls: Every call, inputs included.
        operations: What each call uses: `model.operations`, where each is called once.
        consumers: For each call, the indexes of those that read its outputs, ascending.
        is_output: For each call, whether the model gives one of its outputs.

    Raises:
        InputError: If the model has no graph, as a subclass of `keras.Model` with a `call` of its own.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = as_functional(model)
        self.calls = _ordered_calls(self.model)
        self.operations = [call.operation for call in self.calls]
        producer = {id(tensor): index for index, call in enumerate(self.calls) for tensor in call.outputs}
        readers: list[set[int]] = [set() for _ in self.calls]
        for index, call in enumerate(self.calls):
            for tensor in call.inputs:
                readers[producer[id(tensor)]].add(index)
        self.consumers = [sorted(indexes) for indexes in readers]
        outputs = {producer[id(tensor)] for tensor in self.model.outputs}
        self.is_output = [index in outputs for index in range(len(self.calls))]
        self._producer = producer

    def producer(self, tensor: KerasTensor) -> int:
        """The index of the call that gives a tensor."""
        return self._producer[id(tensor)]

    def named(self, name: str) -> list[int]:
        """The indexes of the calls of the operation of this name."""
        return [index for index, call in enumerate(self.calls) if call.name == name]

    def cuts(self) -> list[int]:
        """The indexes of the calls behind which a single tensor crosses to the later ones."""
        end = len(self.calls)
        last_reader: dict[int, int] = {}
        for index, call in enumerate(self.calls):
            last_reader.update((id(tensor), index) for tensor in call.inputs)
        last_reader.update((id(tensor), end) for tensor in self.model.outputs)
        change = [0] * (end + 1)  # how many more tensors cross behind a call than before it
        for index, call in enumerate(self.calls):
            for tensor in call.outputs:
                # All inputs are there from the beginning, whatever the place of the second one in the order.
                change[index if call.inputs else 0] += 1
                change[last_reader.get(id(tensor), index if call.inputs else 0)] -= 1
        found, crossing = [], 0
        for index in range(end - 1):
            crossing += change[index]
            if crossing == 1:
                found.append(index)
        return found

    def segments(self) -> list[range]:
        """Runs of calls between neighbouring cuts: only the last one of each is read by later runs."""
        ends = [index + 1 for index in self.cuts()]
        return [range(start, end) for start, end in zip([0, *ends], [*ends, len(self.calls)], strict=True)]


def as_functional(model: keras.Model) -> keras.Model:
    """The model itself, or a functional one of the same layers if it is a `Sequential`.

    Raises:
        InputError: If the model has no graph.
    """
    if isinstance(model, keras.Sequential) and model.built:
        with dtype_policy(model.dtype_policy):
            return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if has_graph(model):
        return model
    raise InputError(
        "This needs a functional model, whose graph can be read: one from keras.Model(inputs, outputs), "
        f"keras.applications or zoo.build_model. Received: {type(model).__name__} {getattr(model, 'name', '')!r}"
    )


def has_graph(operation: Operation) -> bool:
    """Whether an operation is a model that consists of calls."""
    sequential = isinstance(operation, keras.Sequential) and operation.built
    return sequential or (isinstance(operation, keras.Model) and hasattr(operation, "operations"))


def copy_model(model: keras.Model, replace: Mapping[str, Callable[..., Any]] | None = None) -> keras.Model:
    """A copy of a model with layers of its own, of the same names, weights, and dtype policies.

    Args:
        model: A functional model or a built `Sequential`.
        replace: What to apply in place of an operation, by its name: a new layer, or any function of the
            operation's arguments, such as `lambda x: x` to leave it out.

    Returns:
        A functional model, not compiled.

    Raises:
        InputError: If a layer's weights do not fit any more.
    """
    functional = as_functional(model)
    with dtype_policy(model.dtype_policy):
        inputs = keras.tree.map_structure(copy_input, functional.input)
        outputs = apply_copy(functional, keras.tree.flatten(inputs), replace)
        return keras.Model(inputs, outputs, name=model.name)


def copy_input(tensor: KerasTensor, channels: int | None = None) -> KerasTensor:
    """A new input like another, but for the number of channels, if given."""
    shape = tensor.shape if channels is None else (*tensor.shape[:-1], channels)
    # An input that was given no name has one all the same, which is not that of its tensor.
    return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor._keras_history.operation.name)


def apply_copy(
    model: keras.Model, inputs: Sequence[KerasTensor], replace: Mapping[str, Callable[..., Any]] | None = None
) -> Any:
    """Apply copies of a model's layers to other symbolic tensors.

    Args:
        model: A functional model or a built `Sequential`.
        inputs: As many tensors as the model has inputs.
        replace: As for `copy_model`.

    Returns:
        Symbolic tensors, in the structure of `model.output`.

    Raises:
        InputError: If a layer's weights do not fit these inputs or what replaces an operation.
    """
    graph = Graph(model)
    replace = replace or {}
    tensors = {id(old): new for old, new in zip(graph.model.inputs, inputs, strict=True)}
    copies: dict[int, Operation] = {}
    for call in graph.calls:
        if not call.inputs:
            continue
        args, kwargs = keras.tree.map_structure(lambda value: tensors.get(id(value), value), (call.args, call.kwargs))
        operation = call.operation
        if call.name in replace:
            outputs = replace[call.name](*args, **kwargs)
        elif id(operation) in copies:
            outputs = copies[id(operation)](*args, **kwargs)
        else:
            copies[id(operation)] = copy = type(operation).from_config(operation.get_config())
            try:
                outputs = copy(*args, **kwargs)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"The layer {call.name!r} cannot take what it would read now: {reason}") from error
            if isinstance(operation, keras.Layer):
                copy_weights(operation, copy)
        tensors.update(zip(map(id, call.outputs), keras.tree.flatten(outputs), strict=True))
    return keras.tree.map_structure(lambda tensor: tensors[id(tensor)], graph.model.output)


@contextmanager
def dtype_policy(policy: Any) -> Iterator[None]:
    """Make models and layers of a dtype policy that need not be the global one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def copy_weights(source: keras.Layer, target: keras.Layer) -> None:
    """Give a built layer the weights of another.

    Raises:
        InputError: If they have other shapes.
    """
    has, wants = ([tuple(weight.shape) for weight in layer.weights] for layer in (source, target))
    if has != wants:
        raise InputError(
            f"The weights of the layer {source.name!r} do not fit what stands before it now: they have the shapes "
            f"{has}, and it needs {wants}. Keep the number of channels and the size of what the layer reads."
        )
    target.set_weights(source.get_weights())
    finalize(target)


def finalize(layer: keras.Layer) -> None:
    """Let `Normalization` layers take up new weights, of which they hold a copy."""
    for part in sublayers(layer):
        if isinstance(part, keras.layers.Normalization):
            part.finalize_state()


def sublayers(layer: keras.Layer) -> Iterator[keras.Layer]:
    """A layer and, if it is a model, all in it."""
    yield layer
    for part in getattr(layer, "layers", ()):
        yield from sublayers(part)


def _ordered_calls(model: keras.Model) -> list[Call]:
    """Every call between a model's inputs and outputs, each after those it reads from."""
    nodes: dict[int, Any] = {}
    producer: dict[int, int] = {}
    pending = [*model.inputs, *model.outputs]
    while pending:
        operation, index, _ = pending.pop()._keras_history
        node = operation._inbound_nodes[index]
        if id(node) not in nodes:
            nodes[id(node)] = node
            producer.update((id(tensor), id(node)) for tensor in node.output_tensors)
            pending += node.input_tensors

    # Keras's own order wherever each operation is called once, so that all who list a model agree.
    rank = {id(operation): place for place, operation in enumerate(model.operations)}
    sources = {key: {producer[id(tensor)] for tensor in node.input_tensors} for key, node in nodes.items()}
    readers: dict[int, list[int]] = {key: [] for key in nodes}
    for key, found in sources.items():
        for source in found:
            readers[source].append(key)
    ready = [(rank[id(nodes[key].operation)], key) for key, found in sources.items() if not found]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, key = heapq.heappop(ready)
        ordered.append(nodes[key])
        for reader in readers[key]:
            sources[reader].remove(key)
            if not sources[reader]:
                heapq.heappush(ready, (rank[id(nodes[reader].operation)], reader))
    return [
        Call(
            node.operation,
            node.arguments.args,
            node.arguments.kwargs,
            tuple(node.input_tensors),
            tuple(node.output_tensors),
        )
        for node in ordered
    ]
