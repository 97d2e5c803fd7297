"""Where a model can be cut so that nothing before the cut changes, and what that part costs and is."""

import hashlib
import inspect
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from recipes.parts.freezing import NOISE, own_generators
from zoo.graph import Graph
from zoo.surgery import split


@dataclass(frozen=True)
class Cut:
    """A model in two parts, which share its layers."""

    layer: str
    """The name of the last layer of the first part."""
    prefix: keras.Model
    """From images to activations. Nothing in it trains, and it draws no random numbers."""
    suffix: keras.Model
    """From activations to what the model gives."""

    def digest(self) -> str:
        """A hash of what the prefix computes: its graph and its weights as they are now, but not names of layers.

        Returns:
            SHA-256, in hexadecimal; the same in another process.
        """
        hashed = hashlib.sha256(self._graph)
        for weight in self.prefix.weights:
            hashed.update(weight.numpy().tobytes())
        return hashed.hexdigest()

    @cached_property
    def _graph(self) -> bytes:
        made_by: dict[int, tuple[int, int]] = {}
        operations: dict[int, int] = {}
        described: list[Any] = []
        for index, call in enumerate(Graph(self.prefix).calls):
            first = operations.setdefault(id(call.operation), index)
            config = keras.saving.serialize_keras_object(call.operation)["config"] if first == index else {}
            # Names can be automatic, and depend on what was built before; `trainable` does not change what is computed.
            config = {name: value for name, value in config.items() if name not in ("name", "trainable")}
            inputs = [made_by.get(id(tensor), (-1, 0)) for tensor in call.inputs]
            kind = type(call.operation)
            constants = repr(_constants(call.kwargs))
            described.append((kind.__name__, _code(kind), first, config, inputs, constants))
            made_by.update((id(tensor), (index, place)) for place, tensor in enumerate(call.outputs))
        return json.dumps(described, sort_keys=True, default=repr).encode()


def cut_behind_frozen(model: keras.Model) -> Cut | None:
    """Cut a model at the last place before anything that trains.

    Args:
        model: Functional, with `trainable` set as for the stage to come.

    Returns:
        The parts, or None if nothing trains, or no layer with weights comes before the last place where a single
        tensor crosses and nothing before it trains.
    """
    graph = Graph(model)
    place, worth_it = None, False
    for segment in graph.segments():
        operations = [graph.operations[index] for index in segment]
        if any(_varies(operation) for operation in operations):
            break
        if all(map(_only_drops, operations)):  # at a rate of 0: behind it is what was before it
            continue
        place = operations[-1]
        worth_it = worth_it or any(getattr(operation, "weights", None) for operation in operations)
    if place is None or place is graph.operations[-1] or not worth_it:
        return None
    return Cut(place.name, *split(model, place.name))


def why_no_cut(model: keras.Model) -> str:
    """Why `cut_behind_frozen` found no place, for a model of which something is frozen; "" if nothing is.

    Args:
        model: As there.
    """
    graph = Graph(model)
    frozen = [operation for operation in graph.operations if getattr(operation, "weights", None)]
    if not any(not operation.trainable_weights for operation in frozen):
        return ""
    for segment in graph.segments():
        for operation in (graph.operations[index] for index in segment):
            if _varies(operation):
                what = "trains" if operation.trainable_weights else "is random, or counts"
                return f"{operation.name}, which {what}, comes before any layer that could run once"
    return ""


@contextmanager
def told_apart(models: Sequence[keras.Model]) -> Iterator[None]:
    """Let operations of several models that share the others have names of their own, as long as the context lasts.

    Keras has no model in which two operations have the same name, as the pooling of two heads on one network.

    Args:
        models: Functional ones, that are to become parts of one.
    """
    operations = {id(operation): operation for model in models for operation in model.operations}
    taken: set[str] = set()
    renamed: list[tuple[keras.Operation, str]] = []
    for operation in operations.values():
        if operation.name in taken:
            renamed.append((operation, operation.name))
            operation.name = next(
                name for number in itertools.count(2) if (name := f"{operation.name}_{number}") not in taken
            )
        taken.add(operation.name)
    try:
        yield
    finally:
        for operation, name in renamed:
            operation.name = name


def _constants(arguments: Any) -> Any:
    """Arguments of a call that are no tensors."""
    return keras.tree.map_structure(
        lambda value: "tensor" if isinstance(value, keras.KerasTensor) else value, arguments
    )


def _code(kind: type) -> str:
    """What tells one class from another of its name: its module, and a hash of the file if it is the user's own."""
    if kind.__module__.split(".")[0] in ("keras", "zoo", "custom_ops"):
        return kind.__module__
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # made in a session, which has no file
        return kind.__module__


def _varies(operation: keras.Operation) -> bool:
    """Whether an operation may answer otherwise in the next step."""
    if not isinstance(operation, keras.Layer):
        return False
    return bool(operation.trainable_weights) or any(map(_is_random_or_counts, operation._flatten_layers()))


def _only_drops(operation: keras.Operation) -> bool:
    return not getattr(operation, "weights", None) and any(hasattr(operation, attribute) for attribute in NOISE)


def _is_random_or_counts(layer: keras.Layer) -> bool:
    if isinstance(layer, keras.layers.BatchNormalization):
        return bool(layer.trainable)
    strengths = [getattr(layer, attribute) for attribute in NOISE if isinstance(getattr(layer, attribute, None), float)]
    if strengths:
        return any(strength > 0 for strength in strengths)
    return bool(own_generators(layer))
