"""MobileNetV2: inverted residuals with linear bottlenecks.

The same as in `keras.applications`, whose weights fit. Channels are multiples of 8, and the last convolution
becomes wider with the rest, but not narrower.

Reference:
    - [Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks](https://arxiv.org/abs/1801.04381)
"""

import dataclasses

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, ScalingSpec, StageSpec, StemSpec, StyleSpec
from zoo.vary import vary

# Width multipliers with published weights.
WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
# Filters, depth, strides, expansion.
_STAGES = (
    (16, 1, 1, 1),
    (24, 2, 2, 6),
    (32, 3, 2, 6),
    (64, 4, 2, 6),
    (96, 3, 1, 6),
    (160, 3, 2, 6),
    (320, 1, 1, 6),
)
_TEST_STAGES = ((8, 1, 1, 1), (8, 2, 2, 4))


def mobilenet_v2(
    name: str,
    *,
    filters: int = 32,
    stages: tuple[tuple[int, int, int, int], ...] = _STAGES,
    head_filters: int = 1280,
    image_size: int = 224,
) -> ModelSpec:
    """MobileNetV2 of width 1.

    Args:
        name: Name of the model.
        filters: Channels of the stem.
        stages: Filters, depth, strides and expansion of each stage.
        head_filters: Channels of the last convolution.
        image_size: Height and width that the model is designed for, pixels.

    Returns:
        The spec.
    """
    return ModelSpec(
        name=name,
        family="mobilenet_v2",
        image_size=image_size,
        preprocessing=PreprocessingSpec(scale=1 / 127.5, offset=-1.0),
        style=StyleSpec(activation="relu6", norm_momentum=0.999),
        stem=StemSpec(filters=filters),
        stages=tuple(
            StageSpec(
                block="inverted_residual",
                filters=filters,
                depth=depth,
                strides=strides,
                arguments={"expansion": expansion},
            )
            for filters, depth, strides, expansion in stages
        ),
        head=HeadSpec(filters=head_filters, dropout=0.2),
        scaling=ScalingSpec(divisor=8, head="grow"),
    )


_BASE = mobilenet_v2("mobilenet_v2")
SPECS = (
    mobilenet_v2("test_mobilenet_v2", filters=8, stages=_TEST_STAGES, head_filters=32, image_size=32),
    *(dataclasses.replace(vary(_BASE, width=width), name=f"mobilenet_v2_{width}") for width in WIDTHS),
    _BASE,
)
