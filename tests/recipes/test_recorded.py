"""A run's split is written, read back, and found again in the same images."""

import json
import os
import sys

import pytest

from recipes.parts.dataset import materialise
from recipes.parts.folder import Folder
from recipes.parts.recorded import read_split, scan_recorded, write_split
from recipes.parts.scan import scan
from zoo.errors import InputError

SPLITS = ("train", "validation", "test")


def files(class_name, count):
    return [f"{class_name}/{index}.png" for index in range(count)]


@pytest.fixture
def run(put_images, tmp_path):
    """A folder of images, and what a run recorded of it."""
    root = put_images(*files("a", 10), *files("b", 10))
    data = materialise(scan(Folder(str(root)), seed=0), size=6, resize="stretch")
    write_split(tmp_path / "split.jsonl", data)
    return root, data, tmp_path / "split.jsonl"


def test_the_file_holds_one_object_a_line(run):
    _, data, path = run
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries == [
        {"file": file, "sha256": sha256, "class": data.classes[label], "split": name}
        for name in SPLITS
        for file, sha256, label in zip(
            getattr(data, name).files, getattr(data, name).sha256, getattr(data, name).labels, strict=True
        )
    ]


def test_the_same_images_come_back_in_the_same_splits(run):
    root, data, path = run
    records = read_split(path)
    assert len(records) == 20
    again = materialise(
        scan_recorded(Folder(str(root), for_training=False), records, data.classes), size=6, resize="stretch"
    )
    assert again.fingerprint == data.fingerprint
    assert again.test.files == data.test.files
    assert again.notices == ()


def test_only_the_splits_that_are_asked_for_are_read(run):
    root, data, path = run
    for file in data.train.files:
        (root / file).unlink()
    told = []
    found = scan_recorded(
        Folder(str(root), for_training=False),
        read_split(path),
        data.classes,
        splits=["test"],
        progress=lambda *state: told.append(state),
    )
    again = materialise(found, size=6, resize="stretch")
    assert (len(again.train), len(again.validation)) == (0, 0)
    assert (again.test.images == data.test.images).all()
    assert told == [(done, 4) for done in range(1, 5)]


def test_labels_follow_the_run_and_not_the_folder(run, put_images):
    root, data, path = run
    put_images("0 sorts first/x.png")
    found = scan_recorded(Folder(str(root), for_training=False), read_split(path), data.classes)
    assert found.classes == ("a", "b")
    assert {data.classes[image.label] == image.file[0] for image in found.images} == {True}
    assert len(found.images) == 20


def test_files_that_are_gone_or_changed_are_told_and_left_out(run):
    root, data, path = run
    gone, changed, spoilt, *rest = data.test.files
    (root / gone).unlink()
    (root / changed).write_bytes((root / data.train.files[0]).read_bytes())
    (root / spoilt).write_bytes(b"")
    found = scan_recorded(Folder(str(root), for_training=False), read_split(path), data.classes, splits=["test"])
    assert [image.file for image in found.images] == rest
    assert found.notices[0] == (
        f"left out of 4 recorded test files: 1 gone, 2 changed: {gone}, {min(changed, spoilt)}, {max(changed, spoilt)}"
    )


def test_nothing_left_is_refused(run, put_images):
    _, data, path = run
    other = Folder(str(put_images("a/other.png", below="elsewhere")), for_training=False)
    with pytest.raises(InputError, match=r"None of the 4 recorded test files is in folder:.*elsewhere as it was"):
        scan_recorded(other, read_split(path), data.classes, splits=["test"])


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "3", '{"file": "a"}', '{"file": "a", "sha256": "b", "class": "a", "split": "holdout"}'],
)
def test_a_damaged_record_is_refused(tmp_path, line):
    good = '{"file": "a", "sha256": "b", "class": "a", "split": "test"}'
    (tmp_path / "split.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(InputError, match=r"Line 2 of '.*split\.jsonl'"):
        read_split(tmp_path / "split.jsonl")


def test_no_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot read the split of a run"):
        read_split(tmp_path / "split.jsonl")


def test_a_class_that_the_model_does_not_know_is_refused(run):
    root, _, path = run
    with pytest.raises(InputError, match="classes that the model does not know: b"):
        scan_recorded(Folder(str(root), for_training=False), read_split(path), ["a", "c"])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_names_that_are_no_text_survive(put_images, tmp_path):
    name = os.fsdecode(b"\xff cat\n\x1b[2J[red]")
    root = put_images(*files("a", 6), *files(name, 6))
    data = materialise(scan(Folder(str(root)), seed=0), size=6, resize="stretch")
    write_split(tmp_path / "split.jsonl", data)
    again = scan_recorded(Folder(str(root), for_training=False), read_split(tmp_path / "split.jsonl"), data.classes)
    assert materialise(again, size=6, resize="stretch").fingerprint == data.fingerprint
