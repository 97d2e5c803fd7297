"""A run's split is written, read back, and found again in the same images."""

import json
import os
import sys

import pytest

from recipes.parts.dataset import materialise
from recipes.parts.folder import Folder
from recipes.parts.recorded import read_split, scan_recorded, scan_unseen, write_split
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


def renamed(root, put_images):
    """The same images under other names, elsewhere, and one that is new."""
    moved = put_images("a/0.png", "b/new.png", below="moved")
    for index, file in enumerate(sorted(root.glob("*/*.png"))):
        (moved / file.parent.name / f"{index * 7 % 20}.png").write_bytes(file.read_bytes())
    return Folder(str(moved), for_training=False)


def test_images_are_found_again_under_other_names(run, put_images):
    root, data, path = run
    source = renamed(root, put_images)
    found = scan_recorded(source, read_split(path), data.classes, splits=["test"])
    assert sorted(image.sha256 for image in found.images) == sorted(data.test.sha256)
    assert found.notices == ()
    everything = scan_recorded(source, read_split(path), data.classes)
    assert materialise(everything, size=6, resize="stretch").fingerprint == data.fingerprint


def test_an_image_that_was_there_twice_is_wanted_twice(put_images, tmp_path):
    root = put_images(*(f"{split}/{file}" for split in SPLITS for file in (*files("a", 2), *files("b", 2))))
    for copy in ("test/a/copy.png", "train/a/copy.png"):
        (root / copy).write_bytes((root / "test/a/0.png").read_bytes())
    data = materialise(scan(Folder(str(root)), seed=0), size=6, resize="stretch")
    write_split(tmp_path / "split.jsonl", data)
    records = read_split(tmp_path / "split.jsonl")
    for name in ("train", "test"):
        found = scan_recorded(Folder(str(root), for_training=False), records, data.classes, splits=[name])
        assert tuple(image.file for image in found.images) == getattr(data, name).files
    (root / "test/a/0.png").unlink()
    (root / "train/a/copy.png").unlink()
    found = scan_recorded(Folder(str(root), for_training=False), records, data.classes, splits=["test"])
    assert len(found.images) == 4
    assert found.notices == ("left out of 5 recorded test files: 1 gone or changed: test/a/0.png",)


def test_what_the_run_was_trained_on_is_no_test_of_it(run, put_images):
    root, data, path = run
    source = renamed(root, put_images)
    found = scan_unseen(source, read_split(path), data.classes)
    new = {image.sha256 for image in found.images} - set(data.test.sha256)
    assert len(found.images) == 5
    assert len(new) == 1
    assert new.isdisjoint(data.train.sha256 + data.validation.sha256)
    assert {image.split for image in found.images} == {"test"}
    assert found.notices == (
        "left out 16 images that the run trained or validated on; of the 5 that remain, 4 are of its own test split",
    )


def test_new_images_are_all_tested_without_a_word(run, put_images):
    _, data, path = run
    new = Folder(str(put_images("a/new.png", "b/new.png", below="new")), for_training=False)
    found = scan_unseen(new, read_split(path), data.classes)
    assert (len(found.images), found.notices) == (2, ())


def test_nothing_but_training_images_is_refused(run):
    root, data, path = run
    for file in data.test.files:
        (root / file).unlink()
    with pytest.raises(InputError, match=r"trained or validated on every image of folder:.* \(16 images\)"):
        scan_unseen(Folder(str(root), for_training=False), read_split(path), data.classes)


def test_recorded_files_that_became_unreadable_are_fatal_on_request(run):
    root, data, path = run
    (root / data.test.files[0]).write_bytes(b"")
    (root / data.train.files[0]).write_bytes(b"")  # nobody asks for it
    source, records = Folder(str(root), for_training=False), read_split(path)
    with pytest.raises(InputError, match=r"Cannot read 1 file: .* \(the file is empty\)"):
        scan_recorded(source, records, data.classes, splits=["test"], bad_images="error")
    found = scan_recorded(source, records, data.classes, splits=["test"])
    assert found.notices == (f"skipped 1 unreadable file: {data.test.files[0]} (the file is empty)",)
    assert len(found.images) == 3


def test_files_that_are_gone_or_changed_are_told_and_left_out(run):
    root, data, path = run
    gone, changed, spoilt, *rest = data.test.files
    (root / gone).unlink()
    (root / changed).write_bytes((root / data.train.files[0]).read_bytes())
    (root / spoilt).write_bytes(b"")
    found = scan_recorded(Folder(str(root), for_training=False), read_split(path), data.classes, splits=["test"])
    assert [image.file for image in found.images] == rest
    assert found.notices == (
        f"left out of 4 recorded test files: 2 gone or changed: {min(gone, changed)}, {max(gone, changed)}",
        f"skipped 1 unreadable file: {spoilt} (the file is empty)",
    )


def test_nothing_left_is_refused(run, put_images):
    _, data, path = run
    other = Folder(str(put_images("a/other.png", below="elsewhere")), for_training=False)
    with pytest.raises(InputError, match=r"Not one of 4 recorded test files is in folder:.*elsewhere as it was"):
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
