"""Every network that can be fine-tuned, in one table: the models of `zoo` and those of `keras.applications`.

Data only: importing this module does not import TensorFlow. `recipes.parts.classifier` builds what stands
here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from zoo.errors import InputError
from zoo.models import MODELS
from zoo.registry import unknown_name
from zoo.weights import keras_applications
from zoo.weights.keras_applications import Preprocessing as Preprocessing
from zoo.weights.manifest import PackageFile
from zoo.weights.packages import locate_package_file
from zoo.weights.pretrained import find_pretrained

BlockPatterns: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its classifier."""

    name: str
    library: Literal["zoo", "keras.applications"]
    family: str
    preprocessing: Preprocessing
    """What is done to pixels from 0 to 255 before the network sees them: see
    `zoo.weights.keras_applications.Family`."""
    smallest_size: int
    """Height and width of the smallest image it takes, pixels."""
    default_size: int
    """Height and width of the images it was designed for, pixels."""
    block_patterns: BlockPatterns
    """How layer names tell the block, for `recipes.parts.blocks.group_layers`."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Constructors of `keras.applications` that share everything but their size."""

    name: str
    """In `zoo.weights.keras_applications.FAMILIES`, which says what the published weights were trained with."""
    smallest_size: int = 32
    block_patterns: BlockPatterns

    @property
    def preprocessing(self) -> Preprocessing:
        """As in `Backbone`."""
        return keras_applications.FAMILIES[self.name].preprocessing

    @property
    def default_sizes(self) -> dict[str, int]:
        """By constructor: height and width of the images it was designed for, pixels."""
        # MobileNets are there several times; the last one is for the largest images.
        return {network.application: network.image_size for network in keras_applications.FAMILIES[self.name].networks}


# Layers whose names match nothing, many of them automatic, are sorted in by their place in the graph.
_EFFICIENTNET_BLOCKS = ((r"stem_.*", "stem"), (r"(block\d[a-z]+)_.*", r"\1"), (r"top_.*", "top"))
_RESNET_BLOCKS = ((r"(?:conv1|pool1)_.*", "conv1"), (r"(conv\d_block\d+)_.*", r"\1"))

FAMILIES = (
    Family(name="EfficientNet", block_patterns=_EFFICIENTNET_BLOCKS),
    Family(name="EfficientNetV2-B", block_patterns=_EFFICIENTNET_BLOCKS),
    Family(name="EfficientNetV2", block_patterns=_EFFICIENTNET_BLOCKS),
    Family(
        name="ConvNeXt",
        block_patterns=(
            (r"convnext_[a-z]+_stem", "stem"),
            (r"convnext_[a-z]+_(stage_\d_block_\d+)_.*", r"\1"),
            (r"convnext_[a-z]+_(downsampling_block_\d)", r"\1"),
        ),
    ),
    Family(
        name="MobileNet",
        block_patterns=((r"conv1(?:_.*)?", "stem"), (r"conv_(?:pad|dw|pw)_(\d+)(?:_.*)?", r"block_\1")),
    ),
    Family(
        name="MobileNetV2",
        block_patterns=(
            (r"Conv1|bn_Conv1|Conv1_relu", "stem"),
            (r"expanded_conv_.*", "block_0"),
            (r"(block_\d+)_.*", r"\1"),
            (r"Conv_1|Conv_1_bn|out_relu", "top"),
        ),
    ),
    Family(
        name="MobileNetV3",
        block_patterns=(
            (r"conv|conv_bn", "stem"),
            (r"(expanded_conv_\d+)_.*", r"\1"),
            (r"expanded_conv_.*", "expanded_conv"),
            (r"conv_1|conv_1_bn", "top"),
        ),
    ),
    Family(name="ResNet", block_patterns=_RESNET_BLOCKS),
    Family(name="ResNetV2", block_patterns=_RESNET_BLOCKS),
    Family(
        name="DenseNet",
        block_patterns=(
            (r"conv1_.*|pool1", "conv1"),
            (r"(conv\d_block\d+)_.*", r"\1"),
            (r"(pool\d)_.*", r"\1"),
        ),
    ),
    Family(
        name="VGG",
        block_patterns=((r"(block\d)_.*", r"\1"),),
    ),
    Family(
        name="Xception",
        smallest_size=71,
        block_patterns=((r"(block\d+)_.*", r"\1"),),
    ),
    Family(
        name="InceptionV3",
        smallest_size=75,
        block_patterns=((r"(mixed\d+)", r"\1"),),
    ),
    Family(
        name="InceptionResNetV2",
        smallest_size=75,
        block_patterns=(
            (r"(mixed_\d[ab])", r"\1"),
            (r"(block\d+_\d+)_.*", r"\1"),
            (r"(conv_7b)(?:_.*)?", r"\1"),
        ),
    ),
    Family(
        name="NASNet",
        # Each cell reads the two cells before it: no single tensor crosses between them, but names tell.
        block_patterns=(
            (r"stem_(?:conv|bn)1", "stem"),
            (r"(?:adjust|normal|reduction|separable_conv)_.*?(stem_\d|reduce_\d+)", r"\1"),
            (r"(?:adjust|normal|reduction|separable_conv)_.*?_(\d+)", r"cell_\1"),
        ),
    ),
)

