"""EfficientNet-Lite 0 to 4: EfficientNet without what small devices do badly.

No squeeze-and-excite, ReLU6 in place of swish, and a stem and head that keep their width while the body
grows.

Reference:
    - [Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks](
      https://arxiv.org/abs/1905.11946)
    - [The Lite variants](https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)
"""

import math

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, ScalingSpec, StageSpec, StemSpec, StyleSpec
from zoo.vary import round_filters

# The stages of EfficientNet-B0: (filters, depth, strides, kernel size, expansion).
_BASE_STAGES = (
    (16, 1, 1, 3, 1),
    (24, 2, 2, 3, 6),
    (40, 2, 2, 5, 6),
    (80, 3, 2, 3, 6),
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),
    (320, 1, 1, 3, 6),
)
_TEST_STAGES = ((8, 1, 1, 3, 1), (8, 2, 2, 5, 6))
_DIVISOR = 8


def efficientnet_lite(
    name: str,
    *,
    width_multiplier: float = 1.0,
    depth_multiplier: float = 1.0,
    image_size: int,
    dropout: float = 0.2,
    filters: int = 32,
    stages: tuple[tuple[int, int, int, int, int], ...] = _BASE_STAGES,
    head_filters: int = 1280,
) -> ModelSpec:
    """Scale EfficientNet-B0's stages by the rules of the Lite variants.

    Args:
        name: Name of the model.
        width_multiplier: Factor on the filters of every stage, rounded to a multiple of 8. Stem and head keep
        theirs.
        depth_multiplier: Factor on the blocks of a stage, rounded up. The first and the last stage keep
        theirs.
        image_size: Height and width that the model is designed for, pixels.
        dropout: Fraction of the pooled features dropped in training, in [0, 1).
        filters: Channels of the stem.
        stages: Filters, depth, strides, kernel size and expansion of each stage before it is scaled.
        head_filters: Channels of the last convolution.

    Returns:
        The spec.
    """
    first, last = 0, len(stages) - 1
    scaled = tuple(
        StageSpec(
            block="inverted_residual",
            filters=round_filters(channels * width_multiplier, _DIVISOR),
            depth=depth if index in (first, last) else math.ceil(depth * depth_multiplier),
            strides=strides,
            arguments={"kernel_size": kernel_size, "expansion": expansion},
        )
        for index, (channels, depth, strides, kernel_size, expansion) in enumerate(stages)
    )
    return ModelSpec(
        name=name,
        family="efficientnet_lite",
        image_size=image_size,
        preprocessing=PreprocessingSpec(scale=1 / 128, offset=-127 / 128),  # (pixels - 127) / 128
        style=StyleSpec(activation="relu6", norm_momentum=0.99, norm_epsilon=1e-3),
        stem=StemSpec(filters=filters),
        stages=scaled,
        head=HeadSpec(filters=head_filters, dropout=dropout),
        scaling=ScalingSpec(divisor=_DIVISOR, stem=False),
    )


SPECS = (
    efficientnet_lite("test_efficientnet_lite", filters=8, stages=_TEST_STAGES, head_filters=32, image_size=32),
    efficientnet_lite("efficientnet_lite0", image_size=224),
    efficientnet_lite("efficientnet_lite1", depth_multiplier=1.1, image_size=240),
    efficientnet_lite("efficientnet_lite2", width_multiplier=1.1, depth_multiplier=1.2, image_size=260, dropout=0.3),
    efficientnet_lite("efficientnet_lite3", width_multiplier=1.2, depth_multiplier=1.4, image_size=280, dropout=0.3),
    efficientnet_lite("efficientnet_lite4", width_multiplier=1.4, depth_multiplier=1.8, image_size=300, dropout=0.3),
)
