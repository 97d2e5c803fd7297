"""The manifest's data, and the packages that hold the files."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import pytest

from zoo import MODELS, InputError
from zoo.weights.manifest import KERAS_FILES, WEIGHTS, PackageFile, WeightFile
from zoo.weights.packages import locate_package_file
from zoo.weights.pretrained import find_pretrained


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda entry: f"{entry.model}-{entry.name}")
def test_entries_agree_with_their_models(entry: WeightFile) -> None:
    spec = MODELS[entry.model]
    assert find_pretrained(spec, entry.name) is entry
    assert entry.value_range == spec.preprocessing.value_range
    assert entry.image_size == spec.image_size
    assert entry.num_classes == 1000
    assert entry.sha256


@pytest.mark.parametrize("entry", [*WEIGHTS, *KERAS_FILES], ids=lambda entry: entry.file_name)
def test_every_fact_has_a_source(entry: WeightFile) -> None:
    assert entry.name == "imagenet"
    assert entry.licence in {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0"}
    for address in (entry.origin, entry.licence_source, entry.top1_source):
        assert address.startswith("https://")
    assert entry.num_classes in {1000, None}
    assert entry.top1 is None or 0.5 < entry.top1 < 0.9
    assert entry.value_range[0] < entry.value_range[1]
    assert entry.preprocessing
    assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32
    assert entry.md5 is None or len(bytes.fromhex(entry.md5)) == 16
    assert entry.checksum == ("published" if entry.sha256 or entry.md5 else "first-use")


def test_names_are_unique() -> None:
    assert len({(entry.model, entry.name) for entry in WEIGHTS}) == len(WEIGHTS)
    # Under its name a download is kept.
    assert len({entry.file_name for entry in KERAS_FILES}) == len(KERAS_FILES)


def test_a_model_without_weights() -> None:
    with pytest.raises(InputError) as error:
        find_pretrained(MODELS["efficientnet_lite4"], "imagenet")
    message = str(error.value)
    assert message.startswith("There are no pretrained weights 'imagenet' for efficientnet_lite4")
    assert "vgg16" in message
    assert "efficientnet_lite2. `weights` may also be the path of a file." in message


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"'imagenette'\. Did you mean imagenet\?"):
        find_pretrained(MODELS["efficientnet_lite0"], "imagenette")


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightFile:
    """An entry whose package is installed and would complain about being imported."""
    package = tmp_path / "some_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "models" / "weights.pth").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return dataclasses.replace(
        WEIGHTS[0],
        sha256=hashlib.sha256(b"weights").hexdigest(),
        source=PackageFile(distribution="some-weights", version="1.2", path="some_weights/models/weights.pth"),
    )


def test_a_package_is_found_without_being_imported(entry: WeightFile, tmp_path: Path) -> None:
    assert locate_package_file(entry) == tmp_path / "some_weights" / "models" / "weights.pth"
    assert "some_weights" not in sys.modules


def test_a_missing_package_names_the_command(entry: WeightFile) -> None:
    missing = dataclasses.replace(
        entry, source=PackageFile(distribution="no-weights", version="0.1", path="no_weights/weights.pth")
    )
    with pytest.raises(InputError) as error:
        locate_package_file(missing)
    assert str(error.value) == (
        f"The pretrained weights of efficientnet_lite0 are the file weights.pth (SHA-256 {entry.sha256}) "
        "of the package no-weights, which is not installed. Run: pip install no-weights==0.1"
    )


def test_a_missing_file_names_the_command(entry: WeightFile, tmp_path: Path) -> None:
    path = tmp_path / "some_weights" / "models" / "weights.pth"
    path.unlink()
    with pytest.raises(InputError) as error:
        locate_package_file(entry)
    assert str(error.value) == (
        f"The package some-weights lacks its file {path} (SHA-256 {entry.sha256}). "
        "Run: pip install --force-reinstall --no-deps some-weights==1.2"
    )


def test_a_wrong_checksum_names_both_and_the_command(entry: WeightFile, tmp_path: Path) -> None:
    path = tmp_path / "some_weights" / "models" / "weights.pth"
    path.write_bytes(b"weightz")
    with pytest.raises(InputError) as error:
        locate_package_file(entry)
    assert str(error.value) == (
        f"{path} is damaged or another file: its SHA-256 is {hashlib.sha256(b'weightz').hexdigest()}, "
        f"expected {entry.sha256}. Run: pip install --force-reinstall --no-deps some-weights==1.2"
    )
