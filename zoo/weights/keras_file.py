"""Read the weights in a Keras file by layer name, without running anything that the file says.

Keras's own loaders match layers by their order and class, load all or nothing, and build the model that a
`.keras` file describes. Here only the arrays are read: from `.weights.h5`, from the `model.weights.h5` inside
a `.keras` file, and from the older `.h5` files of whole models or of weights.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py

from zoo.errors import InputError

_ARCHIVE_MEMBER = "model.weights.h5"


class StoredLayers(dict[str, list[h5py.Dataset]]):
    """For each layer that has weights, its arrays in the order of the layer's weights.

    Args:
        in_order: Whether the layers stand in the order of the network; in newer files they are sorted by name.
    """

    def __init__(self, *, in_order: bool) -> None:
        super().__init__()
        self.in_order = in_order
        self.kinds: dict[str, str] = {}
        """For each layer its class, in newer files, or the names of its variables, in older ones."""

    def has_kind_of(self, layer: Any) -> bool:
        """Whether the layer of this name is, as far as the file tells, of the same class as `layer`."""
        variables = " ".join(variable.name for variable in layer.weights)
        return self.kinds.get(layer.name) in {type(layer).__name__.lower(), variables}


@contextmanager
def open_keras_file(path: Path) -> Iterator[StoredLayers]:
    """Open a `.keras`, `.weights.h5` or `.h5` file.

    Yields:
        The arrays of each layer. They are read from the file when they are indexed, and can be until the
        context ends.

    Raises:
        InputError: If the file is damaged or holds no weights by layer name.
    """
    with ExitStack() as stack:
        try:
            source = io.BytesIO(_unpack(path)) if path.suffix == ".keras" else path
            file = stack.enter_context(h5py.File(source, "r"))
            layers = _layers(file)
        # What zipfile and h5py raise for files that are damaged or something else.
        except (OSError, zipfile.BadZipFile, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a Keras file of weights, or is damaged: {error}") from None
        if not layers:
            raise InputError(f"{path} holds no weights by layer name.")
        yield layers


def _unpack(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        # Keras stores the member as it is. One that claims to be larger than the file is no work of Keras,
        # and may not fill the memory.
        if archive.getinfo(_ARCHIVE_MEMBER).file_size > path.stat().st_size:
            raise zipfile.BadZipFile(f"its {_ARCHIVE_MEMBER} unpacks to more than the file")
        return archive.read(_ARCHIVE_MEMBER)


def _layers(file: h5py.File) -> StoredLayers:
    root = _group(file, "model_weights") if "model_weights" in file else file
    if "layer_names" in root.attrs:
        return _legacy_layers(root)
    layers = StoredLayers(in_order=False)
    groups = _group(root, "layers")
    for key in groups:
        # The group is called after the layer's class; the layer's own name stands beside its variables.
        group = _group(groups, key)
        if "vars" in group and len(variables := _group(group, "vars")):
            name = _text(variables.attrs["name"])
            layers[name] = [_dataset(variables, str(index)) for index in range(len(variables))]
            layers.kinds[name] = re.sub(r"_\d+$", "", key).replace("_", "")
    return layers


def _legacy_layers(root: h5py.Group) -> StoredLayers:
    layers = StoredLayers(in_order=True)
    for layer in map(_text, root.attrs["layer_names"]):
        group = _group(root, layer)
        names = [_text(name) for name in group.attrs["weight_names"]]
        if names:
            layers[layer] = [_dataset(group, name) for name in names]
            layers.kinds[layer] = " ".join(name.rpartition("/")[2].removesuffix(":0") for name in names)
    return layers


def _group(parent: h5py.Group, path: str) -> h5py.Group:
    member = _member(parent, path)
    if not isinstance(member, h5py.Group):
        raise LookupError(f"{path!r} in {parent.name} is no group")
    return member


def _dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    member = _member(parent, path)
    if not isinstance(member, h5py.Dataset) or member.external or member.is_virtual:
        raise LookupError(f"{path!r} in {parent.name} is no array, or its values are in another file")
    return member


def _member(parent: h5py.Group, path: str) -> h5py.Group | h5py.Dataset:
    """Return what stands at a path in the file itself: a link in HDF5 can also point into another file."""
    head, _, rest = path.partition("/")
    if not isinstance(parent.get(head, getlink=True), h5py.HardLink):
        raise LookupError(f"{head!r} in {parent.name} is missing or in another file")
    return _member(_group(parent, head), rest) if rest else parent[head]


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
