"""Images and labels in IDX files, the format of MNIST, Fashion-MNIST and KMNIST."""

import gzip
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import numpy as np

from recipes.parts.headers import MAX_PIXELS
from recipes.parts.names import counted, listed, printable
from recipes.parts.png import encode_png
from recipes.parts.sources import Example, SplitName
from zoo.errors import InputError

CLASS_NAMES = "labels.txt"
"""An optional file beside the others: the name of each class, one a line."""

# What the names of a split's files begin with, and how they go on.
_PREFIXES: dict[SplitName, str] = {"train": "train", "test": "t10k"}
_IMAGE_FILES = ("images-idx3-ubyte", "images-idx4-ubyte")
_LABEL_FILES = ("labels-idx1-ubyte",)

_UNSIGNED_BYTE = 0x08
_MOST_BYTES = 2**30
"""Larger files are refused, since all of one is held in memory."""
_MOST_TEXT = 2**16
_GZIP = b"\x1f\x8b"
_HOW_TO_NAME = "Write the name of each class into it, one a line, that of label 0 first"


class Idx:
    """Images in a folder of IDX files, by the names that MNIST gave them, each compressed by gzip or not.

    - `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`: the train split.
    - `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`: the test split. Either pair may be missing.
    - `labels.txt`: the names of the classes, one a line. Without it they are called by their numbers: "0", "1".

    Images are grey, `(images, height, width)`, or have a fourth dimension of 1 or 3 channels (their file may then be
    called `images-idx4-ubyte`). All of them are read when the source is opened, and each is handed out as the PNG that
    it would be in a folder. Classes without any image are left out.

    Args:
        path: The folder.
        for_training: Whether there must be images to train on.

    Raises:
        InputError: If there is no such folder, or a file is missing, damaged, or not what its name says.

    Reference:
        [LeCun et al., the MNIST database](http://yann.lecun.com/exdb/mnist/), which describes the format.
    """

    def __init__(self, path: str, *, for_training: bool = True) -> None:
        self.name = f"idx:{os.path.abspath(path)}"
        if not os.path.isdir(path):
            what = "is a file: give the folder that it is in" if os.path.isfile(path) else "does not exist"
            raise InputError(f"No folder of IDX files: '{printable(path)}' {what}")
        pairs = {split: pair for split in _PREFIXES if (pair := _find_pair(path, split)) is not None}
        _check_pairs(path, pairs, for_training=for_training)
        self._images: dict[SplitName, np.ndarray] = {}
        self._labels: dict[SplitName, np.ndarray] = {}
        for split, (image_file, label_file) in pairs.items():
            self._images[split], self._labels[split] = _read_pair(image_file, label_file)
        self.splits = tuple(pairs)
        # Only the classes that occur count, as in a folder.
        used = np.unique(np.concatenate(list(self._labels.values())))
        names = _class_names(path)
        if names is not None and used[-1] >= len(names):
            raise InputError(
                f"'{printable(os.path.join(path, CLASS_NAMES))}' has {counted(len(names), 'name')}, but the label "
                f"{used[-1]} occurs. {_HOW_TO_NAME}"
            )
        self.classes = tuple(names[label] if names is not None else str(label) for label in used)
        self._labels = {split: np.searchsorted(used, labels) for split, labels in self._labels.items()}
        left_out = [name for name in names or () if name not in self.classes]
        self.notices = (f"left out classes without any image: {listed(left_out)}",) if left_out else ()

    def __len__(self) -> int:
        return sum(map(len, self._labels.values()))

    def __iter__(self) -> Iterator[Example]:
        for split, images in self._images.items():
            for index, (pixels, label) in enumerate(zip(images, self._labels[split].tolist(), strict=True)):
                yield Example(file=f"{split}/{index}", label=label, split=split, read=partial(encode_png, pixels))


def _find_pair(folder: str, split: SplitName) -> tuple[str, str] | None:
    """Return the paths of the images and of the labels of a split, or None if neither is there."""
    prefix = _PREFIXES[split]
    images, labels = (_find(folder, prefix, names) for names in (_IMAGE_FILES, _LABEL_FILES))
    if images and labels:
        return images, labels
    for found, missing in ((images, _LABEL_FILES), (labels, _IMAGE_FILES)):
        if found:
            raise InputError(f"'{printable(found)}' is there without {prefix}-{missing[0]}[.gz]: put that beside it")
    return None


def _find(folder: str, prefix: str, names: tuple[str, ...]) -> str | None:
    """Return the path of the first file that exists; one that is unpacked goes before one that is not."""
    candidates = (os.path.join(folder, f"{prefix}-{name}{ending}") for ending in ("", ".gz") for name in names)
    return next((path for path in candidates if os.path.exists(path)), None)


