"""Give a model its pretrained weights."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.errors import InputError
from zoo.spec import ModelSpec
from zoo.weights.efficientnet_lite import layers_from_torch
from zoo.weights.keras_file import open_keras_file
from zoo.weights.manifest import WEIGHTS, find_weights
from zoo.weights.packages import locate_package_file
from zoo.weights.torch_checkpoint import read_torch_checkpoint

# How the torch checkpoints of a family are sorted into our layers.
_TORCH_FAMILIES = {"efficientnet_lite": layers_from_torch}
_CLASSIFIER = "head_logits"


def load_weights(model: keras.Model, spec: ModelSpec, weights: str | os.PathLike[str]) -> None:
    """Load a model's weights by layer name.

    Args:
        model: What `build_model` made of `spec`.
        spec: Its spec.
        weights: A name in `zoo.weights.manifest`, or the path of a `.keras`, `.weights.h5`, `.h5` or `.pth`
            file.

    Raises:
        InputError: If the weights are missing or damaged, or the first tensor that does not fit.
            `head_logits` keeps its values where the file has another number of classes, or no classifier.
    """
    path = _find(spec, weights)
    with _open(path, spec) as stored:
        arrays = _matched(model, stored, path)
    for variable, array in arrays:
        variable.assign(array)


def _find(spec: ModelSpec, weights: str | os.PathLike[str]) -> Path:
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"`weights` must be a name, a path or None. Received: weights={weights!r}")
    names = sorted({entry.name for entry in WEIGHTS})
    if weights in names:
        return locate_package_file(find_weights(spec.name, str(weights)))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise InputError(
            f"There is no file {str(path)!r}. "
            f"`weights` must be the path of a file, None, or one of the names {', '.join(names)}."
        )
    return path


@contextmanager
def _open(path: Path, spec: ModelSpec) -> Iterator[Mapping[str, list[Any]]]:
    """Open a weight file of any kind. Its arrays have a shape, and may still have to be read."""
    if path.suffix in {".h5", ".keras"}:
        with open_keras_file(path) as stored:
            yield stored
    elif path.suffix == ".pth" and spec.family in _TORCH_FAMILIES:
        yield _TORCH_FAMILIES[spec.family](read_torch_checkpoint(path), spec)
    else:
        torch = ", or a torch checkpoint .pth" if spec.family in _TORCH_FAMILIES else ""
        raise InputError(f"Weights for {spec.name} must be a file .keras, .weights.h5 or .h5{torch}. Received: {path}")


def _matched(
    model: keras.Model, stored: Mapping[str, list[Any]], path: Path
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Pair every variable of the model with its array, or say what does not fit."""
    layers = {layer.name: layer.weights for layer in model.layers if layer.weights}
    matched = []
    for layer, variables in layers.items():
        if layer == _CLASSIFIER and _classes(stored) != variables[-1].shape[-1]:
            continue
        if layer not in stored:
            raise InputError(f"{path} does not fit {model.name}: it has no weights for the layer {layer}.")
        if len(stored[layer]) != len(variables):
            raise InputError(
                f"{path} does not fit {model.name}: the layer {layer} has {len(stored[layer])} arrays in the "
                f"file, {len(variables)} in the model."
            )
        for variable, array in zip(variables, stored[layer], strict=True):
            # Shapes first: what is read below is then no larger than the model.
            if tuple(array.shape) != tuple(variable.shape):
                raise InputError(
                    f"{path} does not fit {model.name}: {variable.path} has the shape {tuple(array.shape)} "
                    f"in the file, {tuple(variable.shape)} in the model."
                )
            if array.dtype.kind != "f":
                raise InputError(f"{path}: {variable.path} is stored as {array.dtype}; only floats can be loaded.")
            try:
                matched.append((variable, np.array(array)))
            except OSError as error:
                raise InputError(f"{path} is damaged at {variable.path}: {error}") from None
    unknown = [layer for layer in stored if layer not in layers and layer != _CLASSIFIER]
    if unknown:
        raise InputError(f"{path} does not fit {model.name}: the model has no layer {unknown[0]}, which the file has.")
    return matched


def _classes(stored: Mapping[str, list[Any]]) -> int | None:
    """Number of classes of the classifier in the file, if it has one."""
    if _CLASSIFIER not in stored:
        return None
    shape = stored[_CLASSIFIER][-1].shape  # of the bias
    return int(shape[-1]) if shape else None
