"""Build a classifier: a pretrained backbone under a new head, as one flat model from pixels to logits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from recipes.parts.backbones import ZOO_BLOCKS, Backbone, Preprocessing, check_weights, find
from recipes.parts.blocks import Block, group_layers
from recipes.parts.keras_weights import checked_downloads, load_weights
from zoo.errors import InputError
from zoo.graph import Graph
from zoo.pools import pool_whole
from zoo.registry import unknown_name
from zoo.spec import PoolSpec, as_pool
from zoo.weights.fetch import Progress

# Mean and standard deviation of ImageNet's pixels, 0 to 255, red, green, blue.
_TORCH_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_TORCH_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_CAFFE_MEAN = (123.68, 116.779, 103.939)

# Families whose constructors would otherwise put preprocessing layers of their own in front.
_WITHOUT_PREPROCESSING = {"EfficientNetV2-B", "EfficientNetV2", "ConvNeXt", "MobileNetV3"}

_HEAD_POOL = "head_pool"


@dataclass(frozen=True)
class Classifier:
    """A model and what its layers belong to."""

    model: keras.Model
    """Functional, with no model inside it (but ConvNeXt's stem and downsampling are one Sequential layer each):
    float32 pixels from 0 to 255, `(batch, size, size, 3)`, to float32 logits `(batch, num_classes)`."""
    blocks: tuple[Block, ...]
    """From input to head."""


@dataclass(frozen=True)
class Network:
    """A pretrained network without a head, of which `with_head` makes classifiers."""

    backbone: Backbone
    model: keras.Model
    """From float32 pixels `(batch, size, size, 3)` to the last feature map `(batch, height, width, channels)`."""
    ends: Mapping[str, Any]
    """By the name of a block, from input to output, the symbolic tensor that it hands on."""
    pool: PoolSpec
    """How it was trained to make one vector of its last feature map."""
    pool_weights: Mapping[str, list[np.ndarray]]
    """By the names of its layers, what that pooling has learned; empty where it learns nothing."""


def build_classifier(
    backbone: Backbone | str,
    *,
    image_size: int,
    num_classes: int,
    weights: str,
    dropout: float = 0.2,
    cut: str | None = None,
    head_pool: str | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Build a pretrained network with a new head.

    The model is made of stock Keras layers alone, so that its `.keras` file loads without this package; only a
    `head_pool` other than `avg`, `max` and `flatten` wants `import custom_ops.layers` before.
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
        cut: The name of the last block that is kept; the head stands behind it. None keeps all.
        head_pool: How the last feature map becomes one vector: a name in `zoo.pools.POOLS`; None for what the
            backbone has, the mean as a rule.
        progress: Called with the bytes read so far and their total, if known, while weights are
            downloaded; never if none have to be. By default a bar is shown if the error stream is a terminal.

    Returns:
        The model and its blocks.

    Raises:
        InputError: If a name is unknown, the images are too small, or the weights are missing or do not
            fit.

    Example:
        ```python
        classifier = build_classifier("MobileNetV2", image_size=96, num_classes=10, weights="imagenet")
        logits = classifier.model(images)    # images: (batch, 96, 96, 3), 0 to 255
        ```
    """
    network = load_network(backbone, image_size=image_size, weights=weights, progress=progress)
    return with_head(network, num_classes=num_classes, dropout=dropout, cut=cut, head_pool=head_pool)


def load_network(
    backbone: Backbone | str, *, image_size: int, weights: str | None, progress: Progress | None = None
) -> Network:
    """Load a pretrained network once, to put as many heads on it as are wanted.

    Args:
        backbone: A backbone or its name.
        image_size: Height and width of the images, pixels.
        weights: As for `build_classifier`; or None, to count what a network costs without reading any.
        progress: As for `build_classifier`.

    Returns:
        The network.

    Raises:
        InputError: If the name is unknown, the images are too small, or the weights are missing or do not
            fit.

    Example:
        ```python
        network = load_network("MobileNetV2", image_size=96, weights="imagenet")
        whole = with_head(network, num_classes=10)
        small = with_head(network, num_classes=10, cut="block_12", head_pool="max")    # shares the layers of `whole`
        ```
    """
    if isinstance(backbone, str):
        backbone = find(backbone)
    if weights is not None:
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
        return _zoo_network(backbone, image_size, weights)
    return _keras_network(backbone, image_size, weights, progress)


def with_head(
    network: Network, *, num_classes: int, dropout: float = 0.2, cut: str | None = None, head_pool: str | None = None
) -> Classifier:
    """Put a new head on a network, whose layers the classifier shares.

    Args:
        network: As loaded. What trains in the classifier trains in the network.
        num_classes: Number of logits.
        dropout: Fraction, in [0, 1), of the pooled features that training drops.
        cut: As for `build_classifier`.
        head_pool: As for `build_classifier`.

    Returns:
        The model and its blocks.

    Raises:
        InputError: If there is no such block, or no such pooling of whole feature maps.
    """
    if cut is not None and cut not in network.ends:
        raise unknown_name("block", cut, network.ends)
    features = network.model.output if cut is None else network.ends[cut]
    pool = network.pool if head_pool is None else as_pool(head_pool)
    pooled = pool_whole(features, pool, name=_HEAD_POOL)
    x = keras.layers.Dropout(dropout, dtype="float32", name="head_dropout")(pooled)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
    model = keras.Model(network.model.input, logits, name=network.backbone.name)
    if cut is None and head_pool is None:
        for name, learned in network.pool_weights.items():
            model.get_layer(name).set_weights(learned)
    return Classifier(model, group_layers(model, network.backbone.block_patterns))


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


def _zoo_network(backbone: Backbone, image_size: int, weights: str | None) -> Network:
    # A flat head has a weight for every position of the last feature map: more than a few images can teach.
    own = as_pool(zoo.MODELS[backbone.name].head.pool)
    pool = PoolSpec("avg") if own.name == "flatten" else own
    model = zoo.build_model(
        backbone.name,
        input_shape=(image_size, image_size, 3),
        num_classes=None,
        weights=weights,
        head_pool=pool,
    )
    pooling = [layer for layer in model.layers if layer.name.startswith(_HEAD_POOL)]
    learned = {layer.name: layer.get_weights() for layer in pooling if layer.weights}
    return _network(backbone, model.input, pooling[0].input, pool, learned)


def _keras_network(backbone: Backbone, image_size: int, weights: str | None, progress: Progress | None) -> Network:
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
    if weights not in (None, "imagenet"):
        # Cut off `preprocess`: the rest has the layers of the stock network, in whose order files are.
        load_weights(keras.Model(pixels, network.output, name=backbone.name), Path(weights).expanduser())
    _normalise_in_float32(network)
    return _network(backbone, inputs, network.output, PoolSpec("avg"), {})


def _network(
    backbone: Backbone, inputs: Any, features: Any, pool: PoolSpec, pool_weights: Mapping[str, list[np.ndarray]]
) -> Network:
    model = keras.Model(inputs, features, name=backbone.name)
    return Network(backbone, model, _ends(model, backbone), pool, pool_weights)


def _ends(model: keras.Model, backbone: Backbone) -> dict[str, Any]:
    """By the name of a block, the last of the tensors that later blocks read: mostly there is only this one."""
    blocks = group_layers(model, backbone.block_patterns)
    block_of = {layer: index for index, block in enumerate(blocks) for layer in block.layers}
    graph = Graph(model)
    places: list[int] = []
    for call in graph.calls:
        # What is no layer belongs to the block whose output it reads, and what comes before all blocks to none.
        places.append(block_of.get(call.name, max((places[graph.producer(x)] for x in call.inputs), default=-1)))
    ends: dict[int, Any] = {}
    for index, call in enumerate(graph.calls):
        readers = [places[reader] for reader in graph.consumers[index]]
        until = len(blocks) if graph.is_output[index] else max(readers, default=-1)
        ends.update(dict.fromkeys(range(max(0, places[index]), until), call.outputs[0]))
    return {block.name: ends[index] for index, block in enumerate(blocks)}


def _normalise_in_float32(network: keras.Model) -> None:
    """Take EfficientNet's own preprocessing layers out of mixed precision."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it holds a copy of its weights in its former dtype
