"""Give a model its pretrained weights."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.errors import InputError
from zoo.spec import ModelSpec
from zoo.weights.efficientnet_lite import layers_from_torch
from zoo.weights.fetch import fetch
from zoo.weights.keras_file import StoredLayers, open_keras_file
from zoo.weights.keras_names import layers_from_keras
from zoo.weights.manifest import WEIGHTS
from zoo.weights.pretrained import find_pretrained
from zoo.weights.torch_checkpoint import read_torch_checkpoint

# How the torch checkpoints of a family are sorted into our layers.
_TORCH_FAMILIES = {"efficientnet_lite": layers_from_torch}
# Layers that a model can have otherwise than the one whose weights it takes: see `build_model` and `vary`.
_POOL = re.compile(r"(?:stem|stage\d+|head)_pool.*")
_CHANGEABLE = re.compile(rf"head_.*|{_POOL.pattern}")


@dataclass(frozen=True)
class LoadReport:
    """What became of a file of weights.

    Args:
        path: The file.
        loaded: The variables that have their values from it, as `layer/variable`.
        kept: The variables that keep their initial values, and why: `layer/variable: reason`.
        unused: The layers of the file that the model has no place for.
    """

    path: Path
    loaded: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} of {len(self.loaded) + len(self.kept)} variables are loaded from {self.path}."]
        lines += [f"Not loaded: {line}" for line in self.kept]
        lines += [f"Not used: {layer}" for layer in self.unused]
        return "\n".join(lines)


def load_weights(model: keras.Model, spec: ModelSpec, weights: str | os.PathLike[str]) -> LoadReport:
    """Load a model's weights by layer name.

    Some layers may differ between the file and the model, since they are what one changes to fit a network to
    a task: those of the head, pooling layers, and the first layer, whose kernel depends on the channels of the
    images. Of these every variable of the right shape is loaded; the others keep their values, and the report
    lists them. All other layers must fit. So a flat head of VGG keeps its first hidden kernel out at any image
    size but that of the file (224 pixels), and takes the rest.

    Args:
        model: What `build_model` made of `spec`.
        spec: Its spec.
        weights: The name of pretrained weights, such as `"imagenet"`, which are downloaded if need be; or the
            path of a `.keras`, `.weights.h5` or `.h5` file, of the zoo or of the network of
            `keras.applications`, or of a `.pth` file of EfficientNet-Lite.

    Returns:
        What was loaded and what was not.

    Raises:
        InputError: If the weights are missing or damaged, or the first tensor that does not fit. The model is
            then unchanged.
    """
    path = _find(model, spec, weights)
    with _open(path, spec) as stored:
        arrays, kept = _matched(model, stored, path)
        unused = _unused(model, stored, path)
    for variable, array in arrays:
        variable.assign(array)
    return LoadReport(path, tuple(variable.path for variable, _ in arrays), kept, unused)


def _find(model: keras.Model, spec: ModelSpec, weights: str | os.PathLike[str]) -> Path:
    if not isinstance(weights, str | os.PathLike):
        raise InputError(f"`weights` must be a name, a path or None. Received: weights={weights!r}")
    names = sorted({entry.name for entry in WEIGHTS})
    if weights in names:
        height, width = model.input_shape[1:3]
        logits = next((layer for layer in model.layers if layer.name == "head_logits"), None)
        entry = find_pretrained(
            spec,
            str(weights),
            image_size=height if height == width else None,
            num_classes=logits.units if logits else None,
        )
        return fetch(entry)
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
            yield layers_from_keras(stored, spec)
    elif path.suffix == ".pth" and spec.family in _TORCH_FAMILIES:
        yield _TORCH_FAMILIES[spec.family](read_torch_checkpoint(path), spec)
    else:
        torch = ", or a torch checkpoint .pth" if spec.family in _TORCH_FAMILIES else ""
        raise InputError(f"Weights for {spec.name} must be a file .keras, .weights.h5 or .h5{torch}. Received: {path}")


def _matched(
    model: keras.Model, stored: Mapping[str, list[Any]], path: Path
) -> tuple[list[tuple[keras.Variable, np.ndarray]], tuple[str, ...]]:
    """Pair the variables of the model with their arrays, list those that may differ, or say what does not fit."""
    matched, kept = [], []
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers:
        name, variables = layer.name, layer.weights
        if name not in stored:
            if not _CHANGEABLE.fullmatch(name):
                raise InputError(f"{path} does not fit {model.name}: it has no weights for the layer {name}.")
            kept += [f"{variable.path}: the file has no layer {name}" for variable in variables]
            continue
        if _POOL.fullmatch(name) and isinstance(stored, StoredLayers) and not stored.has_kind_of(layer):
            kept += [f"{variable.path}: {name} is another kind of layer in the file" for variable in variables]
            continue
        if len(stored[name]) != len(variables):
            raise InputError(
                f"{path} does not fit {model.name}: the layer {name} has {len(stored[name])} arrays in the "
                f"file, {len(variables)} in the model."
            )
        for variable, array in zip(variables, stored[name], strict=True):
            theirs, ours = tuple(array.shape), tuple(variable.shape)
            # Shapes first: what is read below is then no larger than the model.
            if theirs != ours:
                shapes = f"the shape {theirs} in the file, {ours} in the model"
                if not _may_differ(name, theirs, ours, is_first=layer is layers[0]):
                    raise InputError(f"{path} does not fit {model.name}: {variable.path} has {shapes}.")
                kept.append(f"{variable.path}: {shapes}")
                continue
            if array.dtype.kind != "f":
                raise InputError(f"{path}: {variable.path} is stored as {array.dtype}; only floats can be loaded.")
            try:
                matched.append((variable, np.array(array)))
            except OSError as error:
                raise InputError(f"{path} is damaged at {variable.path}: {error}") from None
    return matched, tuple(kept)


def _may_differ(layer: str, theirs: tuple[int, ...], ours: tuple[int, ...], *, is_first: bool) -> bool:
    """Whether two shapes of one variable can come from a change of the task, not from another network."""
    if len(theirs) != len(ours):
        return False
    if is_first and len(ours) == 4:  # a kernel (height, width, channels, filters)
        return theirs[:2] == ours[:2] and theirs[3] == ours[3]
    return bool(_CHANGEABLE.fullmatch(layer)) and theirs[:-2] == ours[:-2]


def _unused(model: keras.Model, stored: Mapping[str, list[Any]], path: Path) -> tuple[str, ...]:
    layers = {layer.name for layer in model.layers}
    unused = tuple(sorted(layer for layer in stored if layer not in layers))
    for layer in unused:
        if not _CHANGEABLE.fullmatch(layer):
            raise InputError(f"{path} does not fit {model.name}: the model has no layer {layer}, which the file has.")
    return unused
