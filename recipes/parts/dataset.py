"""Images decoded once, at the size that the model takes, with their labels."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.parts.array_store import allocate
from recipes.parts.headers import sniff
from recipes.parts.images import Resize, decode
from recipes.parts.names import counted, listed, printable
from recipes.parts.ordered import Progress, ordered_map
from recipes.parts.scan import Scan, ScannedImage, Unreadable, check_bad_images
from recipes.parts.sources import SPLITS, Example, SplitName
from zoo.errors import InputError

_BATCH_PIXELS = 2**16
"""Images are handed to TensorFlow together up to about so many pixels: a call costs more than a small image does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Decoded images of one split, in the order of their source."""

    images: Any
    """uint8 `(n, size, size, 3)`, RGB; cannot be written to. While stages run, it may be activations in their place, of
    one version or of several of each image, or what is read as such an array."""
    labels: np.ndarray
    """int32 `(n,)`, indices into the classes."""
    files: tuple[str, ...]
    """Names, as in `Example.file`."""
    sha256: tuple[str, ...]
    """Of the encoded files, in hexadecimal."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Decoded images, ready to train on."""

    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notices: tuple[str, ...]
    """What the user should know, lines of plain text."""
    unreadable: tuple[Unreadable, ...]
    """Every file that was skipped, with the reason."""
    fingerprint: str
    """A hash of contents, labels, splits, size and resize: the same for data sets with the same pixels."""

    @property
    def bytes_in_memory(self) -> int:
        """Memory that the images take; none if they are in a file."""
        splits = (self.train, self.validation, self.test)
        return sum(split.images.nbytes for split in splits if not isinstance(split.images, np.memmap))


