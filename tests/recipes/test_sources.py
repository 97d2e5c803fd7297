"""Sources by name, the built-in digits, and what every source must have to train on."""

import hashlib
import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from recipes.parts.folder import Folder
from recipes.parts.sources import check_trainable, open_source
from zoo.errors import InputError


def test_digits_are_scikit_learns_digits():
    source = open_source("digits")
    digits = load_digits()
    assert source.classes == tuple("0123456789")
    examples = list(source)
    assert len(examples) == len(source) == 1797
    assert [example.label for example in examples] == digits.target.tolist()
    assert len({example.file for example in examples}) == 1797
    assert all(example.split is None for example in examples)
    for index in (0, 7, 1796):
        pixels = np.asarray(Image.open(io.BytesIO(examples[index].read())))
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, np.round(digits.images[index] * 255 / 16))


def test_digits_are_the_same_bytes_everywhere():
    """Splits are drawn by content: other bytes would be other splits."""
    encoded = [example.read() for example in open_source("digits")]
    # 64 pixels and 8 filter types behind 11 bytes of framing: not compressed, whatever zlib does.
    assert all(struct.unpack_from(">I4s", file, 33) == (83, b"IDAT") for file in encoded)
    assert hashlib.sha256(b"".join(encoded)).hexdigest() == (
        "99bc00270a852e7abb9392c880d71140b8db2985c1b9e6dd215edb3aa2bd7138"
    )


def test_a_folder_is_opened_by_its_path(put_images):
    root = put_images("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    source = open_source(f"folder:{root}")
    assert isinstance(source, Folder)
    assert source.name == f"folder:{root}"


def test_a_home_folder_is_understood(put_images, monkeypatch):
    root = put_images("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    monkeypatch.setenv("HOME", str(root.parent))
    monkeypatch.setenv("USERPROFILE", str(root.parent))
    assert len(open_source(f"folder:~/{root.name}")) == 4


@pytest.mark.parametrize("text", ["digit", "", "folder", "Folder:x", "tfds", "http://example.org", "a\nb"])
def test_an_unknown_source_is_refused_with_the_choices(text):
    with pytest.raises(InputError, match="Give one of: digits, folder:PATH, idx:PATH, tfds:NAME") as refusal:
        open_source(text)
    assert "\n" not in str(refusal.value)


def test_a_bare_folder_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(InputError, match="write folder:"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([("a", "test"), ("b", "validation")], "no images to train on, only validation and test"),
        ([], "no images to train on, only none"),
        ([("a", None), ("b", None), ("b", None)], r"fewer than 2 images: a \(1\)"),
        ([("b", "train"), ("b", "test")], r"fewer than 2 images: a \(0\)"),
        (
            [("a", "train"), ("a", "train"), ("b", "test"), ("b", "test")],
            "class 'b' in test but not in train",
        ),
    ],
)
def test_what_is_not_enough_to_train_on_is_refused(images, message):
    with pytest.raises(InputError, match=message):
        check_trainable("digits", ["a", "b"], images)


def test_one_image_for_training_and_one_for_another_split_is_enough():
    check_trainable("digits", ["a", "b"], [("a", "train"), ("a", "test"), ("b", "train"), ("b", "validation")])


def test_a_misspelt_class_is_recognised():
    images = [("cat", "train")] * 2 + [("dog", "train")] * 2 + [("Cat", "test")]
    with pytest.raises(InputError, match=r"class 'Cat' in test but not in train \(should it be 'cat'\?\)"):
        check_trainable("digits", ["Cat", "cat", "dog"], images)


def test_sources_are_opened_without_tensorflow():
    code = (
        "import sys; from recipes.parts.sources import open_source; open_source('digits');"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
