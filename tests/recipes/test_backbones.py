"""The table of backbones, against Keras itself and without it."""

import subprocess
import sys

import keras
import pytest

from recipes.parts.backbones import FAMILIES, check_weights, find, names
from zoo import list_models
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.weights.pretrained import find_pretrained

KERAS_NAMES = sorted(name for family in FAMILIES for name in family.default_sizes)


def test_table_has_every_constructor_of_keras_applications():
    constructors = [name for name in dir(keras.applications) if name[0].isupper()]
    assert constructors == KERAS_NAMES


def test_names_are_those_of_the_zoo_and_of_keras():
    assert sorted(names()) == sorted([*list_models(), *KERAS_NAMES])
    assert [find(name).name for name in names()] == list(names())


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_keras_refuses_a_smaller_image(name):
    size = find(name).smallest_size - 1
    with pytest.raises(ValueError, match=f"at least {size + 1}"):
        getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))


# MobileNetV3 has a size of its own only with a classifier.
@pytest.mark.parametrize("name", [name for name in KERAS_NAMES if not name.startswith("MobileNetV3")])
def test_sizes_are_those_that_keras_states(name, monkeypatch):
    stated = {}

    class Stop(Exception):
        pass

    def obtain_input_shape(input_shape, *, default_size, min_size, **_):
        stated.update(default_size=default_size, smallest_size=min_size)
        raise Stop

    monkeypatch.setattr("keras.src.applications.imagenet_utils.obtain_input_shape", obtain_input_shape)
    with pytest.raises(Stop):
        getattr(keras.applications, name)(weights=None)
    backbone = find(name)
    assert stated == {"default_size": backbone.default_size, "smallest_size": backbone.smallest_size}


def test_importing_the_table_does_not_import_tensorflow():
    code = (
        "import sys\n"
        "from recipes.parts.backbones import check_weights, find, names\n"
        "assert [find(name) for name in names()]\n"
        "check_weights(find('MobileNetV2'), 'imagenet')\n"
        "check_weights(find('efficientnet_lite0'), 'imagenet')\n"
        "assert not {'tensorflow', 'keras', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("MobilNetV2", "MobileNetV2"),
        ("resnet-50", "ResNet50"),
        ("EfficientNetLite0", "efficientnet_lite0"),
        ("NasNetMobil", "NASNetMobile"),
    ],
)
def test_unknown_name_is_answered_with_the_closest_and_the_list(wrong, right):
    with pytest.raises(InputError) as caught:
        find(wrong)
    question, _, rest = str(caught.value).partition("?")
    assert repr(wrong) in question
    assert right in question
    assert all(name in rest for name in names())


@pytest.mark.parametrize("weights", [None, "none", "None"])
def test_no_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"needs weights.* only fine-tunes.*`zoo train` trains from scratch"):
        check_weights(find("MobileNetV2"), weights)


def test_weights_are_a_name_or_a_file(tmp_path):
    backbone = find("MobileNetV2")
    file = tmp_path / "some.weights.h5"
    with pytest.raises(InputError, match=r"some\.weights\.h5"):
        check_weights(backbone, str(file))
    file.touch()
    check_weights(backbone, str(file))
    check_weights(backbone, "imagenet")


@pytest.mark.parametrize(
    ("name", "suffix", "taken"),
    [
        ("MobileNetV2", ".keras", True),
        ("MobileNetV2", ".pth", False),
        ("MobileNetV2", ".txt", False),
        ("efficientnet_lite3", ".h5", True),
        ("efficientnet_lite3", ".pth", True),
        ("efficientnet_lite3", ".txt", False),
    ],
)
def test_files_of_other_kinds_are_refused(name, suffix, taken, tmp_path):
    file = tmp_path / f"some{suffix}"
    file.touch()
    if taken:
        check_weights(find(name), str(file))
    else:
        with pytest.raises(InputError, match=rf"Weights for {name} .*\.keras, .*some\{suffix}"):
            check_weights(find(name), str(file))


@pytest.mark.parametrize("name", ["efficientnet_lite3", "efficientnet_lite4"])
def test_a_model_without_pretrained_weights_is_refused(name):
    with pytest.raises(InputError, match=f"no pretrained weights 'imagenet' for {name}"):
        check_weights(find(name), "imagenet")


def test_a_missing_or_damaged_package_of_weights_is_refused(tmp_path, monkeypatch):
    entry = find_pretrained(MODELS["efficientnet_lite2"], "imagenet")
    package, _, inner_path = entry.source.path.partition("/")
    backbone = find("efficientnet_lite2")
    # Whatever is installed where this runs.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"not installed. Run: pip install {entry.source.requirement}"):
        check_weights(backbone, "imagenet")
    monkeypatch.undo()
    file = tmp_path / package / inner_path
    file.parent.mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    file.write_bytes(b"cut off")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="is damaged or another file"):
        check_weights(backbone, "imagenet")
