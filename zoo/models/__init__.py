"""Every model of the zoo by name: one file per family, specs as data."""

from zoo.models import efficientnet_lite, lenet, mobilenet_v1, mobilenet_v2, resnet, separable_vgg, vgg
from zoo.registry import Registry
from zoo.spec import ModelSpec

MODELS: Registry[ModelSpec] = Registry("model")
for _family in (lenet, vgg, separable_vgg, resnet, mobilenet_v1, mobilenet_v2, efficientnet_lite):
    for _spec in _family.SPECS:
        MODELS.add(_spec.name, _spec)


def list_models() -> list[str]:
    """Return the names that `build_model` takes, family by family, small to large."""
    return list(MODELS)
