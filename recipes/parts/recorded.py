"""`split.jsonl`: which file was in which split of a run, so that the same images can be found again."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.parts.dataset import DataSet, Split
from recipes.parts.names import counted, listed, printable
from recipes.parts.ordered import Progress
from recipes.parts.scan import BadImages, Scan, ScannedImage, check_bad_images, look_at, scan_as_test
from recipes.parts.sources import SPLITS, Source, SplitName
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRecord:
    """One file of a run."""

    file: str
    """As in `Example.file`."""
    sha256: str
    """Of the encoded file, in hexadecimal."""
    class_name: str
    split: SplitName


def write_split(path: Path, data: DataSet) -> None:
    """Write which file is in which split, one JSON object a line: `{"file", "sha256", "class", "split"}`.

    Args:
        path: The file to write.
        data: The images of a run.
    """
    with path.open("w", encoding="ascii") as lines:
        for name in SPLITS:
            split: Split = getattr(data, name)
            for file, sha256, label in zip(split.files, split.sha256, split.labels, strict=True):
                entry = {"file": file, "sha256": sha256, "class": data.classes[label], "split": name}
                # The escapes of JSON hold any name, also one that is not valid Unicode.
                lines.write(json.dumps(entry) + "\n")


def read_split(path: Path) -> tuple[SplitRecord, ...]:
    """Read what `write_split` wrote.

    Raises:
        InputError: If there is no such file, or a line is not as it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the split of a run, '{printable(str(path))}': {error}") from error
    return tuple(_record(path, number, line) for number, line in enumerate(lines, 1))


def scan_recorded(
    source: Source,
    records: Sequence[SplitRecord],
    classes: Sequence[str],
    *,
    splits: Sequence[SplitName] = SPLITS,
    bad_images: BadImages = "skip",
    progress: Progress | None = None,
) -> Scan:
    """Find exactly the images of an earlier run again, by content and class.

    Names are only where the search begins: if images are missing there, the whole source is read.

    Args:
        source: Where they came from, or the same images elsewhere; opened with `for_training=False`.
        records: What the run recorded.
        classes: The classes of the run, in its order.
        splits: Which of its splits to find.
        bad_images: What to do about recorded files that can no longer be read: `"skip"` lists them, `"error"` stops.
        progress: Is told of every file.

    Returns:
        The images that are as they were, in their recorded splits and classes. If some are gone or have changed, a
        remark says so.

    Raises:
        InputError: If none is left, if a recorded class is not among `classes`, or if files cannot be read and
            `bad_images` is `"error"`.
    """
    wanted = [record for record in records if record.split in splits]
    unknown = sorted({record.class_name for record in wanted} - set(classes))
    if unknown:
        raise InputError(f"The recorded split has classes that the model does not know: {listed(unknown)}")
    files = {record.file for record in wanted}
    named = (example for example in source if example.file in files)
    looked_at, unreadable, _ = look_at(named, total=len(wanted), progress=progress)
    images, missing = _match(looked_at, wanted, source, classes)
    if missing:
        looked_at, unreadable, _ = look_at(source, total=len(source), progress=progress)
        images, missing = _match(looked_at, wanted, source, classes)
    lost = {record.file for record in missing}
    unreadable = tuple(bad for bad in unreadable if bad.file in lost)
    check_bad_images(unreadable, bad_images)
    gone = sorted(lost - {bad.file for bad in unreadable})
    files_wanted = counted(len(wanted), f"recorded {' and '.join(name for name in SPLITS if name in splits)} file")
    if not images:
        raise InputError(
            f"Not one of {files_wanted} is in {printable(source.name)} as it was: give the place where they are "
            f"(--data)"
        )
    remarks = (f"left out of {files_wanted}: {len(gone):,} gone or changed: {listed(gone)}",) if gone else ()
    return Scan(
        source=source,
        classes=tuple(classes),
        images=images,
        unreadable=unreadable,
        bad_images=bad_images,
        remarks=remarks,
    )


def scan_unseen(
    source: Source,
    records: Sequence[SplitRecord],
    classes: Sequence[str],
    *,
    bad_images: BadImages = "skip",
    progress: Progress | None = None,
) -> Scan:
    """Read images to test a model on as `scan_as_test` does, without those that shaped it.

    Where a source holds the images of the run itself, in whatever place and under whatever names, this leaves the
    run's own test split.

    Args:
        source: Where the images come from; opened with `for_training=False`.
        records: What the run recorded: an image of the same content as one in its train or validation split, in
            whatever class, is left out.
        classes: The classes of the run, in its order.
        bad_images: What to do about files that cannot be read: `"skip"` lists them, `"error"` stops.
        progress: Is told of every file.

    Returns:
        What was found, all of it in the test split. If images were left out, a remark says how many.

    Raises:
        InputError: As `scan_as_test`, or if no image is left.
    """
    found = scan_as_test(source, classes, bad_images=bad_images, progress=progress)
    shaped_it = {record.sha256 for record in records if record.split != "test"}
    unseen = tuple(image for image in found.images if image.sha256 not in shaped_it)
    left_out = counted(len(found.images) - len(unseen), "image")
    if not unseen:
        raise InputError(
            f"The run trained or validated on every image of {printable(source.name)} that could be tested "
            f"({left_out}): give others"
        )
    if len(unseen) == len(found.images):
        return found
    own = {record.sha256 for record in records if record.split == "test"}
    known = sum(image.sha256 in own for image in unseen)
    remark = (
        f"left out {left_out} that the run trained or validated on; of the {len(unseen):,} that remain, {known:,} are "
        f"of its own test split"
    )
    return replace(found, images=unseen, remarks=(*found.remarks, remark))


def _match(
    images: Sequence[ScannedImage], wanted: Sequence[SplitRecord], source: Source, classes: Sequence[str]
) -> tuple[tuple[ScannedImage, ...], list[SplitRecord]]:
    """Return the images that are recorded, labelled as in the run, and the records of which there is no image."""
    # The same content may have been there several times: every image takes the place of one record.
    waiting: dict[tuple[str, str], list[SplitRecord]] = defaultdict(list)
    for record in wanted:
        waiting[record.sha256, record.class_name].append(record)
    matched = []
    for image in images:
        alike = waiting.get((image.sha256, source.classes[image.label]))
        if alike:
            record = next((record for record in alike if record.file == image.file), alike[0])
            alike.remove(record)
            matched.append(replace(image, label=classes.index(record.class_name), split=record.split))
    return tuple(matched), [record for records in waiting.values() for record in records]


def _record(path: Path, number: int, line: str) -> SplitRecord:
    try:
        entry: dict[str, Any] = json.loads(line)
        record = SplitRecord(
            file=entry["file"], sha256=entry["sha256"], class_name=entry["class"], split=entry["split"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"Line {number} of '{printable(str(path))}' is not a record of a split") from error
    if record.split not in SPLITS:
        raise InputError(f"Line {number} of '{printable(str(path))}' names the split {record.split!r}")
    return record
