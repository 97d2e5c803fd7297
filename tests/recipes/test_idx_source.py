"""IDX files, whole and broken: what comes out are exactly their pixels, or one line on what is wrong."""

import gzip
import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from recipes.parts import idx_source
from recipes.parts.dataset import materialise
from recipes.parts.idx_source import Idx
from recipes.parts.png import encode_png
from recipes.parts.scan import scan, scan_as_test
from recipes.parts.sources import SPLITS, open_source
from zoo.errors import InputError

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array, *, element_type=8):
    return bytes([0, 0, element_type, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def images(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (7, 7))), np.uint8)


def labels(count, classes=3):
    return (np.arange(count) % classes).astype(np.uint8)


@pytest.fixture
def put(tmp_path):
    """A function that writes 30 images for training and 12 for testing, and returns the folder."""

    def write(*shape, pack=False, train=TRAIN, test=TEST):
        for names, count, seed in ((train, 30, 1), (test, 12, 2)):
            for name, array in zip(names, (images(count, *shape, seed=seed), labels(count)), strict=False):
                content = idx(array)
                path = tmp_path / (f"{name}.gz" if pack else name)
                path.write_bytes(gzip.compress(content) if pack else content)
        return tmp_path

    return write


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
def test_images_labels_and_splits_come_out(put, pack):
    root = put(pack=pack)
    source = open_source(f"idx:{root}")
    assert source.name == f"idx:{root}"
    assert source.classes == ("0", "1", "2")
    assert source.splits == ("train", "test")
    assert source.notices == ()
    examples = list(source)
    assert len(source) == len(examples) == 42
    assert [example.file for example in examples[28:32]] == ["train/28", "train/29", "test/0", "test/1"]
    assert [example.split for example in examples] == ["train"] * 30 + ["test"] * 12
    assert [example.label for example in examples] == [*labels(30), *labels(12)]
    for example, pixels in zip(examples, (*images(30, seed=1), *images(12, seed=2)), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(example.read()))), pixels)


@pytest.mark.parametrize("shape", [(7, 7), (7, 7, 1), (7, 7, 3)], ids=str)
def test_the_pixels_are_exactly_those_of_the_files(put, shape):
    """At the size that they have, through everything that images from other sources go through too."""
    source = Idx(str(put(*shape)))
    data = materialise(scan(source, seed=0), size=7, resize="stretch")
    assert [len(getattr(data, name)) for name in SPLITS] == [24, 6, 12]
    whole = {"train": images(30, *shape, seed=1), "test": images(12, *shape, seed=2)}
    for split in (data.train, data.validation, data.test):
        for pixels, label, file in zip(split.images, split.labels, split.files, strict=True):
            given_as, index = file.split("/")
            original = whole[given_as][int(index)]
            expected = original if original.shape == (7, 7, 3) else original.reshape(7, 7, 1).repeat(3, axis=2)
            assert np.array_equal(pixels, expected)
            assert label == int(index) % 3


def test_either_pair_is_enough(put):
    root = put(test=())
    source = Idx(str(root))
    assert source.splits == ("train",)
    found = scan(source, seed=0)
    assert [found.count(split) for split in SPLITS] == [18, 6, 6]
    for name, other in zip(TRAIN, TEST, strict=True):
        (root / name).rename(root / other)
    with pytest.raises(InputError, match=r"none to train on: add train-images-idx3-ubyte\[\.gz\] and train-labels"):
        Idx(str(root))
    source = open_source(f"idx:{root}", for_training=False)
    assert source.splits == ("test",)
    assert scan_as_test(source, ["2", "1", "0", "more"]).count("test") == 30


def test_classes_may_have_names(put):
    root = put()
    (root / "labels.txt").write_text("\ufeffT-shirt/top\r\n  Ankle boot \nñandú\n\n", encoding="utf-8")
    assert Idx(str(root)).classes == ("T-shirt/top", "Ankle boot", "ñandú")


def test_classes_without_images_are_left_out(put):
    root = put()
    for names in (TRAIN, TEST):
        path = root / names[1]
        path.write_bytes(idx(2 * labels(30 if names is TRAIN else 12) + 1))
    assert Idx(str(root)).classes == ("1", "3", "5")
    (root / "labels.txt").write_text("zero\none\ntwo\nthree\nfour\nfive\n")
    source = Idx(str(root))
    assert source.classes == ("one", "three", "five")
    assert source.notices == ("left out classes without any image: zero, two, four",)
    assert [example.label for example in source][:4] == [0, 1, 2, 0]


