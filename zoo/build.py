"""From a spec to a plain functional Keras model."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import keras

from zoo.blocks import BLOCKS
from zoo.checks import is_count
from zoo.errors import InputError
from zoo.heads import HEADS
from zoo.keras_errors import reason_of
from zoo.models import MODELS
from zoo.pools import pool_windows
from zoo.spec import ModelSpec, PoolSpec, PreprocessingSpec, StageSpec, as_pool
from zoo.stems import STEMS
from zoo.vary import vary
from zoo.weights.load import load_weights


def build_model(
    name_or_spec: str | ModelSpec,
    *,
    input_shape: tuple[int | None, int | None, int],
    num_classes: int | None,
    weights: str | os.PathLike[str] | None = None,
    depth: int | tuple[int, ...] | None = None,
    width: float | None = None,
    pool: str | PoolSpec | None = None,
    head_pool: str | PoolSpec | None = None,
    include_preprocessing: bool = True,
) -> keras.Model:
    """Build a model of the zoo.

    The result is a flat functional `keras.Model` that can be cut at any layer. Its layers are Keras's own, so
    that a `.keras` file of it loads without this package, but for those of pools other than `max`, `avg` and
    `flatten` (`import custom_ops`) and for stochastic depth (`import zoo.layers`). Layer names follow one
    grammar: `preprocess`, `stem_conv`, `stem_norm`, `stem_activation`, `stem_pool`,
    `stage{n}_block{m}_{part}`, `stage{n}_pool`, `head_conv`, `head_norm`, `head_activation`, `head_pool`,
    `head_dense{n}`, `head_dropout`, `head_logits`.

    Args:
        name_or_spec: One of `zoo.list_models()`, or a `ModelSpec`.
        input_shape: `(height, width, channels)` of the images, pixels. Height and width may be `None`, for
            images of any size, unless the head is flat.
        num_classes: Number of logits. `None` ends the model after `head_pool`, with `(batch, features)`.
        weights: `None` for random weights; `"imagenet"` for the pretrained ones that `zoo.weights.manifest`
            lists; or the path of a `.keras`, `.weights.h5` or `.h5` file of a model with the same layer names,
            or of the publisher's (`keras.applications`, or `.pth`). What pooling, the layers of the head and
            the channels of the images have changed keeps its random values, and `model.load_report` lists it;
            everything else must fit. See `zoo.weights.load`.
        depth: Blocks per stage, one number for all stages or a tuple. This and the next three are shorthand
            for `zoo.vary`.
        width: Multiplier of the channels.
        pool: What makes the feature map smaller between stages, by name or as a `PoolSpec`.
        head_pool: How the last feature map becomes one vector, by name or as a `PoolSpec`.
        include_preprocessing: Whether the model normalises pixels itself, in the layer `preprocess`. Without
            it the model takes what `spec.preprocessing` makes of pixels.

    Input shape:
        `(batch, height, width, channels)`, pixels from 0 to 255, channels in the order red, green, blue.

    Output shape:
        `(batch, num_classes)`: logits, float32 under every dtype policy.

    Returns:
        The model. With weights it has an attribute `load_report`, a `zoo.weights.load.LoadReport`.

    Raises:
        InputError: If a name is unknown, the input is too small for the model, or the weights are missing,
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
    spec = vary(spec, depth=depth, width=width, pool=pool, head_pool=head_pool)
    _check_input_shape(input_shape, spec)
    _check_num_classes(num_classes)
    _check_settings(spec)
    x = inputs = keras.Input(shape=tuple(input_shape), dtype="float32", name="image")
    if include_preprocessing:
        x = _preprocess(x, spec.preprocessing)
    if spec.stem:
        with _located("The stem", spec):
            x = STEMS[spec.stem.name](x, spec)
    for index, stage in enumerate(spec.stages, start=1):
        with _located(f"Stage {index}", spec):
            x = _build_stage(x, stage, spec, index)
    with _located("The head", spec):
        outputs = HEADS[spec.head.name](x, spec, num_classes)
    model = keras.Model(inputs, outputs, name=spec.name)
    if weights is not None:
        model.load_report = load_weights(model, spec, weights)
    return model


def _preprocess(pixels: Any, preprocessing: PreprocessingSpec) -> Any:
    offset: Any = preprocessing.offset
    coloured = pixels.shape[-1] == 3
    if isinstance(offset, tuple):
        offset = list(offset) if coloured else fmean(offset)
    # float32 under every dtype policy: 16 bits cannot tell neighbouring pixel values apart.
    x = keras.layers.Rescaling(preprocessing.scale, offset, dtype="float32", name="preprocess")(pixels)
    # No layer of Keras reverses an axis; the operation stands in the model all the same.
    return keras.ops.flip(x, axis=-1) if coloured and preprocessing.channel_order == "bgr" else x


def _build_stage(inputs: Any, stage: StageSpec, spec: ModelSpec, index: int) -> Any:
    block = BLOCKS[stage.block]
    arguments = dict(stage.arguments)
    try:
        inspect.signature(block).bind(
            inputs, filters=stage.filters, strides=stage.strides, style=spec.style, name="", **arguments
        )
    except TypeError as error:
        raise InputError(f"block {stage.block!r}: {error}.") from None
    pool = as_pool(stage.pool) if stage.pool else None
    x = inputs
    if pool and stage.pool_position == "before":
        x = pool_windows(x, pool, strides=stage.strides, name=f"stage{index}_pool")
    for number in range(1, stage.depth + 1):
        x = block(
            x,
            filters=stage.filters,
            strides=stage.strides if number == 1 and not pool else 1,
            style=spec.style,
            name=f"stage{index}_block{number}",
            **arguments,
        )
    if pool and stage.pool_position == "after":
        x = pool_windows(x, pool, strides=stage.strides, name=f"stage{index}_pool")
    return x


@contextmanager
def _located(part: str, spec: ModelSpec) -> Iterator[None]:
    """Say in which part of the network a mistake is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{part} of {spec.name}: {error}") from None
    except ValueError as error:  # what a layer says of its arguments or its input
        raise InputError(f"{part} of {spec.name}: {reason_of(error)}") from error


def _check_input_shape(input_shape: object, spec: ModelSpec) -> None:
    sizes = input_shape if isinstance(input_shape, tuple | list) else ()
    if len(sizes) != 3 or not all(is_count(size) or (size is None and axis < 2) for axis, size in enumerate(sizes)):
        raise InputError(
            "`input_shape` must be (height, width, channels), positive ints; height and width may be None. "
            f"Received: input_shape={input_shape!r}"
        )
    size = left = min((size for size in sizes[:2] if size is not None), default=spec.smallest_image_size)
    for part, strides in spec.reductions:
        if left < strides:
            raise InputError(
                f"{spec.name} reduces images {spec.output_stride} times: in {part} less than 1 of {size} pixels would "
                f"be left. Give images of at least {spec.smallest_image_size} pixels a side, or lower the `strides` "
                f"of {part} in the spec. Received: input_shape={input_shape!r}"
            )
        left //= strides


def _check_num_classes(num_classes: object) -> None:
    if num_classes is not None and not is_count(num_classes):
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
