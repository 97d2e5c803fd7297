"""Any network by its name or by the file of its spec, without trained weights, to see what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING

from recipes.parts import backbones
from recipes.parts.names import printable
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.registry import unknown_name
from zoo.spec import ModelSpec
from zoo.weights.keras_applications import find_keras_file
from zoo.weights.pretrained import PRETRAINED, find_pretrained
from zoo.weights.weight_file import WeightFile

if TYPE_CHECKING:
    from zoo.cost.costs import Description

# What the constructors of keras.applications put behind their last feature map.
_KERAS_HEADS = (
    r"avg_pool|global_average_pooling2d(?:_\d+)?|top_dropout|convnext_[a-z]+_head_.*|flatten|fc\d|predictions"
)


def find_spec(name: str) -> ModelSpec:
    """Return the spec of a model of the zoo, or the one in a file.

    Call it when plugins have been loaded: they may have registered the name.

    Args:
        name: A name in `zoo.MODELS`, or the path of a JSON file that `ModelSpec.save` wrote, which ends in `.json`.
            The parts that the file names are looked up when the model is built.

    Returns:
        The spec.

    Raises:
        InputError: If the name is unknown, or the file is missing or holds no spec; the message begins with its name.

    Example:
        ```python
        find_spec("vgg_small").image_size    # 32
        find_spec("my_models/deeper.json")
        ```
    """
    if not _is_file_name(name):
        return MODELS[name]
    try:
        return ModelSpec.from_json(Path(name).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"cannot be read as the spec of a model: {error.strerror or error}"
    except UnicodeDecodeError:
        reason = "is no text, and so no spec of a model"
    except InputError as error:
        reason = str(error)
    raise InputError(f"{printable(name)}: {reason}")


def spec_of(name: str) -> ModelSpec | None:
    """Return the spec of a network: see `find_spec`; None for one of `keras.applications`, which has none.

    Raises:
        InputError: If there is no such network, or the file holds no spec.
    """
    if _is_file_name(name) or name in MODELS:
        return find_spec(name)
    if name not in backbones.names():
        raise unknown_name("model", name, backbones.names())
    return None


def _is_file_name(name: str) -> bool:
    return name.endswith(".json")


def check_network(name: str, *, image_size: int | None, num_classes: int) -> None:
    """Refuse what cannot be built, before TensorFlow is imported.

    Args:
        name: A model of the zoo or a constructor of `keras.applications`, or the path of a spec's JSON file.
        image_size: Height and width of the images, pixels; None stands for what the network was designed for.
        num_classes: Outputs of the classifier.

    Raises:
        InputError: If the name is unknown, the file holds no spec, or a number is out of range.
    """
    spec = spec_of(name)
    smallest = spec.smallest_image_size if spec is not None else backbones.find(name).smallest_size
    if image_size is not None and image_size < smallest:
        raise InputError(
            f"{printable(name)} takes images of at least {smallest} x {smallest} pixels. Received: {image_size}"
        )
    if num_classes < 1:
        raise InputError(f"The number of classes is 1 or more. Received: {num_classes}")


def known_weights(name: str, image_size: int | None = None) -> tuple[WeightFile, ...]:
    """What the manifest has for a network: of each file, whence it comes and how good it is.

    Args:
        name: See `check_network`. A model whose spec differs from the published one's has none of its own.
        image_size: Height and width of the images, pixels: for some networks there are files for several sizes.

    Returns:
        First the file with classifier, then the one without; possibly only one of them, or none.
    """
    spec = spec_of(name)
    if spec is None:
        size = image_size or backbones.find(name).default_size
        return tuple(find_keras_file(name, include_top=top, image_size=size) for top in (True, False))
    if spec.name not in PRETRAINED or spec != MODELS[spec.name]:
        return ()
    size = image_size or spec.image_size
    files = (find_pretrained(spec, "imagenet", image_size=size, num_classes=top) for top in (1000, None))
    return tuple(dict.fromkeys(files))


def describe_network(
    name: str, *, image_size: int | None = None, num_classes: int = 1000, depth: int | None = None
) -> "Description":
    """Build a network with its classifier, and find out what it costs.

    Args:
        name: See `check_network`, as for the next two.
        image_size: Height and width of the images, pixels.
        num_classes: Outputs of the classifier.
        depth: Blocks in each stage, for models of the zoo; None leaves the model's own.

    Returns:
        The costs. Stages are those of the zoo's layer names, or the blocks by which fine-tuning unfreezes a
        network of `keras.applications`.

    Raises:
        InputError: If the name is unknown or a number out of range, or if the spec in a file cannot be built.
    """
    check_network(name, image_size=image_size, num_classes=num_classes)
    import keras

    import zoo
    from recipes.parts.blocks import HEAD, group_layers
    from zoo.cost.describe import describe

    spec = spec_of(name)
    if spec is not None:
        size = image_size or spec.image_size
        model = zoo.build_model(spec, input_shape=(size, size, spec.channels), num_classes=num_classes, depth=depth)
        return describe(model)
    if depth is not None:
        raise InputError(f"The depth of {name} cannot be changed: that takes a model of the zoo, see `zoo list`")
    backbone = backbones.find(name)
    size = image_size or backbone.default_size
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=num_classes)
    blocks = group_layers(model, ((_KERAS_HEADS, HEAD), *backbone.block_patterns))
    return describe(model, stages={layer: block.name for block in blocks for layer in block.layers})
