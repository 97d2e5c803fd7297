"""Decoding a scan: every image in its place, in memory or on disk, whatever turns up on the way."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from recipes.parts import dataset
from recipes.parts.dataset import materialise
from recipes.parts.folder import Folder
from recipes.parts.images import decode
from recipes.parts.scan import scan
from recipes.parts.sources import SPLITS, Digits
from zoo.errors import InputError


def files(class_name, count, split=""):
    return [f"{split}{class_name}/{index}.png" for index in range(count)]


@pytest.fixture
def folder(put_images):
    return put_images(*files("a", 20), *files("b", 14), width=13, height=9)


def cut_short(path):
    """A PNG whose header is sound and whose pixels are not there."""
    path.write_bytes(path.read_bytes()[:60])


def check_against_files(data, root, size, resize):
    """Every image that a split holds is the one of its file, decoded alone."""
    for name in SPLITS:
        split = getattr(data, name)
        assert split.images.shape == (len(split), size, size, 3)
        assert split.labels.dtype == np.int32
        assert len(split) == len(split.files) == len(split.sha256) == len(split.labels)
        for image, label, file in zip(split.images, split.labels, split.files, strict=True):
            assert data.classes[label] == file.split("/")[0]
            expected = decode((root / file).read_bytes(), size=size, resize=resize)
            assert np.array_equal(image, expected)


@pytest.mark.parametrize("budget", [10**9, 0], ids=["in memory", "in a file"])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_every_image_is_in_its_place(folder, tmp_path, budget, resize):
    found = scan(Folder(str(folder)), seed=0)
    data = materialise(found, size=6, resize=resize, memory_budget_bytes=budget, scratch_dir=tmp_path)
    assert isinstance(data.train.images, np.memmap) == (budget == 0)
    assert [len(getattr(data, name)) for name in SPLITS] == [found.count(name) for name in SPLITS] == [24, 5, 5]
    assert {*data.train.files, *data.validation.files, *data.test.files} == {image.file for image in found.images}
    check_against_files(data, folder, 6, resize)
    assert data.notices == found.notices
    assert data.unreadable == ()


@pytest.mark.parametrize("pixels", [1, 300], ids=["alone", "a few at once"])
def test_how_many_are_decoded_at_once_makes_no_difference(folder, monkeypatch, pixels):
    cut_short(folder / "a" / "7.png")
    found = scan(Folder(str(folder)), seed=0)
    whole = materialise(found, size=6, resize="stretch")
    monkeypatch.setattr(dataset, "_BATCH_PIXELS", pixels)
    told = []
    data = materialise(found, size=6, resize="stretch", progress=lambda *state: told.append(state))
    check_against_files(data, folder, 6, "stretch")
    assert [bad.file for bad in data.unreadable] == [bad.file for bad in whole.unreadable] == ["a/7.png"]
    assert told == [(done, 34) for done in range(1, 35)]


def test_images_and_labels_cannot_be_changed_by_mistake(folder):
    data = materialise(scan(Folder(str(folder)), seed=0), size=6, resize="stretch")
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        data.train.labels[0] = 0


def test_progress_is_told_of_every_image(folder):
    told = []
    materialise(scan(Folder(str(folder)), seed=0), size=6, resize="stretch", progress=lambda *state: told.append(state))
    assert told == [(done, 34) for done in range(1, 35)]


@pytest.mark.parametrize("budget", [10**9, 0], ids=["in memory", "in a file"])
def test_damaged_images_are_left_out_and_listed(folder, tmp_path, budget):
    for file in ("a/0.png", "a/7.png", "b/3.png", "b/4.png"):
        cut_short(folder / file)
    (folder / "b" / "5.png").write_bytes(b"no image at all")
    found = scan(Folder(str(folder)), seed=1)
    assert len(found.images) == 33
    data = materialise(found, size=6, resize="stretch", memory_budget_bytes=budget, scratch_dir=tmp_path)
    check_against_files(data, folder, 6, "stretch")
    assert sum(len(getattr(data, name)) for name in SPLITS) == 29
    assert [bad.file for bad in data.unreadable] == ["b/5.png", "a/0.png", "a/7.png", "b/3.png", "b/4.png"]
    assert data.unreadable[1].reason == "damaged, or a kind of PNG that TensorFlow cannot decode"
    assert data.notices[-1].startswith("skipped 4 damaged files: a/0.png (damaged, or a kind of PNG")


def test_damaged_images_are_fatal_on_request(folder):
    cut_short(folder / "a" / "0.png")
    found = scan(Folder(str(folder)), seed=0, bad_images="error")
    with pytest.raises(InputError, match=r"Cannot read 1 file: a/0\.png"):
        materialise(found, size=6, resize="stretch")


def test_a_class_that_loses_its_training_images_is_refused(folder):
    found = scan(Folder(str(folder)), seed=0)
    for image in found.images:
        if image.file.startswith("b/") and image.split == "train":
            cut_short(folder / image.file)
    again = scan(Folder(str(folder)), seed=0)
    splits = {image.file: image.split for image in found.images}
    again = replace(again, images=tuple(replace(image, split=splits[image.file]) for image in again.images))
    with pytest.raises(InputError, match="No training image can be decoded of: b"):
        materialise(again, size=6, resize="stretch")


def test_a_split_that_loses_its_images_is_refused(put_images):
    root = put_images(*(file for name in "ab" for file in files(name, 6, "train/")), "test/a/0.png", "test/b/0.png")
    cut_short(root / "test" / "a" / "0.png")
    cut_short(root / "test" / "b" / "0.png")
    with pytest.raises(InputError, match="No test image can be decoded"):
        materialise(scan(Folder(str(root)), seed=0), size=6, resize="stretch")


def test_a_file_that_changes_meanwhile_is_noticed(folder):
    found = scan(Folder(str(folder)), seed=0)
    (folder / "a" / "3.png").write_bytes((folder / "a" / "4.png").read_bytes())
    with pytest.raises(InputError, match=r"'a/3\.png' has changed since it was first read"):
        materialise(found, size=6, resize="stretch")


def test_a_file_that_goes_meanwhile_is_noticed(folder):
    found = scan(Folder(str(folder)), seed=0)
    (folder / "a" / "3.png").unlink()
    with pytest.raises(InputError, match=r"'a/3\.png' can no longer be read \(No such file or directory\)"):
        materialise(found, size=6, resize="stretch")


class Shrinking(Digits):
    """A source that yields less the second time."""

    rounds = 0

    def __iter__(self):
        self.rounds += 1
        yield from itertools.islice(super().__iter__(), 100 if self.rounds == 1 else 99)


def test_a_source_that_changes_meanwhile_is_noticed():
    with pytest.raises(InputError, match="digits has changed since it was first read"):
        materialise(scan(Shrinking(), seed=0), size=4, resize="stretch")


def test_the_fingerprint_tells_data_sets_apart(folder):
    def fingerprint(seed=0, size=6, resize="stretch"):
        return materialise(scan(Folder(str(folder)), seed=seed), size=size, resize=resize).fingerprint

    first = fingerprint()
    assert first == fingerprint()
    assert len({first, fingerprint(seed=1), fingerprint(size=7), fingerprint(resize="pad")}) == 4
    (folder / "a" / "0.png").rename(folder / "a" / "renamed.png")
    assert fingerprint() == first
    (folder / "a" / "renamed.png").rename(folder / "b" / "0 of a.png")
    assert fingerprint() != first
