"""From a spec to a plain functional Keras model."""

import inspect
import os
from typing import Any

import keras

from zoo.blocks import BLOCKS
from zoo.errors import InputError
from zoo.heads import HEADS
from zoo.models import MODELS
from zoo.spec import ModelSpec, StageSpec
from zoo.stems import STEMS
from zoo.weights.load import load_weights


def build_model(
    name_or_spec: str | ModelSpec,
    *,
    input_shape: tuple[int | None, int | None, int],
    num_classes: int | None,
    weights: str | os.PathLike[str] | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """Build a model of the zoo.

    The result is a flat functional `keras.Model` of stock Keras layers: it can be cut at any layer, and a
    `.keras` file of it loads without this package. Layer names follow one grammar: `preprocess`, `stem_conv`,
    `stem_norm`, `stem_activation`, `stage{n}_block{m}_{part}`, `head_conv`, `head_norm`, `head_activation`,
    `head_pool`, `head_dropout`, `head_logits`.

    Args:
        name_or_spec: One of `zoo.list_models()`, or a `ModelSpec`.
        input_shape: `(height, width, channels)` of the images, pixels. Height and width may be `None`, for
            images of any size.
        num_classes: Number of logits. `None` ends the model after `head_pool`, with `(batch, features)`.
        weights: `None` for random weights; `"imagenet"` for the pretrained ones that `zoo.weights.manifest`
            lists; or the path of a `.keras`, `.weights.h5` or `.h5` file of a model with the same layer names
            (or of the publisher's `.pth` file). `head_logits` keeps its random weights if the file has
            another number of classes or none; everything else must fit.
        include_preprocessing: Whether the model normalises pixels itself, in the layer `preprocess`. Without
            it the model takes what `spec.preprocessing` makes of pixels.

    Input shape:
        `(batch, height, width, channels)`, pixels from 0 to 255, channels in the order red, green, blue.

    Output shape:
        `(batch, num_classes)`: logits, float32 under every dtype policy.

    Returns:
        The model.

    Raises:
        InputError: If the name is unknown, the input is too small for the model, or the weights are missing,
            damaged or do not fit.

    Example:
        ```python
        model = build_model(
            "efficientnet_lite0", input_shape=(224, 224, 3), num_classes=10, weights="imagenet"
        )
        logits = model(images)    # images: (batch, 224, 224, 3), 0 to 255
        ```
    """
    spec = name_or_spec if isinstance(name_or_spec, ModelSpec) else MODELS[name_or_spec]
    _check_input_shape(input_shape, spec)
    _check_num_classes(num_classes)
    _check_settings(spec)

    inputs = keras.Input(input_shape, dtype="float32", name="image")
    x = inputs
    if include_preprocessing:
        # float32 under every dtype policy: bfloat16 cannot tell neighbouring pixel values apart.
        x = keras.layers.Rescaling(
            spec.preprocessing.scale, spec.preprocessing.offset, dtype="float32", name="preprocess"
        )(x)
    x = STEMS[spec.stem.name](x, spec)
    for index, stage in enumerate(spec.stages, start=1):
        x = _build_stage(x, stage, spec, index)
    outputs = HEADS[spec.head.name](x, spec, num_classes)
    model = keras.Model(inputs, outputs, name=spec.name)
    if weights is not None:
        load_weights(model, spec, weights)
    return model


def _build_stage(inputs: Any, stage: StageSpec, spec: ModelSpec, index: int) -> Any:
    block = BLOCKS[stage.block]
    arguments = dict(stage.arguments)
    try:
        inspect.signature(block).bind(
            inputs, filters=stage.filters, strides=stage.strides, style=spec.style, name="", **arguments
        )
    except TypeError as error:
        raise InputError(f"Stage {index} of {spec.name}: block {stage.block!r}: {error}.") from None
    x = inputs
    for number in range(1, stage.depth + 1):
        x = block(
            x,
            filters=stage.filters,
            strides=stage.strides if number == 1 else 1,
            style=spec.style,
            name=f"stage{index}_block{number}",
            **arguments,
        )
    return x


def _check_input_shape(input_shape: object, spec: ModelSpec) -> None:
    sizes = input_shape if isinstance(input_shape, tuple | list) else ()
    if len(sizes) != 3 or not all(_is_count(size) or (size is None and axis < 2) for axis, size in enumerate(sizes)):
        raise InputError(
            "`input_shape` must be (height, width, channels), positive ints; height and width may be None. "
            f"Received: input_shape={input_shape!r}"
        )
    if any(size is not None and size < spec.smallest_image_size for size in sizes[:2]):
        raise InputError(
            f"{spec.name} reduces images {spec.output_stride} times: they need at least "
            f"{spec.smallest_image_size} pixels a side. Received: input_shape={input_shape!r}"
        )


def _check_num_classes(num_classes: object) -> None:
    if num_classes is not None and not _is_count(num_classes):
        raise InputError(
            "`num_classes` must be a positive int, or None for a model without a classifier. "
            f"Received: num_classes={num_classes!r}"
        )


def _check_settings(spec: ModelSpec) -> None:
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "The models of the zoo take images as (height, width, channels), but Keras is set to "
            "'channels_first'. Call keras.config.set_image_data_format('channels_last')."
        )
    try:
        keras.activations.get(spec.style.activation)
    except ValueError:
        raise InputError(
            f"Keras knows no activation {spec.style.activation!r}, which the style of {spec.name} names."
        ) from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
