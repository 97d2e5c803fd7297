"""Build a classifier: a pretrained backbone under a new head, as one flat model from pixels to logits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import zoo
from recipes.parts.backbones import ZOO_BLOCKS, Backbone, Preprocessing, check_weights, find
from recipes.parts.blocks import Block, group_layers
from recipes.parts.keras_weights import checked_downloads, load_weights
from zoo.errors import InputError
from zoo.spec import as_pool
from zoo.weights.fetch import Progress

# Mean and standard deviation of ImageNet's pixels, 0 to 255, red, green, blue.
_TORCH_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_TORCH_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_CAFFE_MEAN = (123.68, 116.779, 103.939)

# Families whose constructors would otherwise put preprocessing layers of their own in front.
_WITHOUT_PREPROCESSING = {"EfficientNetV2-B", "EfficientNetV2", "ConvNeXt", "MobileNetV3"}


@dataclass(frozen=True)
class Classifier:
    """A model and what its layers belong to."""

    model: keras.Model
    """Functional, with no model inside it (but ConvNeXt's stem and downsampling are one Sequential layer each):
    float32 pixels from 0 to 255, `(batch, size, size, 3)`, to float32 logits `(batch, num_classes)`."""
    blocks: tuple[Block, ...]
    """From input to head."""


def build_classifier(
    backbone: Backbone | str,
    *,
    image_size: int,
    num_classes: int,
    weights: str,
    dropout: float = 0.2,
    progress: Progress | None = None,
) -> Classifier:
    """Build a pretrained network with a new head.

    The model is made of stock Keras layers alone, so that its `.keras` file loads without this package.
    It begins with a layer `preprocess` (except EfficientNet B0 to B7, which begin with several layers of
    their own) and ends with `head_pool`, `head_dropout` and `head_logits`. Preprocessing and head are
    computed in float32 under every dtype policy.

    Args:
        backbone: A backbone or its name.
        image_size: Height and width of the images, pixels.
        num_classes: Number of logits.
        weights: `imagenet`, or the path of a `.keras`, `.weights.h5` or `.h5` file of the backbone, with
            or without a classifier, which is not used.
        dropout: Fraction, in [0, 1), of the pooled features that training drops.
        progress: Called with the bytes read so far and their total, if known, while weights are
            downloaded; never if none have to be. By default a bar is shown if the error stream is a terminal.

    Returns:
        The model and its blocks.

    Raises:
        InputError: If the name is unknown, the images are too small, or the weights are missing or do not
            fit.

    Example:
        ```python
        classifier = build_classifier("MobileNetV2", image_size=96, num_classes=10, weights="imagenet")
        logits = classifier.model(images)    # images: (batch, 96, 96, 3), 0 to 255
        ```
    """
    if isinstance(backbone, str):
        backbone = find(backbone)
    check_weights(backbone, weights)
    if image_size < backbone.smallest_size:
        raise InputError(
            f"{backbone.name} takes images of at least {backbone.smallest_size} x {backbone.smallest_size} "
            f"pixels. Received: image_size={image_size}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "Images are (height, width, channels) here, but Keras is set to 'channels_first': call "
            "keras.config.set_image_data_format('channels_last')"
        )
    if backbone.library == "zoo":
        inputs, features = _zoo_features(backbone, image_size, weights)
    else:
        inputs, features = _keras_features(backbone, image_size, weights, progress)
    x = keras.layers.Dropout(dropout, dtype="float32", name="head_dropout")(features)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
    model = keras.Model(inputs, logits, name=backbone.name)
    return Classifier(model, group_layers(model, backbone.block_patterns))


def build_untrained(spec: zoo.ModelSpec, *, image_size: int, num_classes: int) -> Classifier:
    """Build a model of the zoo as it is, with random weights.

    Args:
        spec: Of the model.
        image_size: Height and width of the images, pixels.
        num_classes: Number of logits.

    Returns:
        The model and its blocks.

    Raises:
        InputError: If a part that the spec names is unknown, or the images are too small.
    """
    model = zoo.build_model(spec, input_shape=(image_size, image_size, 3), num_classes=num_classes)
    return Classifier(model, group_layers(model, ZOO_BLOCKS))


def preprocess(kind: Preprocessing, pixels: Any) -> Any:
    """Normalise pixels as a network saw them in its training.

    Args:
        kind: See `Backbone.preprocessing`.
        pixels: Symbolic tensor `(batch, height, width, 3)`, red, green, blue from 0 to 255.

    Returns:
        Symbolic tensor of the same shape, float32, from a layer `preprocess`; with `included`, the pixels.
    """
    if kind == "included":
        return pixels
    scale: Any
    offset: Any
    if kind == "tf":
        scale, offset = 1 / 127.5, -1.0
    elif kind == "tf_128":
        scale, offset = 1 / 128, -1.0
    elif kind == "torch":
        scale = [1 / deviation for deviation in _TORCH_DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_TORCH_MEAN, _TORCH_DEVIATION, strict=True)]
    else:
        scale, offset = 1.0, [-mean for mean in _CAFFE_MEAN]
    # float32 under every dtype policy: 16 bits cannot tell neighbouring pixel values apart.
    x = keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess")(pixels)
    return keras.ops.flip(x, axis=-1) if kind == "caffe" else x


def _zoo_features(backbone: Backbone, image_size: int, weights: str) -> tuple[Any, Any]:
    # A flat head has a weight for every position of the last feature map: more than a few images can teach.
    flat = as_pool(zoo.MODELS[backbone.name].head.pool).name == "flatten"
    model = zoo.build_model(
        backbone.name,
        input_shape=(image_size, image_size, 3),
        num_classes=None,
        weights=weights,
        head_pool="avg" if flat else None,
    )
    return model.input, model.output


def _keras_features(backbone: Backbone, image_size: int, weights: str, progress: Progress | None) -> tuple[Any, Any]:
    shape = (image_size, image_size, 3)
    inputs = keras.Input(shape, dtype="float32", name="image")
    pixels = preprocess(backbone.preprocessing, inputs)
    # The constructor applies its layers to our tensor, which keeps the model flat.
    arguments = {"include_top": False, "input_tensor": pixels, "input_shape": shape}
    if backbone.family in _WITHOUT_PREPROCESSING:
        arguments["include_preprocessing"] = False
    constructor: Callable[..., keras.Model] = getattr(keras.applications, backbone.name)
    if weights == "imagenet":
        with checked_downloads(progress):
            network = constructor(weights="imagenet", **arguments)
    else:
        network = constructor(weights=None, **arguments)
        # Cut off `preprocess`: the rest has the layers of the stock network, in whose order files are.
        load_weights(keras.Model(pixels, network.output, name=backbone.name), Path(weights).expanduser())
    _normalise_in_float32(network)
    return inputs, keras.layers.GlobalAveragePooling2D(dtype="float32", name="head_pool")(network.output)


def _normalise_in_float32(network: keras.Model) -> None:
    """Take EfficientNet's own preprocessing layers out of mixed precision."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it holds a copy of its weights in its former dtype
