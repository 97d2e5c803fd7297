"""MobileNetV1: depthwise-separable convolutions, and one number for its width.

The same as in `keras.applications`, whose weights fit. Fractions of channels are dropped.

Reference:
    - [Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
      Applications](https://arxiv.org/abs/1704.04861)
"""

import dataclasses

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec
from zoo.vary import vary

# Width multipliers with published weights.
WIDTHS = (0.25, 0.5, 0.75, 1.0)
# Filters, depth, strides.
_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
_TEST_STAGES = ((8, 1, 1), (16, 2, 2))


def mobilenet_v1(
    name: str, *, filters: int = 32, stages: tuple[tuple[int, int, int], ...] = _STAGES, image_size: int = 224
) -> ModelSpec:
    """MobileNetV1 of width 1.

    Args:
        name: Name of the model.
        filters: Channels of the stem.
        stages: Filters, depth and strides of each stage.
        image_size: Height and width that the model is designed for, pixels.

    Returns:
        The spec.
    """
    return ModelSpec(
        name=name,
        family="mobilenet_v1",
        image_size=image_size,
        preprocessing=PreprocessingSpec(scale=1 / 127.5, offset=-1.0),
        style=StyleSpec(activation="relu6"),
        stem=StemSpec(filters=filters),
        stages=tuple(
            StageSpec(block="separable", filters=filters, depth=depth, strides=strides, arguments={"pad_end": True})
            for filters, depth, strides in stages
        ),
        head=HeadSpec(name="pool", dropout=0.001),
    )


_BASE = mobilenet_v1("mobilenet_v1")
SPECS = (
    mobilenet_v1("test_mobilenet_v1", filters=4, stages=_TEST_STAGES, image_size=32),
    *(dataclasses.replace(vary(_BASE, width=width), name=f"mobilenet_v1_{width}") for width in WIDTHS),
    _BASE,
)