def test_what_is_compressed_shows_in_the_content(put):
    """Browsers unpack files and leave their names as they were."""
    root = put()
    (root / TRAIN[0]).rename(root / f"{TRAIN[0]}.gz")
    (root / TRAIN[1]).write_bytes(gzip.compress((root / TRAIN[1]).read_bytes()))
    assert len(Idx(str(root))) == 42


def test_files_of_four_dimensions_may_be_called_so(put):
    assert len(Idx(str(put(7, 7, 3, train=("train-images-idx4-ubyte", TRAIN[1]))))) == 42


def test_a_folder_at_home_is_understood(put, monkeypatch):
    root = put()
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert len(open_source(f"idx:~/{root.name}")) == 42


# Broken files


def header(*sizes, element_type=8):
    return bytes([0, 0, element_type, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


WHOLE = idx(images(30, seed=1))
BROKEN = {
    "empty": (b"", r"no IDX file, which begins with two zero bytes\. Received: nothing"),
    "three bytes": (b"\0\0\x08", "Received: 00 00 08"),
    "a web page": (b"<!DOCTYPE html>", "no IDX file, which begins with two zero bytes. Received: 3c 21 44 4f"),
    "floats": (header(30, 7, 7, element_type=0x0D), "type 0x0d; only unsigned bytes, 0x08"),
    "signed": (header(30, 7, 7, element_type=0x09), "type 0x09"),
    "labels in their place": (idx(labels(30)), r"1 dimension; expected 3, \(images, height, width\) or 4, "),
    "no dimensions": (header(), "0 dimensions"),
    "flat": (header(30, 49), "2 dimensions"),
    "half a header": (header(30, 7, 7)[:9], "ends in its header"),
    "no images": (header(0, 7, 7), "declares 0 x 7 x 7 bytes, which is none"),
    "no pixels": (header(30, 7, 0), "declares 30 x 7 x 0 bytes, which is none"),
    "two channels": (idx(images(30, 7, 7, 2)), "have 2 channels: make it 1 for grey, or 3 for RGB"),
    "cut short": (WHOLE[:-1], "ends after 1,469 of the 1,470 bytes"),
    "too long": (WHOLE + b"\0", "goes on after the 1,470 bytes"),
    "an absurd number": (header(2**32 - 1, 28, 28), "no more than 1,024 MiB"),
    "absurdly large images": (header(1, 2**14, 2**13), "no more than 1,024 MiB, and 64 megapixels an image"),
    "another number": (idx(images(29)), r"holds 29 images and '.*train-labels-idx1-ubyte(\.gz)?' 30 labels"),
}


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_one_line_that_names_it(put, content, message, pack):
    root = put(pack=pack)
    path = root / (f"{TRAIN[0]}.gz" if pack else TRAIN[0])
    path.write_bytes(gzip.compress(content) if pack else content)
    with pytest.raises(InputError, match=message) as refusal:
        Idx(str(root))
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def damage(name):
    packed = gzip.compress(WHOLE)
    return {
        "cut short": packed[: len(packed) // 2],
        "without its end": packed[:-8],
        "another checksum": packed[:-8] + b"\1\2\3\4" + packed[-4:],
        "no deflate": packed[:10] + b"\xff" * 50 + packed[60:],
        "something behind": packed + b"something",
        "only the first bytes": packed[:2],
        "unknown compression": packed[:2] + b"\x09" + packed[3:],
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cut short", "it is damaged .* Get it again"),
        ("without its end", "it is damaged"),
        ("another checksum", "it is damaged .*CRC"),
        ("no deflate", "it is damaged"),
        ("something behind", "it is damaged"),
        ("only the first bytes", "it is damaged"),
        ("unknown compression", "it is damaged"),
    ],
)
def test_a_damaged_gzip_file_is_one_line_that_names_it(put, name, message):
    root = put(pack=True)
    (root / f"{TRAIN[0]}.gz").write_bytes(damage(name))
    with pytest.raises(InputError, match=message) as refusal:
        Idx(str(root))
    assert f"{TRAIN[0]}.gz" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_bomb_takes_no_more_memory_than_its_header_declares(put):
    root = put(pack=True)
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(WHOLE) + b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    (root / f"{TRAIN[0]}.gz").write_bytes(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="goes on after"):
            Idx(str(root))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_limit_holds_for_all_images_together(put, monkeypatch):
    root = put()
    monkeypatch.setattr(idx_source, "_MOST_BYTES", 30 * 49)
    assert len(Idx(str(root))) == 42
    monkeypatch.setattr(idx_source, "_MOST_BYTES", 30 * 49 - 1)
    with pytest.raises(InputError, match="declares 30 x 7 x 7 bytes"):
        Idx(str(root))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from((*TRAIN, *TEST)), pack=st.booleans())
def test_whatever_happens_to_a_file_is_an_input_error_or_harmless(put, data, name, pack):
    root = put()
    content = (root / name).read_bytes()
    content = gzip.compress(content, mtime=0) if pack else content
    spoiled = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        spoiled[data.draw(st.integers(0, min(len(spoiled) - 1, 40)))] = data.draw(st.integers(0, 255))
    spoiled = bytes(spoiled[: data.draw(st.integers(0, len(spoiled)))]) + data.draw(st.binary(max_size=4))
    (root / name).write_bytes(spoiled)
    try:
        source, refusal = Idx(str(root)), name
    except InputError as error:
        source, refusal = (), str(error)
    assert name in refusal
    assert "\n" not in refusal
    # If it is harmless there are as many images as labels, and reading them cannot fail.
    assert all(0 <= example.label < len(source.classes) and example.read() for example in source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a\nb\n", "has 2 names, but the label 2 occurs. Write the name of each class into it"),
        (b"", "has an empty line"),
        (b"a\n\nb\nc\n", "has an empty line"),
        (b"a\nb\na\n", "has 'a' twice"),
        (b"a\xff\nb\nc\n", "no text in UTF-8"),
        (b"a\nb\n" + 2**16 * b"c", "longer than 65,536 bytes"),
    ],
)
def test_names_that_cannot_be_used_are_refused(put, text, message):
    root = put()
    (root / "labels.txt").write_bytes(text)
    with pytest.raises(InputError, match=rf"labels\.txt'.*{message}") as refusal:
        Idx(str(root))
    assert "\n" not in str(refusal.value)


