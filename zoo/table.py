"""The table of models in the documentation, made from the models themselves."""

from collections.abc import Iterable

from zoo.models import MODELS
from zoo.spec import ModelSpec
from zoo.weights.pretrained import PRETRAINED, find_pretrained
from zoo.weights.weight_file import PackageFile, WeightFile

_HEADER = "| model | parameters | designed for | ImageNet top-1 | weights |\n|---|---|---|---|---|\n"


def model_table(names: Iterable[str] | None = None) -> str:
    """Return a Markdown table of models; `zoo/README.md` holds that of all.

    Every model is built to count its parameters, which takes half a minute for all of them.

    Args:
        names: Names of models; by default all.

    Returns:
        A row for each: name, parameters with 1,000 classes (10 for those designed for small images), the shape of
        the images it was designed for, what is reported of its weights, and where these come from.
    """
    return _HEADER + "\n".join(map(_row, MODELS if names is None else names)) + "\n"


def _row(name: str) -> str:
    spec = MODELS[name]
    entry = find_pretrained(spec, "imagenet") if name in PRETRAINED else None
    top1 = f"{entry.top1:.3f}" if entry and entry.top1 else ""
    size = " x ".join(map(str, spec.input_shape))
    return f"| `{name}` | {_parameters(spec):,} | {size} | {top1} | {_source(entry)} |"


def _parameters(spec: ModelSpec) -> int:
    from zoo.build import build_model

    num_classes = 1000 if spec.image_size >= 224 else 10
    return int(build_model(spec, input_shape=spec.input_shape, num_classes=num_classes).count_params())


def _source(entry: WeightFile | None) -> str:
    if entry is None:
        return ""
    return f"`{entry.source.distribution}`" if isinstance(entry.source, PackageFile) else "`keras.applications`"
