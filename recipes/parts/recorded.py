"""`split.jsonl`: which file was in which split of a run, so that the same images can be found again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.parts.dataset import DataSet, Split
from recipes.parts.names import counted, listed, printable
from recipes.parts.ordered import Progress
from recipes.parts.scan import Scan, look_at
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
    progress: Progress | None = None,
) -> Scan:
    """Read exactly the files of an earlier run again.

    Args:
        source: Where they came from, or the same images elsewhere; opened with `for_training=False`.
        records: What the run recorded.
        classes: The classes of the run, in its order.
        splits: Which of its splits to read.
        progress: Is told of every file.

    Returns:
        The files that are as they were, in their recorded splits and classes. If some are gone or have
        changed, a remark says so.

    Raises:
        InputError: If none is left, or a recorded class is not among `classes`.
    """
    wanted = {record.file: record for record in records if record.split in splits}
    labels = {name: label for label, name in enumerate(classes)}
    unknown = sorted({record.class_name for record in wanted.values()} - set(labels))
    if unknown:
        raise InputError(f"The recorded split has classes that the model does not know: {listed(unknown)}")
    examples = (
        replace(example, label=labels[wanted[example.file].class_name], split=wanted[example.file].split)
        for example in source
        if example.file in wanted
    )
    images, unreadable, _ = look_at(examples, total=len(wanted), progress=progress)
    same = tuple(image for image in images if image.sha256 == wanted[image.file].sha256)
    there = {image.file for image in images} | {bad.file for bad in unreadable}
    gone = [file for file in wanted if file not in there]
    changed = sorted(there - {image.file for image in same})
    what = " and ".join(split for split in SPLITS if split in splits)
    if not same:
        raise InputError(
            f"None of the {len(wanted):,} recorded {what} files is in {printable(source.name)} as it was: "
            f"give the place where they are (--data)"
        )
    remarks = []
    if gone or changed:
        remarks.append(
            f"left out of {counted(len(wanted), f'recorded {what} file')}: {len(gone):,} gone, "
            f"{len(changed):,} changed: {listed(gone + changed)}"
        )
    return Scan(
        source=source,
        classes=tuple(classes),
        images=same,
        unreadable=(),
        bad_images="skip",
        remarks=tuple(remarks),
    )


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
