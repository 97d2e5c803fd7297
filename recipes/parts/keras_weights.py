"""Weights for the networks of `keras.applications`: from Keras's own addresses, checked, or from a file."""

import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

# Keras has no public way to say where its weights shall come from; a test sees to it that this one works.
from keras.src.utils import file_utils

from zoo.errors import InputError
from zoo.weights.fetch import Progress, fetch
from zoo.weights.keras_file import open_keras_file
from zoo.weights.manifest import KERAS_FILES, Download, WeightFile

# Standard deviation of ImageNet's colours, 0 to 1, red, green, blue.
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@contextmanager
def checked_downloads(progress: Progress | None = None) -> Iterator[None]:
    """Let the constructors of `keras.applications` get their weights by `zoo.weights.fetch`.

    Which file that is, and its checksum, is taken from the manifest (`zoo.weights.manifest.KERAS_FILES`).
    `ZOO_HOME`, `ZOO_OFFLINE` and `ZOO_MIRROR` are obeyed.

    Args:
        progress: Called during a download with the bytes read so far and their total, if known. By default
            a bar is shown if the error stream is a terminal.

    Raises:
        RuntimeError: If Keras did not ask for a file.
    """
    asked = []

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        asked.append(fname)
        return str(fetch(_find_entry(origin, file_hash), progress=progress))

    stock = file_utils.get_file
    file_utils.get_file = get_file
    try:
        with warnings.catch_warnings():
            # MobileNet and MobileNetV2 were trained at a few sizes; elsewhere the weights of 224 pixels do.
            warnings.filterwarnings("ignore", message=r".*Weights for input shape \(224, 224\)", category=UserWarning)
            yield
    finally:
        file_utils.get_file = stock
    if not asked:
        raise RuntimeError("keras.applications no longer gets its weights by keras.utils.get_file")


def _find_entry(url: str, checksum: str | None) -> WeightFile:
    """The entry of a file that Keras asks for: a release of Keras may ask for other files than we know.

    Args:
        url: Where Keras has it from.
        checksum: What Keras expects, if it knows one.

    Raises:
        InputError: If the manifest lacks the file or has another checksum for it.
    """
    remedy = (
        'Run: pip install "keras~=3.15.0", with which the manifest agrees, or download the file and give its path as '
        "weights"
    )
    entry = next((entry for entry in KERAS_FILES if entry.source == Download(url=url)), None)
    if entry is None:
        raise InputError(f"Keras {keras.__version__} asks for {url}, which the manifest of weights lacks. {remedy}")
    known = entry.sha256 or entry.md5
    if known and checksum and checksum != known:
        raise InputError(
            f"Keras {keras.__version__} asks for {url} with the checksum {checksum}; the manifest of weights has "
            f"{known}. {remedy}"
        )
    return entry


def load_weights(network: keras.Model, path: Path) -> None:
    """Load a file of weights into a network without its classifier.

    Args:
        network: Has the layers of `keras.applications.NAME(include_top=False)`.
        path: A `.keras`, `.weights.h5` or `.h5` file of the same network. A classifier in it is left out.

    Raises:
        InputError: If the file is damaged or does not fit; names the first tensor that does not.
    """
    if path.suffix not in {".keras", ".h5"}:
        raise InputError(f"Weights must be a .keras, .weights.h5 or .h5 file. Received: {path}")
    try:
        if _is_legacy(path):
            _load_legacy(network, path)
        else:
            _load_current(network, path)
    # What h5py and zipfile raise for files that are damaged or something else.
    except (OSError, LookupError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a Keras file of weights, or is damaged: {reason}") from None
    _correct_efficientnet(network)


def _is_legacy(path: Path) -> bool:
    """Whether the file is in the format of Keras 2, which is that of Keras's own ImageNet files."""
    if path.suffix == ".keras":
        return False
    with h5py.File(path, "r") as file:
        return "layer_names" in file.attrs or "model_weights" in file


def _load_legacy(network: keras.Model, path: Path) -> None:
    """Match layers by order, as Keras does, since many names are automatic; a classifier comes last."""
    layers = [layer for layer in network.layers if layer.weights]
    with open_keras_file(path) as stored:
        if len(stored) < len(layers):
            missing = layers[len(stored)].weights[0].path
            raise _misfit(path, network, f"tensor {missing}", "present", "missing")
        for layer, arrays in zip(layers, stored.values(), strict=False):
            variables = layer.trainable_weights + layer.non_trainable_weights
            for variable, array in zip(variables, arrays, strict=False):
                if tuple(array.shape) != tuple(variable.shape):
                    raise _misfit(path, network, variable.path, tuple(variable.shape), tuple(array.shape))
                variable.assign(array[()])
            if len(arrays) != len(variables):
                raise _misfit(path, network, f"number of tensors of {layer.name}", len(variables), len(arrays))
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # it computes with a copy of its weights


def _load_current(network: keras.Model, path: Path) -> None:
    """Let Keras match layers, by class and order; put what it says of misfits in one line."""
    if path.suffix != ".keras" and not path.name.endswith(".weights.h5"):
        raise InputError(f"{path} is in the format of Keras 3: rename it to end in .weights.h5")
    try:
        with warnings.catch_warnings():
            # Comes with the error that follows, and says that the network keeps its random weights.
            warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
            network.load_weights(path)
    except ValueError as error:
        text = str(error)
        # The message runs over many lines, with the values of tensors in it.
        shapes = re.search(r"variable\.shape=(.+?), Received: value\.shape=(.+?)\. .*?path=(.+?),", text)
        counts = re.search(r"Layer '(.+?)' expected (\d+) variables, but received (\d+)", text)
        if shapes:
            raise _misfit(path, network, shapes[3], shapes[1], shapes[2]) from None
        if counts:
            raise _misfit(path, network, f"number of tensors of {counts[1]}", counts[2], counts[3]) from None
        raise InputError(f"{path} does not fit {network.name}: {text.partition(chr(10))[0]}") from None


def _misfit(path: Path, network: keras.Model, what: str, wanted: object, found: object) -> InputError:
    return InputError(f"{path} does not fit {network.name}: {what} is {wanted} in the network and {found} in the file")


def _correct_efficientnet(network: keras.Model) -> None:
    """Make EfficientNet divide colours by their standard deviation, not by its square root.

    The ImageNet files of EfficientNet B0 to B7 hold the deviation in place of the variance
    (tensorflow#49930). With `weights="imagenet"` Keras makes up for it by a second rescaling; with the same
    file given as a path it does not.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and np.allclose(
            layer.adapt_variance, _IMAGENET_DEVIATION, atol=1e-4
        ):
            layer.adapt_variance.assign(np.square(_IMAGENET_DEVIATION))
            layer.finalize_state()
