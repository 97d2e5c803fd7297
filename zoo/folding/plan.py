"""Which batch norms of a model can be folded, and into what."""

from dataclasses import dataclass, field

import keras
from keras import layers

from zoo.folding.affine import LINEAR, TRANSPOSED, stock_class
from zoo.graph import Call, Graph, has_graph

# What does nothing in inference mode.
_PASSIVE = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
)


@dataclass(frozen=True)
class FoldingPlan:
    """What `zoo.fold_batch_norm` does with a model."""

    folded: tuple[str, ...]
    """The names of the batch norms that disappear, in the order in which they run. In a nested model they are
    preceded by its name and a slash."""
    kept: tuple[tuple[str, str], ...]
    """The name of each batch norm that stays, and why."""
    before: dict[str, list[str]] = field(repr=False)
    """The batch norms that a layer takes up from its input, the last one first. Nested models not included."""
    after: dict[str, list[str]] = field(repr=False)
    """The batch norms that a layer takes up from its output, the first one first."""
    nested: dict[str, "FoldingPlan"] = field(repr=False)
    """The plans of the models inside the model, by their names."""


def folding_plan(model: keras.Model) -> FoldingPlan:
    """Tell which batch norms `zoo.fold_batch_norm` folds, and why others stay.

    A batch norm is folded into the convolution or dense layer whose output it reads, if nothing else reads that and
    it has no activation. Otherwise it is folded into those that read it, if that is all who do, and none of them pads
    with zeros: a padded zero stands for no pixel, yet it would be shifted like one. Dropout in between is no obstacle.

    Args:
        model: A functional model or a built `Sequential`. Models inside it are planned too, each by itself.

    Returns:
        The plan.

    Raises:
        InputError: If the model has no graph.

    Example:
        ```python
        for name, reason in folding_plan(keras.applications.ResNet50V2(weights=None)).kept:
            print(name, reason)
        ```
    """
    graph = Graph(model)
    planner = _Planner(graph)
    nested = {call.name: folding_plan(call.operation) for call in graph.calls if has_graph(call.operation)}
    folded: list[str] = []
    kept: list[tuple[str, str]] = []
    for index, call in enumerate(graph.calls):
        if call.name in nested:
            folded += [f"{call.name}/{name}" for name in nested[call.name].folded]
            kept += [(f"{call.name}/{name}", reason) for name, reason in nested[call.name].kept]
        elif index in planner.folded:
            folded.append(call.name)
        elif index in planner.reasons:
            kept.append((call.name, planner.reasons[index]))
        elif isinstance(call.operation, keras.Layer):
            inner = [layer.name for layer in call.operation._flatten_layers() if _is_norm(layer)]
            kept += [(f"{call.name}/{name}", f"it is inside {_describe(call)}") for name in inner]
    # What is called more than once stands there more than once.
    folded, kept = list(dict.fromkeys(folded)), list(dict.fromkeys(kept))
    return FoldingPlan(tuple(folded), tuple(kept), planner.before, planner.after, nested)


class _Planner:
    """Decides for every batch norm of one graph, on construction.

    Attributes:
        folded: The indexes of the calls that disappear.
        reasons: Why the others stay, by index.
        before: As in `FoldingPlan`.
        after: As in `FoldingPlan`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.folded: set[int] = set()
        self.reasons: dict[int, str] = {}
        self.before: dict[str, list[str]] = {}
        self.after: dict[str, list[str]] = {}
        norms = []
        for index, call in enumerate(graph.calls):
            if _is_norm(call.operation):
                if len(graph.named(call.name)) > 1:
                    self.reasons[index] = "it is called more than once"
                elif _always_trains(call):
                    self.reasons[index] = "it always normalises by the batch"
                else:
                    norms.append(index)
        # Forwards, so that of two in a row the second one finds the layer behind the first; then backwards, likewise.
        for index in norms:
            self._fold_behind(index)
        for index in reversed(norms):
            if index not in self.folded:
                self._fold_ahead(index)

    def _fold_behind(self, index: int) -> None:
        norm = self.graph.calls[index]
        alone = True
        reader = index
        while True:
            source = self.graph.producer(self.graph.calls[reader].inputs[0])
            alone = alone and self.graph.consumers[source] == [reader] and not self.graph.is_output[source]
            if not self._passes(source):
                break
            reader = source
        layer = self.graph.calls[source]
        obstacle = self._obstacle(norm, layer)
        if not obstacle and not _is_linear(layer.operation.activation):
            obstacle = "has an activation"
        if not obstacle and not alone:
            obstacle = "is needed without it too"
        if obstacle:
            self.reasons[index] = f"it reads {_describe(layer)}, which {obstacle}"
        else:
            self.after.setdefault(layer.name, []).append(norm.name)
            self.folded.add(index)

    def _fold_ahead(self, index: int) -> None:
        norm = self.graph.calls[index]
        layers_ahead, is_output = self._ahead(index)
        obstacle = "it is an output of the model" if is_output else ""
        for layer in layers_ahead:
            if not obstacle and (reason := self._obstacle(norm, layer) or _ahead_obstacle(layer.operation)):
                obstacle = f"it is read by {_describe(layer)}, which {reason}"
        if obstacle:
            self.reasons[index] += f"; {obstacle}"
        else:
            for layer in layers_ahead:
                self.before.setdefault(layer.name, []).append(norm.name)
            self.folded.add(index)
            del self.reasons[index]

    def _ahead(self, index: int) -> tuple[list[Call], bool]:
        """Whom the output of a call reaches, and whether it is an output of the model."""
        found: list[Call] = []
        is_output = self.graph.is_output[index]
        for reader in self.graph.consumers[index]:
            if self._passes(reader):
                further, ends = self._ahead(reader)
                found += further
                is_output = is_output or ends
            else:
                found.append(self.graph.calls[reader])
        return found, is_output

    def _passes(self, index: int) -> bool:
        call = self.graph.calls[index]
        return index in self.folded or (stock_class(call.operation, _PASSIVE) is not None and not _always_trains(call))

    def _obstacle(self, norm: Call, layer: Call) -> str:
        """Why a layer can take up a norm on neither side; empty if it can on one."""
        operation = layer.operation
        axis = norm.operation.axis % len(norm.inputs[0].shape)
        channels_first = getattr(operation, "data_format", None) == "channels_first"
        if not stock_class(operation, LINEAR):
            return "is neither convolution nor dense"
        if len(self.graph.named(layer.name)) > 1:
            return "is called more than once"
        if operation.compute_dtype != norm.operation.compute_dtype:
            return "computes in another dtype"
        if axis != (1 if channels_first else len(norm.inputs[0].shape) - 1):
            return "has its channels on another axis"
        return ""


def _ahead_obstacle(layer: keras.Layer) -> str:
    """Why a layer cannot take up a norm of its input; empty if it can."""
    if stock_class(layer, TRANSPOSED):
        return "is transposed"
    pads = getattr(layer, "padding", "valid") != "valid" and any(size > 1 for size in layer.kernel_size)
    return "pads with zeros" if pads else ""


def _is_norm(operation: object) -> bool:
    return stock_class(operation, (layers.BatchNormalization,)) is not None


def _always_trains(call: Call) -> bool:
    return bool(call.kwargs.get("training")) or any(argument is True for argument in call.args)


def _is_linear(activation: object) -> bool:
    return activation is None or activation is keras.activations.linear


def _describe(call: Call) -> str:
    return f"{call.name!r} ({type(call.operation).__name__})"