# The layer names of every model of `zoo` follow one grammar.
ZOO_BLOCKS: BlockPatterns = (
    (r"stem_.*", "stem"),
    (r"(stage\d+_block\d+)_.*", r"\1"),
    (r"head_(?:conv|norm|activation)", "head_conv"),
    (r"head_.*", "head"),
)


def _keras_backbones() -> dict[str, Backbone]:
    return {
        name: Backbone(
            name=name,
            library="keras.applications",
            family=family.name,
            preprocessing=family.preprocessing,
            smallest_size=family.smallest_size,
            default_size=size,
            block_patterns=family.block_patterns,
        )
        for family in FAMILIES
        for name, size in family.default_sizes.items()
    }


def _zoo_backbone(name: str) -> Backbone:
    spec = MODELS[name]
    return Backbone(
        name=name,
        library="zoo",
        family=spec.family,
        preprocessing="included",
        smallest_size=spec.smallest_image_size,
        default_size=spec.image_size,
        block_patterns=ZOO_BLOCKS,
    )


_KERAS = _keras_backbones()

_WEIGHT_SUFFIXES = {"zoo": (".keras", ".h5", ".pth"), "keras.applications": (".keras", ".h5")}


def names() -> tuple[str, ...]:
    """The names of all backbones: the models of `zoo`, then those of `keras.applications` by family."""
    return (*MODELS, *_KERAS)


def find(name: str) -> Backbone:
    """The backbone of this name.

    Raises:
        InputError: If there is none; the message has the closest names and all of them.

    Example:
        ```python
        find("MobileNetV2").smallest_size    # 32
        ```
    """
    if name in MODELS:
        return _zoo_backbone(name)
    if name not in _KERAS:
        raise unknown_name("backbone", name, names())
    return _KERAS[name]


def check_weights(backbone: Backbone, weights: str | None) -> None:
    """Refuse weights that cannot be right, before anything is built or TensorFlow is imported.

    What is inside a file, and whether a download succeeds, shows only when the weights are loaded.

    Args:
        backbone: What the weights are for.
        weights: `imagenet`, or the path of a file.

    Raises:
        InputError: If weights are left out, there is no such file, it is of a kind that this backbone's
            library does not read, or a model of `zoo` has no ImageNet weights, or their package is missing
            or damaged.
    """
    if weights is None or weights.lower() == "none":
        raise InputError(
            f"{backbone.name} needs weights, because this recipe only fine-tunes: it freezes batch norm, and with "
            "norms frozen at their initial values a network learns nothing. Give `imagenet` or the path of a file; "
            "`zoo train` trains from scratch"
        )
    if weights == "imagenet":
        if backbone.library == "zoo":
            entry = find_pretrained(MODELS[backbone.name], weights)
            if isinstance(entry.source, PackageFile):
                locate_package_file(entry)
        return
    path = Path(weights).expanduser()
    kinds = ", ".join(_WEIGHT_SUFFIXES[backbone.library])
    if not path.is_file():
        raise InputError(f"There is no file {weights!r}. Weights are `imagenet`, or the path of a file: {kinds}")
    if path.suffix not in _WEIGHT_SUFFIXES[backbone.library]:
        raise InputError(f"Weights for {backbone.name} are read from files of the kinds {kinds}. Received: {weights!r}")
