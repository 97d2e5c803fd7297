import subprocess
import sys

import pytest

import zoo


def test_listing_models_does_not_import_tensorflow() -> None:
    program = (
        "import sys, zoo, zoo.weights.pretrained\n"
        "assert 'efficientnet_lite0' in zoo.list_models()\n"
        "assert zoo.MODELS['efficientnet_lite0'].image_size == 224\n"
        "assert zoo.weights.pretrained.find_pretrained(zoo.MODELS['vgg16'], 'imagenet')\n"
        "print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", zoo.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(zoo, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_modell'"):
        _ = zoo.build_modell