def _check_pairs(folder: str, pairs: dict[SplitName, tuple[str, str]], *, for_training: bool) -> None:
    """Raise if there is nothing to use."""
    expected = {
        split: f"{prefix}-{_IMAGE_FILES[0]}[.gz] and {prefix}-{_LABEL_FILES[0]}[.gz]"
        for split, prefix in _PREFIXES.items()
    }
    if not pairs:
        raise InputError(
            f"'{printable(folder)}' holds no IDX files. They are called {expected['train']}, to train on, and "
            f"{expected['test']}, to test on"
        )
    if for_training and "train" not in pairs:
        raise InputError(f"'{printable(folder)}' has images to test on, but none to train on: add {expected['train']}")


def _read_pair(image_file: str, label_file: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images, uint8 `(images, height, width)` or with 1 or 3 channels behind, and labels, uint8 `(images,)`."""
    images = _read_idx(image_file, dimensions={3: "(images, height, width)", 4: "(images, height, width, channels)"})
    labels = _read_idx(label_file, dimensions={1: "(labels,)"})
    shown = printable(image_file)
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        raise InputError(f"The images of '{shown}' have {images.shape[3]} channels: make it 1 for grey, or 3 for RGB")
    if len(images) != len(labels):
        raise InputError(
            f"'{shown}' holds {counted(len(images), 'image')} and '{printable(label_file)}' "
            f"{counted(len(labels), 'label')}: give files that belong together"
        )
    return images, labels


def _read_idx(path: str, *, dimensions: dict[int, str]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, taking no more memory than its header declares.

    Args:
        path: The file.
        dimensions: The numbers of dimensions that it may have, and what they are.

    Raises:
        InputError: If it is anything else; the message has its name.
    """
    with _opened(path) as file:
        compressed = file.read(len(_GZIP)) == _GZIP  # whatever it is called
        file.seek(0)
        if not compressed:
            return _parse(file, dimensions)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _parse(unpacked, dimensions)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open a file; let whatever goes wrong with it be an `InputError` that has its name."""
    shown = printable(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for ever
            raise InputError("it is not a regular file: put the file itself there")
        with open(path, "rb") as file:
            yield file
    except InputError as error:
        raise InputError(f"Cannot use '{shown}': {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"Cannot use '{shown}': it is damaged ({error}). Get it again") from error
    except OSError as error:
        raise InputError(f"Cannot read '{shown}': {error.strerror or error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, dimensions: dict[int, str]) -> np.ndarray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        received = start.hex(" ") or "nothing"
        raise InputError(f"it is no IDX file, which begins with two zero bytes. Received: {received}")
    element_type, rank = start[2:]
    if element_type != _UNSIGNED_BYTE:
        raise InputError(
            f"its numbers are of the type 0x{element_type:02x}; only unsigned bytes, 0x08, are read: convert it"
        )
    if rank not in dimensions:
        expected = " or ".join(f"{count}, {what}" for count, what in dimensions.items())
        raise InputError(
            f"it has {counted(rank, 'dimension')}; expected {expected}. Images and labels may have changed places"
        )
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise InputError("it ends in its header. Get it again")
    shape = struct.unpack(f">{rank}I", sizes)
    declared = math.prod(shape)
    if not declared:
        raise InputError(f"its header declares {_times(shape)} bytes, which is none. Get it again")
    if declared > _MOST_BYTES or math.prod(shape[1:3]) > MAX_PIXELS:
        raise InputError(
            f"its header declares {_times(shape)} bytes; no more than {_MOST_BYTES // 2**20:,} MiB, and "
            f"{MAX_PIXELS // 2**20} megapixels an image, are read. If that is right, give the images as folder:PATH"
        )
    content = file.read(declared)
    if len(content) < declared:
        raise InputError(f"it ends after {len(content):,} of the {declared:,} bytes that it declares. Get it again")
    if file.read(1):  # at the end of a gzip file this also compares the checksum
        raise InputError(f"it goes on after the {declared:,} bytes that it declares. Get it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)


def _class_names(folder: str) -> list[str] | None:
    """Return the lines of `labels.txt`, or None if there is no such file."""
    path = os.path.join(folder, CLASS_NAMES)
    if not os.path.exists(path):
        return None
    with _opened(path) as file:
        try:
            names = [line.strip() for line in file.read(_MOST_TEXT + 1).decode("utf-8-sig").rstrip().split("\n")]
        except UnicodeDecodeError:
            raise InputError(f"it is no text in UTF-8. {_HOW_TO_NAME}") from None
        if file.tell() > _MOST_TEXT:
            raise InputError(f"it is longer than {_MOST_TEXT:,} bytes. {_HOW_TO_NAME}")
        if "" in names:
            raise InputError(f"it has an empty line. {_HOW_TO_NAME}")
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"it has '{printable(name)}' twice. {_HOW_TO_NAME}")
    return names