def materialise(
    scan: Scan,
    *,
    size: int,
    resize: Resize,
    memory_budget_bytes: int = 2 * 10**9,
    scratch_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Decode every image of a scan.

    Args:
        scan: What to decode, and which split it goes to.
        size: Pixels a side.
        resize: How an image that is not square becomes so; see `recipes.parts.images.resize_pixels`.
        memory_budget_bytes: Pixels that do not fit in here are kept in a file; see
        `recipes.parts.array_store.allocate`.
        scratch_dir: Where that file goes.
        progress: Is told of every image.

    Returns:
        The images. Those that cannot be decoded are left out and listed.

    Raises:
        InputError: If images cannot be decoded and the scan says that this is an error, if a class loses all
            its training images or a split all its images that way, if a file has changed since the scan, or
            if there is not enough space.
    """
    # Rows are sorted by split, so that a split is a slice.
    images = sorted(scan.images, key=lambda image: SPLITS.index(image.split or "train"))
    pixels = allocate(
        (len(images), size, size, 3),
        np.uint8,
        what="decoded images",
        memory_budget_bytes=memory_budget_bytes,
        scratch_dir=scratch_dir,
    )
    damaged = _decode_into(pixels, scan, images, size=size, resize=resize, progress=progress)
    check_bad_images(damaged, scan.bad_images)
    lost = {bad.file for bad in damaged}
    _check_loss(scan, lost)
    splits: dict[SplitName, Split] = {}
    start = 0
    for split in SPLITS:
        rows = range(start, start + scan.count(split))
        kept = [row for row in rows if images[row].file not in lost]
        for target, row in zip(rows, kept, strict=False):
            if target != row:
                pixels[target] = pixels[row]
        labels = np.array([images[row].label for row in kept], np.int32)
        splits[split] = Split(
            images=pixels[start : start + len(kept)],
            labels=labels,
            files=tuple(images[row].file for row in kept),
            sha256=tuple(images[row].sha256 for row in kept),
        )
        splits[split].images.flags.writeable = labels.flags.writeable = False
        start = rows.stop
    notices = scan.notices
    if damaged:
        notices += (f"skipped {counted(len(damaged), 'damaged file')}: {scan.with_reasons(damaged)}",)
    return DataSet(
        classes=scan.classes,
        **splits,
        notices=notices,
        unreadable=(*scan.unreadable, *damaged),
        fingerprint=fingerprint(
            scan.classes,
            (
                (name, label, content)
                for name, split in splits.items()
                for label, content in zip(split.labels, split.sha256, strict=True)
            ),
            size=size,
            resize=resize,
        ),
    )


def _decode_into(
    pixels: np.ndarray,
    scan: Scan,
    images: list[ScannedImage],
    *,
    size: int,
    resize: Resize,
    progress: Progress | None,
) -> tuple[Unreadable, ...]:
    """Decode every image into its row; return those that cannot be decoded."""
    rows = {image.file: row for row, image in enumerate(images)}
    decoder = _decoder(size, resize)

    def work(batch: list[Example]) -> list[Unreadable | None]:
        encoded = [_read_again(example, images[rows[example.file]]) for example in batch]
        found: list[Unreadable | None] = []
        for example, file, decoded in zip(batch, encoded, _decode_each(decoder, encoded), strict=True):
            if decoded is None:
                reason = f"damaged, or a kind of {sniff(file)} that TensorFlow cannot decode"
                found.append(Unreadable(file=example.file, reason=reason))
            else:
                pixels[rows[example.file]] = decoded
                found.append(None)
        return found

    damaged = []
    done = 0
    wanted = ((example, images[rows[example.file]]) for example in scan.source if example.file in rows)
    for done, bad in enumerate(chain.from_iterable(ordered_map(work, _in_batches(wanted, size=size))), 1):
        if bad is not None:
            damaged.append(bad)
        if progress is not None:
            progress(done, len(images))
    if done != len(images):
        raise InputError(f"{printable(scan.source.name)} has changed since it was first read: start again")
    return tuple(damaged)


def _in_batches(examples: Iterable[tuple[Example, ScannedImage]], *, size: int) -> Iterator[list[Example]]:
    """Put small images together, until they have `_BATCH_PIXELS` pixels as they are or as they will be."""
    batch: list[Example] = []
    total = 0
    for example, image in examples:
        batch.append(example)
        total += max(image.width * image.height, size * size)
        if total >= _BATCH_PIXELS:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _decode_each(decoder: Callable[[list[bytes]], tf.Tensor], encoded: list[bytes]) -> list[np.ndarray | None]:
    """Decode files; return None for those that are damaged."""
    try:
        return list(decoder(encoded).numpy())
    except tf.errors.InvalidArgumentError:  # which does not say of which file
        if len(encoded) == 1:
            return [None]
        return [pixels for file in encoded for pixels in _decode_each(decoder, [file])]


@cache
def _decoder(size: int, resize: Resize) -> Callable[[list[bytes]], tf.Tensor]:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode_on_cpu(encoded: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            return tf.map_fn(
                partial(decode, size=size, resize=resize),
                encoded,
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
                parallel_iterations=1,  # more of them only take memory
            )

    return decode_on_cpu


def _read_again(example: Example, image: ScannedImage) -> bytes:
    try:
        encoded = example.read()
    except OSError as error:
        raise InputError(
            f"'{printable(example.file)}' can no longer be read ({error.strerror or error}): start again "
            f"when nothing changes the images"
        ) from error
    if hashlib.sha256(encoded).hexdigest() != image.sha256:
        raise InputError(
            f"'{printable(example.file)}' has changed since it was first read: start again when nothing "
            f"changes the images"
        )
    return encoded


def _check_loss(scan: Scan, lost: set[str]) -> None:
    """Raise if a class has lost all its training images, or a split all its images."""
    before = Counter((image.split, image.label) for image in scan.images)
    after = Counter((image.split, image.label) for image in scan.images if image.file not in lost)
    bare = [scan.classes[label] for split, label in before if split == "train" and not after[split, label]]
    if bare:
        raise InputError(f"No training image can be decoded of: {listed(bare)}")
    for split in SPLITS:
        if any(split == had for had, _ in before) and not any(split == has for has, _ in after):
            raise InputError(f"No {split} image can be decoded")


def fingerprint(
    classes: tuple[str, ...], images: Iterable[tuple[SplitName, int, str]], *, size: int, resize: Resize
) -> str:
    """A hash that is the same for data sets with the same pixels.

    Args:
        classes: Names of the classes.
        images: Of each image its split, its class and the SHA-256 of its file, in any order.
        size: Pixels a side.
        resize: How images that are not square become so.
    """
    entries = sorted(f"{split} {label} {content}" for split, label, content in images)
    described = repr((classes, size, resize, entries))
    return hashlib.sha256(described.encode("ascii", "backslashreplace")).hexdigest()
