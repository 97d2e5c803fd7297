"""The files of keras.applications in the manifest, against what the installed Keras asks for."""

import sys
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from zoo import InputError
from zoo.weights.keras_applications import FAMILIES, KERAS_FILES, find_keras_file
from zoo.weights.manifest import Download

APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]
# (application, width, image size) of all files; each exists with and without classifier.
MOBILENETS = [("MobileNet", alpha, size) for alpha in (0.25, 0.5, 0.75, 1.0) for size in (128, 160, 192, 224)]
MOBILENETS_V2 = [("MobileNetV2", alpha, size) for alpha in (0.35, 0.5, 0.75, 1.0) for size in (96, 128, 160, 192, 224)]
WIDE = [("MobileNetV2", alpha, 224) for alpha in (1.3, 1.4)]
MOBILENETS_V3 = [(f"MobileNetV3{kind}", alpha, 224) for kind in ("Small", "Large") for alpha in (0.75, 1.0)]
OTHERS = [(name, None, None) for name in APPLICATIONS if not name.startswith("MobileNet")]


class Anything:
    """Stands for every tensor and layer of a network, so that constructors build nothing."""

    shape = (None, 8, 8, 8)

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    __add__ = __radd__ = __mul__ = __rmul__ = __call__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class Asked(Exception):
    """Keras asked for a file: its name, its address and its checksum."""


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the constructors of keras.applications run up to the download, in no time."""

    def get_file(file_name: str, url: str, file_hash: str | None = None, **_: Any) -> None:
        raise Asked(url, file_hash)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    for module in [module for name, module in sys.modules.items() if name.startswith("keras.src.applications.")]:
        for name, value in vars(module).items():
            a_layer = isinstance(value, type) and issubclass(value, keras.Layer)
            if a_layer or (isinstance(value, ModuleType) and value is sys.modules["keras.src.layers"]):
                monkeypatch.setattr(module, name, Anything())


def what_keras_asks_for(application: str, **arguments: Any) -> tuple[str, str | None]:
    with pytest.raises(Asked) as asked:
        getattr(keras.applications, application)(weights="imagenet", **arguments)
    url, checksum = asked.value.args
    return url, checksum


@pytest.mark.parametrize("include_top", [True, False], ids=["with classifier", "without"])
@pytest.mark.filterwarnings("ignore:.*Weights for input shape:UserWarning")
@pytest.mark.usefixtures("nothing_is_built")
def test_keras_asks_for_the_files_of_the_manifest(include_top: bool) -> None:
    asked = set()
    for application, alpha, size in [*MOBILENETS, *MOBILENETS_V2, *WIDE, *MOBILENETS_V3, *OTHERS]:
        network = {"alpha": alpha, "input_shape": (size, size, 3)} if alpha else {}
        file = {"alpha": alpha, "image_size": size} if alpha else {}
        url, checksum = what_keras_asks_for(application, include_top=include_top, **network)
        entry = find_keras_file(application, include_top=include_top, **file)
        # A release of Keras with other files or checksums shows here.
        assert (entry.source, entry.sha256 or entry.md5) == (Download(url=url), checksum)
        assert (entry.num_classes == 1000) == include_top
        asked.add(entry)
    assert asked == {entry for entry in KERAS_FILES if (entry.num_classes == 1000) == include_top}


def test_only_mobilenets_are_without_a_published_checksum() -> None:
    without = {entry.model for entry in KERAS_FILES if entry.checksum == "first-use"}
    assert without == {"MobileNet", "MobileNetV2"}
    assert {entry.model for entry in KERAS_FILES} == set(APPLICATIONS)


# The others normalise themselves unless told not to; that their networks get what they were trained with is
# tested where they are built.
@pytest.mark.parametrize(
    "name", sorted(FAMILIES.keys() - {"EfficientNetV2-B", "EfficientNetV2", "ConvNeXt", "MobileNetV3"})
)
def test_values_are_in_the_range_that_the_preprocessing_of_keras_gives(name: str) -> None:
    module = sys.modules[getattr(keras.applications, FAMILIES[name].networks[0].application).__module__]
    values = module.preprocess_input(np.array([0.0, 255.0]).reshape(1, 1, 2, 1) * np.ones(3))
    for network in FAMILIES[name].networks:
        entry = find_keras_file(network.application, include_top=True, alpha=network.alpha)
        np.testing.assert_allclose(entry.value_range, (values.min(), values.max()), atol=1e-3)


@pytest.mark.parametrize(
    ("application", "alpha", "image_size", "found"),
    [
        ("MobileNetV2", 1.0, 96, 96),
        ("MobileNetV2", 1.0, 100, 224),
        ("MobileNetV2", 1.3, 96, 224),
        ("MobileNet", 0.25, 96, 224),
        ("MobileNet", 1, 500, 224),
        ("NASNetLarge", 1.0, 224, 331),
    ],
)
def test_the_file_for_an_image_size(application: str, alpha: float, image_size: int, found: int) -> None:
    entry = find_keras_file(application, include_top=False, alpha=alpha, image_size=image_size)
    assert (entry.alpha, entry.image_size) == (alpha, found)


def test_files_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match=r"Unknown network of keras\.applications 'VGG18'\. Did you mean VGG1"):
        find_keras_file("VGG18", include_top=True)
    with pytest.raises(InputError) as error:
        find_keras_file("MobileNet", include_top=True, alpha=0.3)
    assert str(error.value) == (
        "MobileNet has no published weights of this width; it has of 0.25, 0.5, 0.75, 1.0. Received: alpha=0.3"
    )
