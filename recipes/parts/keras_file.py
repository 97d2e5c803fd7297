"""Any `.keras` file, brought into the form of a finished run, so that it can be served like one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.parts.finished_run import FinishedRun
from recipes.parts.images import Resize
from recipes.parts.metrics import log_softmax
from recipes.parts.names import listed, printable
from zoo import load_plugin
from zoo.errors import InputError
from zoo.graph import Graph, as_functional, copy_model, has_graph


def load_keras_file(
    path: Path, *, classes: Path, resize: Resize, data: str | None, plugins: Sequence[Path] = ()
) -> FinishedRun:
    """Load a classifier of images from a `.keras` file. No code from the file is run: safe mode stays on.

    Args:
        path: The model: from pixels from 0 to 255, `(batch, size, size, 3)`, to logits or to the probabilities of a
            softmax, `(batch, classes)`. Whatever normalises the pixels has to be inside.
        classes: A text file with the name of a class a line, in the order of the outputs.
        resize: How images that are not square become so.
        data: Where images that the model knows the classes of are, as `open_source` takes it.
        plugins: Python files that register layers of the model.

    Returns:
        The model without its softmax, if it has one, and not calibrated: its temperature is 1.

    Raises:
        InputError: If the file is no such model, or the names do not fit.
    """
    for plugin in plugins:
        load_plugin(plugin)
    names = read_classes(classes)
    where = printable(str(path))
    if path.suffix != ".keras" or not path.is_file():
        raise InputError(f"{where} is no .keras file, as model.save('NAME.keras') writes it")
    try:
        loaded = keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a broken or hostile file makes of Keras
        reason = " ".join(str(error).split())
        reason = reason if len(reason) < 300 else f"{reason[:300]} ..."
        raise InputError(f"{where} cannot be loaded: {printable(reason)}") from None
    model = as_functional(loaded)
    shapes = [tuple(tensor.shape) for tensor in (*model.inputs, *model.outputs)]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(shapes[0]) != 4 or len(shapes[1]) != 2:
        raise InputError(f"{where} is no classifier of images: it has the inputs and outputs {shapes}")
    (_, height, width, channels), (_, outputs) = shapes
    if channels != 3 or height is None or height != width:
        raise InputError(
            f"{where} takes images of (height, width, channels) = {(height, width, channels)}; a served model takes "
            "RGB images of a fixed size, as high as wide, such as (224, 224, 3)"
        )
    if outputs != len(names):
        raise InputError(f"{where} has {outputs} outputs, and {printable(str(classes))} names {len(names)} classes")
    return FinishedRun(
        folder=path,
        data=data or "",
        image_size=height,
        resize=resize,
        classes=names,
        temperature=1.0,
        model=with_logits(model),
    )


def read_classes(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line, in UTF-8; a byte order mark, as Windows writes it, is no part of a name.

    Raises:
        InputError: If the file cannot be read, or a name is there twice or empty.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the names of classes, {printable(str(path))}: {error}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if len(names) < 2 or twice or not all(name.strip() for name in names):
        problem = f"is there twice: {listed(twice)}" if twice else "is empty, or there are fewer than two"
        raise InputError(f"{printable(str(path))} has to name each class on a line of its own; a name {problem}")
    return tuple(names)


def with_logits(model: keras.Model) -> keras.Model:
    """Take a softmax off the end of a classifier, as answers are made of logits.

    Args:
        model: Functional, with one output `(batch, classes)`.

    Returns:
        The model itself if it ends in logits.

    Raises:
        InputError: If it answers with probabilities of another kind.
    """
    images = np.random.default_rng(0).integers(0, 256, (4, *model.input_shape[1:])).astype(np.float32)
    before = keras.ops.convert_to_numpy(model(images, training=False)).astype(np.float64)
    logits = _cut_softmax(model)
    if logits is None:
        if np.all(before >= 0) and np.allclose(before.sum(axis=1), 1, atol=1e-3):
            raise InputError("The model answers with probabilities, but no softmax at its end can be taken off")
        if _activation(_last(model)) == "sigmoid":
            raise InputError(
                "The model ends in a sigmoid: a score for each class of its own is not what is served here"
            )
        return model
    after = keras.ops.convert_to_numpy(logits(images, training=False))
    # Within the rounding of 16 bits; a model that answers with NaN is refused later, in words.
    if not np.allclose(np.exp(log_softmax(after)), before, atol=1e-2, equal_nan=True):
        raise InputError(
            "The model ends in a softmax, but its answers are no softmax over the classes: give a model that ends in "
            "logits, or in a softmax over its last axis"
        )
    return logits


def _cut_softmax(model: keras.Model) -> keras.Model | None:
    """A copy that ends before its softmax; None if there is none."""
    last = _last(model)
    replacement: Callable[..., Any]
    if has_graph(last):
        inner = _cut_softmax(last)
        if inner is None:
            return None
        replacement = inner
    elif isinstance(last, keras.layers.Softmax) or _is_softmax(last):
        replacement = _leave_out
    elif _activation(last) == "softmax":
        replacement = _linear_copy(last)
    else:
        return None
    return copy_model(model, {last.name: replacement})


def _last(model: keras.Model) -> Any:
    graph = Graph(model)
    return graph.calls[graph.producer(graph.model.outputs[0])].operation


def _activation(operation: Any) -> str | None:
    return getattr(getattr(operation, "activation", None), "__name__", None)


def _is_softmax(operation: Any) -> bool:
    """Whether it is a softmax and nothing else: a layer, or an operation that is none."""
    if isinstance(operation, keras.Layer):
        return isinstance(operation, keras.layers.Activation) and _activation(operation) == "softmax"
    return type(operation).__name__ == "Softmax"


def _leave_out(inputs: Any, **_: object) -> Any:
    return inputs


def _linear_copy(layer: keras.Layer) -> Callable[[Any], Any]:
    def call(inputs: Any) -> Any:
        copy = type(layer).from_config({**layer.get_config(), "activation": "linear"})
        outputs = copy(inputs)
        copy.set_weights(layer.get_weights())
        return outputs

    return call
