"""Where labelled images come from: a source yields encoded files, one by one, always in the same order."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Literal, Protocol, get_args

import numpy as np
from PIL import Image

from recipes.parts.names import listed, printable
from zoo.errors import InputError

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labelled image, not read yet."""

    file: str
    """Its name, unique in its source; of a folder the path below it, with `/`. May hold any character."""
    label: int
    """Index of its class; -1 if it is not labelled."""
    split: SplitName | None
    """The split that the source puts it in; None if the source has no splits."""
    read: Callable[[], bytes]
    """Returns the encoded image, or raises `OSError`. May be called in any thread."""


class Source(Protocol):
    """Labelled images from one place. Iterating it again yields the same examples in the same order."""

    @property
    def name(self) -> str:
        """What `open_source` was given, with versions filled in."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits that it puts its examples in; none if it leaves that to us."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know about the source, one line each."""

    def __len__(self) -> int:
        """How many examples there are."""

    def __iter__(self) -> Iterator[Example]:
        """Yield every example."""


def open_source(text: str, *, for_training: bool = True) -> Source:
    """Open a source by its name.

    Args:
        text: `digits`, `folder:PATH`, `idx:PATH` (a folder of IDX files, as MNIST has them) or `tfds:NAME`, where
            `NAME` is TFDS's own `name/config:version`.
        for_training: Whether the images must be enough to train on; see `check_trainable`.

    Returns:
        The source. No image has been read, except that TFDS downloads and prepares what it does not have yet.

    Raises:
        InputError: If there is no such source, or its images cannot be used.
    """
    kind, colon, rest = text.partition(":")
    if text == "digits":
        return Digits()
    if kind == "folder" and colon:
        from recipes.parts.folder import Folder

        return Folder(os.path.expanduser(rest), for_training=for_training)
    if kind == "idx" and colon:
        from recipes.parts.idx_source import Idx

        return Idx(os.path.expanduser(rest), for_training=for_training)
    if kind == "tfds" and colon:
        from recipes.parts.tfds_source import TfdsSource

        return TfdsSource(rest)
    if os.path.isdir(os.path.expanduser(text)):
        hint = f"For a folder of images write folder:{printable(text)}, for one of IDX files idx:{printable(text)}"
    else:
        hint = "Give one of: digits, folder:PATH, idx:PATH, tfds:NAME"
    raise InputError(f"Unknown data source '{printable(text)}'. {hint}")


def check_trainable(
    name: str, classes: Sequence[str], images: Iterable[tuple[str, SplitName | None]], *, but: str = ""
) -> None:
    """Raise unless there is enough to train a classifier on.

    Args:
        name: Of the source.
        classes: Names of the classes.
        images: Class and split of each image.
        but: What to add about images that do not count, such as `", leaving out 2 unreadable files"`.

    Raises:
        InputError: If there is no training image, only one class, a class with fewer than two images, or one
            with none in train.
    """
    counts = Counter(images)
    name = printable(name)
    if not any(split in ("train", None) for _, split in counts):
        others = " and ".join(split for split in SPLITS if any(split == given for _, given in counts))
        raise InputError(f"{name} has no images to train on, only {others or 'none'}{but}: add a train split")
    if len(classes) == 1:
        raise InputError(f"{name} has only one class, '{printable(classes[0])}'{but}: a classifier needs two or more")
    training = [class_name for class_name in classes if counts[class_name, "train"] or counts[class_name, None]]
    for class_name in classes:
        elsewhere = [split for split in SPLITS if counts[class_name, split]]
        if class_name not in training and elsewhere:
            close = get_close_matches(class_name, training, n=1)
            hint = f" (should it be '{printable(close[0])}'?)" if close else ""
            where = " and ".join(elsewhere)
            raise InputError(
                f"{name} has images of class '{printable(class_name)}' in {where} but not in train{hint}{but}"
            )
    totals = {class_name: sum(counts[class_name, split] for split in (None, *SPLITS)) for class_name in classes}
    small = [f"{class_name} ({total})" for class_name, total in totals.items() if total < 2]
    if small:
        raise InputError(f"{name} has classes of fewer than 2 images{but}: {listed(small)}. Add images, or remove them")


class Digits:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 grey levels (Alpaydin and Kaynak 1998, from UCI)."""

    name = "digits"
    classes = tuple("0123456789")
    splits = ()
    notices = ()

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        self._labels = digits.target.tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[Example]:
        for index, label in enumerate(self._labels):
            read = partial(_as_png, self._images[index])
            yield Example(file=f"digits/{index:04}.png", label=label, split=None, read=read)


def _as_png(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    # Not compressed, so that the bytes, from which splits are drawn, are the same with every version of zlib.
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=0)
    return encoded.getvalue()