# Missing files


def test_without_files_all_that_is_looked_for_is_listed(tmp_path):
    with pytest.raises(InputError) as refusal:
        Idx(str(tmp_path))
    assert all(f"{name}[.gz]" in str(refusal.value) for name in (*TRAIN, *TEST))


@pytest.mark.parametrize(("gone", "left"), [TRAIN, TRAIN[::-1], TEST, TEST[::-1]])
def test_half_a_pair_is_refused_with_what_to_add(put, gone, left):
    root = put()
    (root / gone).unlink()
    with pytest.raises(InputError, match=rf"{left}' is there without {gone}\[\.gz\]"):
        Idx(str(root))


def test_a_path_that_is_no_folder_is_refused(put):
    root = put()
    with pytest.raises(InputError, match="is a file: give the folder that it is in"):
        open_source(f"idx:{root / TRAIN[0]}")
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"idx:{root / 'nothing'}")


def test_what_is_no_regular_file_is_refused(put):
    root = put()
    (root / TRAIN[0]).unlink()
    (root / TRAIN[0]).mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        Idx(str(root))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_not_waited_for(put):
    root = put()
    os.mkfifo(root / "labels.txt")
    with pytest.raises(InputError, match="not a regular file"):
        Idx(str(root))


# The PNG files that images are handed out as


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 4, 1), (5, 3, 3), (300, 250), (200, 150, 3)], ids=str)
def test_a_png_holds_the_pixels(shape):
    """Also where they take more than one block of 65,535 bytes."""
    pixels = images(1, *shape)[0]
    opened = Image.open(io.BytesIO(encode_png(pixels)))
    assert opened.mode == ("RGB" if shape[2:] == (3,) else "L")
    assert np.array_equal(np.asarray(opened), pixels.reshape(shape[:2]) if opened.mode == "L" else pixels)


def test_a_png_is_the_same_bytes_everywhere():
    """Splits are drawn by content: other bytes would be other splits."""
    assert encode_png(np.array([[0, 255]], np.uint8)).hex() == (
        "89504e470d0a1a0a"
        "0000000d4948445200000002000000010800000000d1492056"
        "0000000e494441547801010300fcff0000ff01020100b7012ef7"
        "0000000049454e44ae426082"
    )
