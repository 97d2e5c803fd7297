"""Any network by its name, without trained weights, to see what it costs."""

from typing import TYPE_CHECKING

from recipes.parts import backbones
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.registry import unknown_name
from zoo.weights.keras_applications import find_keras_file
from zoo.weights.pretrained import PRETRAINED, find_pretrained
from zoo.weights.weight_file import WeightFile

if TYPE_CHECKING:
    from zoo.cost.costs import Description

# What the constructors of keras.applications put behind their last feature map.
_KERAS_HEADS = (
    r"avg_pool|global_average_pooling2d(?:_\d+)?|top_dropout|convnext_[a-z]+_head_.*|flatten|fc\d|predictions"
)


def check_network(name: str, *, image_size: int | None, num_classes: int) -> None:
    """Refuse what cannot be built, before TensorFlow is imported.

    Args:
        name: A model of the zoo or a constructor of `keras.applications`.
        image_size: Height and width of the images, pixels; None stands for what the network was designed for.
        num_classes: Outputs of the classifier.

    Raises:
        InputError: If the name is unknown or a number out of range.
    """
    if name not in backbones.names():
        raise unknown_name("model", name, backbones.names())
    smallest = backbones.find(name).smallest_size
    if image_size is not None and image_size < smallest:
        raise InputError(f"{name} takes images of at least {smallest} x {smallest} pixels. Received: {image_size}")
    if num_classes < 1:
        raise InputError(f"The number of classes is 1 or more. Received: {num_classes}")


def known_weights(name: str, image_size: int | None = None) -> tuple[WeightFile, ...]:
    """What the manifest has for a network: of each file, whence it comes and how good it is.

    Args:
        name: See `check_network`.
        image_size: Height and width of the images, pixels: for some networks there are files for several sizes.

    Returns:
        First the file with classifier, then the one without; possibly only one of them, or none.
    """
    backbone = backbones.find(name)
    size = image_size or backbone.default_size
    if backbone.library == "keras.applications":
        return tuple(find_keras_file(name, include_top=top, image_size=size) for top in (True, False))
    if name not in PRETRAINED:
        return ()
    files = (find_pretrained(MODELS[name], "imagenet", image_size=size, num_classes=top) for top in (1000, None))
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
        InputError: If the name is unknown or a number out of range.
    """
    check_network(name, image_size=image_size, num_classes=num_classes)
    import keras

    import zoo
    from recipes.parts.blocks import HEAD, group_layers
    from zoo.cost.describe import describe

    backbone = backbones.find(name)
    size = image_size or backbone.default_size
    if backbone.library == "zoo":
        shape = (size, size, MODELS[name].channels)
        model = zoo.build_model(name, input_shape=shape, num_classes=num_classes, depth=depth)
        return describe(model)
    if depth is not None:
        raise InputError(f"The depth of {name} cannot be changed: that takes a model of the zoo, see `zoo list`")
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=num_classes)
    blocks = group_layers(model, ((_KERAS_HEADS, HEAD), *backbone.block_patterns))
    return describe(model, stages={layer: block.name for block in blocks for layer in block.layers})
