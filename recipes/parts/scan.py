"""A first look at every image of a source: what it is, how large, whether it is there twice, its split."""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Literal

from recipes.parts.headers import inspect
from recipes.parts.names import counted, listed, printable
from recipes.parts.ordered import Progress, ordered_map
from recipes.parts.sources import SPLITS, Example, Source, SplitName, check_trainable
from recipes.parts.splits import SHARE, draw_splits
from zoo.errors import InputError

BadImages = Literal["skip", "error"]

MOST_LISTED = 5
"""How many unreadable files a message names."""

IMBALANCE = 3
"""A class that has this many times the images of another is worth a notice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedImage:
    """What is known of an image before it is decoded."""

    file: str
    label: int
    split: SplitName | None
    """The split it is in; None only as long as it has not been drawn."""
    sha256: str
    """Of the encoded file, in hexadecimal."""
    width: int
    """Pixels, as stored."""
    height: int
    """Pixels, as stored."""
    orientation: int
    """EXIF orientation, 1 if upright."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """An image file that cannot be used."""

    file: str
    reason: str
    """A phrase, such as "not a JPEG, PNG, BMP, GIF or WebP image"."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a first look at a source found."""

    source: Source
    classes: tuple[str, ...]
    """Names of the classes; labels are indices into them."""
    images: tuple[ScannedImage, ...]
    """In the order of the source."""
    unreadable: tuple[Unreadable, ...]
    bad_images: BadImages
    """What to do about images that turn out unreadable when they are decoded."""
    remarks: tuple[str, ...] = ()
    """What else the user should know, one line each."""

    @cached_property
    def counts(self) -> dict[str, Counter[SplitName | None]]:
        """Images of each class in each split."""
        counts: dict[str, Counter[SplitName | None]] = {name: Counter() for name in self.classes}
        for image in self.images:
            counts[self.classes[image.label]][image.split] += 1
        return counts

    def count(self, split: SplitName) -> int:
        """How many images a split has."""
        return sum(image.split == split for image in self.images)

    @cached_property
    def median_side(self) -> int:
        """Median over the images of their shorter side, in pixels."""
        return int(statistics.median_low(min(image.width, image.height) for image in self.images))

    @cached_property
    def rotated(self) -> tuple[str, ...]:
        """Files that are shown upright only after a rotation that their EXIF asks for."""
        return tuple(image.file for image in self.images if image.orientation != 1)

    @cached_property
    def in_two_splits(self) -> tuple[tuple[str, ...], ...]:
        """Groups of files of the same content in different splits; only a source can have put them there."""
        return self._same_content(lambda image: image.split)

    @cached_property
    def in_two_classes(self) -> tuple[tuple[str, ...], ...]:
        """Groups of files of the same content in different classes."""
        return self._same_content(lambda image: image.label)

    def _same_content(self, trait: Callable[[ScannedImage], object]) -> tuple[tuple[str, ...], ...]:
        groups: dict[str, list[ScannedImage]] = defaultdict(list)
        for image in self.images:
            groups[image.sha256].append(image)
        return tuple(
            tuple(image.file for image in group)
            for group in groups.values()
            if len({trait(image) for image in group}) > 1
        )

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What the user should know before training: lines of plain text, without markup."""
        return tuple(chain(self.source.notices, self.remarks, self._on_files(), self._on_classes()))

    def with_reasons(self, unreadable: Sequence[Unreadable]) -> str:
        """Return the first few skipped files with what is wrong with them, and where to find the others."""
        hidden = len(unreadable) > MOST_LISTED and self.count("train") > 0  # only a training run keeps a list
        return _with_reasons(unreadable) + ("; unreadable.json in the run folder lists all" if hidden else "")

    def _on_files(self) -> Iterator[str]:
        if self.unreadable:
            skipped = counted(len(self.unreadable), "unreadable file")
            yield f"skipped {skipped}: {self.with_reasons(self.unreadable)}"
        if self.rotated:
            photos = counted(len(self.rotated), "photo")
            yield (
                f"ignored the EXIF rotation of {photos}, as a served model cannot apply it: "
                f"{listed(self.rotated, most=3)}. To bake it in: mogrify -auto-orient FILES"
            )
        if self.in_two_splits:
            images = counted(len(self.in_two_splits), "image")
            yield (
                f"found {images} in two splits, which makes a model look better than it is: "
                f"{_groups(self.in_two_splits)}"
            )
        if self.in_two_classes:
            images = counted(len(self.in_two_classes), "image")
            yield f"found {images} in two classes, one of which is wrong: {_groups(self.in_two_classes)}"

    def _on_classes(self) -> Iterator[str]:
        if not self.count("train"):
            return
        totals = {name: counts.total() for name, counts in self.counts.items() if counts}
        most = max(totals, key=totals.__getitem__)
        least = min(totals, key=totals.__getitem__)
        if totals[most] >= IMBALANCE * totals[least]:
            yield (
                f"classes are uneven: {totals[most]:,} images of '{printable(most)}', {totals[least]:,} of "
                f"'{printable(least)}'; --class-weights makes them count alike"
            )
        for split in SPLITS:
            lacking = [name for name in totals if not self.counts[name][split]]
            if lacking and self.count(split):
                yield f"{split} has no images of {listed(lacking)}"


def scan(source: Source, *, seed: int, bad_images: BadImages = "skip", progress: Progress | None = None) -> Scan:
    """Read every file of a source once, to train on it, and draw the splits that it does not have.

    Args:
        source: Where the images come from.
        seed: Decides the splits that are drawn; see `draw_splits`.
        bad_images: What to do about files that cannot be read: `"skip"` lists them, `"error"` stops.
        progress: Is told of every file.

    Returns:
        What was found. Images whose header is sound may still turn out to be damaged when they are decoded.

    Raises:
        InputError: If files cannot be read and `bad_images` is `"error"`, or if what can be read is not
            enough to train on.
    """
    images, unreadable, unlabelled = look_at(source, total=len(source), progress=progress)
    check_bad_images(unreadable, bad_images)
    left_out = len(unreadable) + unlabelled
    check_trainable(
        source.name,
        source.classes,
        [(source.classes[image.label], image.split) for image in images],
        but=f" (without {left_out:,} that cannot be used)" if left_out else "",
    )
    remarks = [f"skipped {counted(unlabelled, 'image')} without a label"] if unlabelled else []
    splits = draw_splits(
        [image.label for image in images],
        [image.sha256 for image in images],
        [image.split for image in images],
        seed=seed,
    )
    drawn = [split for split in ("validation", "test") if not any(image.split == split for image in images)]
    if drawn:
        remarks.append(f"{' and '.join(drawn)} drawn from train: {SHARE:.0%} of each class, by seed {seed}")
    for split in drawn:
        if split not in splits:
            raise InputError(
                f"{printable(source.name)} has too few images to draw {split} images from: give every class "
                f"three different images or more"
            )
    return Scan(
        source=source,
        classes=source.classes,
        images=tuple(replace(image, split=split) for image, split in zip(images, splits, strict=True)),
        unreadable=unreadable,
        bad_images=bad_images,
        remarks=tuple(remarks),
    )


def scan_as_test(
    source: Source,
    classes: Sequence[str],
    *,
    bad_images: BadImages = "skip",
    progress: Progress | None = None,
) -> Scan:
    """Read new images to test a model on: a source's test split, or all that it has.

    Args:
        source: Where the images come from; opened with `for_training=False`.
        classes: What the model knows, in its order. The source need not have all of them.
        bad_images: What to do about files that cannot be read: `"skip"` lists them, `"error"` stops.
        progress: Is told of every file.

    Returns:
        What was found, all of it in the test split, with labels that are indices into `classes`.

    Raises:
        InputError: If files cannot be read and `bad_images` is `"error"`, if the source has a class that the
            model does not know, or nothing that can be read.
    """
    unknown = [name for name in source.classes if name not in classes]
    if unknown:
        raise InputError(
            f"{printable(source.name)} has classes that the model does not know: {listed(unknown)}. "
            f"It knows: {listed(classes, most=20)}"
        )
    labels = [classes.index(name) for name in source.classes]
    examples = (
        replace(example, split="test", label=labels[example.label] if example.label >= 0 else -1)
        for example in source
        if example.split == "test" or "test" not in source.splits
    )
    images, unreadable, _ = look_at(examples, total=None, progress=progress)
    check_bad_images(unreadable, bad_images)
    if not images:
        raise InputError(f"{printable(source.name)} has no labelled image that can be read")
    return Scan(
        source=source,
        classes=tuple(classes),
        images=images,
        unreadable=unreadable,
        bad_images=bad_images,
    )


def look_at(
    examples: Iterable[Example], *, total: int | None, progress: Progress | None = None
) -> tuple[tuple[ScannedImage, ...], tuple[Unreadable, ...], int]:
    """Read files and their headers.

    Args:
        examples: What to look at.
        total: How many there are, for `progress`; None if unknown.
        progress: Is told of every file.

    Returns:
        The images and the unreadable files, in order, and how many examples have no label, and are neither.
    """
    images, unreadable, unlabelled = [], [], 0
    for done, found in enumerate(ordered_map(_look, examples), 1):
        if isinstance(found, Unreadable):
            unreadable.append(found)
        elif found.label < 0:
            unlabelled += 1
        else:
            images.append(found)
        if progress is not None:
            progress(done, total)
    return tuple(images), tuple(unreadable), unlabelled


def check_bad_images(unreadable: Sequence[Unreadable], bad_images: BadImages) -> None:
    """Raise `InputError` if there are unreadable files and they are not to be skipped."""
    if unreadable and bad_images == "error":
        mend = "Repair or remove what is listed, or give --bad-images skip"
        if len(unreadable) > MOST_LISTED:
            mend = "Repair or remove them, or give --bad-images skip; `zoo finetune` then lists all in unreadable.json"
        raise InputError(f"Cannot read {counted(len(unreadable), 'file')}: {_with_reasons(unreadable)}. {mend}")


def _with_reasons(unreadable: Sequence[Unreadable]) -> str:
    return listed([f"{bad.file} ({bad.reason})" for bad in unreadable], most=MOST_LISTED)


def _look(example: Example) -> ScannedImage | Unreadable:
    try:
        encoded = example.read()
        header = inspect(encoded)
    except OSError as error:
        return Unreadable(file=example.file, reason=error.strerror or str(error))
    except InputError as error:
        return Unreadable(file=example.file, reason=str(error))
    return ScannedImage(
        file=example.file,
        label=example.label,
        split=example.split,
        sha256=hashlib.sha256(encoded).hexdigest(),
        width=header.width,
        height=header.height,
        orientation=header.orientation,
    )


def _groups(groups: Sequence[Sequence[str]]) -> str:
    return listed([" = ".join(group[:3]) for group in groups], most=3)
