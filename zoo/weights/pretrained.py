"""Which published file has the weights of a model, however the model was varied.

Data and look-ups only: nothing is downloaded or loaded here.
"""

from zoo.errors import InputError
from zoo.models import MODELS, mobilenet_v1, mobilenet_v2
from zoo.registry import unknown_name
from zoo.spec import ModelSpec
from zoo.vary import same_backbone
from zoo.weights.keras_applications import find_keras_file
from zoo.weights.manifest import WEIGHTS
from zoo.weights.weight_file import WeightFile

# Our model: the constructor in `keras.applications` with the same layers, and its width.
KERAS_MODELS: dict[str, tuple[str, float]] = {
    "vgg16": ("VGG16", 1.0),
    "vgg19": ("VGG19", 1.0),
    **{f"mobilenet_v1_{width}": ("MobileNet", width) for width in mobilenet_v1.WIDTHS},
    "mobilenet_v1": ("MobileNet", 1.0),
    **{f"mobilenet_v2_{width}": ("MobileNetV2", width) for width in mobilenet_v2.WIDTHS},
    "mobilenet_v2": ("MobileNetV2", 1.0),
}
PRETRAINED = (*KERAS_MODELS, *(entry.model for entry in WEIGHTS))


def find_pretrained(
    spec: ModelSpec, name: str, *, image_size: int | None = None, num_classes: int | None = 1000
) -> WeightFile:
    """Return the file of pretrained weights for a model.

    It is that of the model in `PRETRAINED` with the same stem and stages, so that a varied model finds the
    weights of what it was made from, and `mobilenet_v2` with `width=0.35` those of `mobilenet_v2_0.35`.

    Args:
        spec: The model.
        name: Name of the weights, such as `"imagenet"`.
        image_size: Height and width of the images, pixels, if known: some networks have a file for each size.
        num_classes: Number of classes. Where no layer of the file's classifier would fit, the smaller file
            without one is taken, if it exists.

    Raises:
        InputError: If there is none; the message says what there is.
    """
    candidates = (spec.name, *PRETRAINED) if spec.name in PRETRAINED else PRETRAINED
    published = next((other for other in candidates if same_backbone(MODELS[other], spec)), None)
    if published is None:
        varied = " with another depth, width or style" if spec.name in PRETRAINED else ""
        raise InputError(
            f"There are no pretrained weights {name!r} for {spec.name}{varied}. "
            f"Models that have them: {', '.join(PRETRAINED)}. `weights` may also be the path of a file."
        )
    if name != "imagenet":
        raise unknown_name(f"pretrained weights for {spec.name}:", name, ["imagenet"])
    if published not in KERAS_MODELS:
        return next(entry for entry in WEIGHTS if entry.model == published)
    application, width = KERAS_MODELS[published]
    include_top = num_classes == 1000 or (num_classes is not None and bool(spec.head.hidden))
    return find_keras_file(application, include_top=include_top, alpha=width, image_size=image_size or spec.image_size)
