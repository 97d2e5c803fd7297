"""Every model of the zoo by name: one file per family, specs as data."""

from zoo.models import efficientnet_lite
from zoo.registry import Registry
from zoo.spec import ModelSpec

MODELS: Registry[ModelSpec] = Registry("model")
for _spec in efficientnet_lite.SPECS:
    MODELS.add(_spec.name, _spec)


def list_models() -> list[str]:
    """Return the names that `build_model` takes, family by family, small to large."""
    return list(MODELS)
