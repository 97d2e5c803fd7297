"""Separable VGG: the stacks of VGG with depthwise-separable convolutions, at about an eighth of the cost.

The very first convolution stays a full one, as in MobileNet and Xception: there is little to filter in each
colour by itself. All have batch normalization, and the mean over all positions in the head.

Reference:
    - [Chollet, Xception: Deep Learning with Depthwise Separable Convolutions](https://arxiv.org/abs/1610.02357)
"""

from zoo.models import vgg
from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec


def separable_vgg(name: str, filters: tuple[int, ...], depths: tuple[int, ...], *, image_size: int) -> ModelSpec:
    """A VGG of depthwise-separable convolutions.

    Args:
        name: Name of the model.
        filters: Channels of each stage; those of the first are the stem's too.
        depths: Blocks per stage.
        image_size: Height and width that the model is designed for, pixels.

    Returns:
        The spec.
    """
    # The stem is the first convolution of the first stack, unless it is the only one.
    depths = (max(1, depths[0] - 1), *depths[1:])
    return ModelSpec(
        name=name,
        family="separable_vgg",
        image_size=image_size,
        preprocessing=PreprocessingSpec(scale=1 / 127.5, offset=-1.0),
        style=StyleSpec(activation="relu"),
        stem=StemSpec(filters=filters[0], strides=1),
        stages=tuple(
            StageSpec(block="separable", filters=channels, depth=depth, strides=2, pool="max")
            for channels, depth in zip(filters, depths, strict=True)
        ),
        head=HeadSpec(name="pool", dropout=0.2),
    )


SPECS = (
    *(
        separable_vgg(name.replace("vgg", "separable_vgg"), filters, (depth,) * len(filters), image_size=32)
        for name, (filters, depth) in vgg.SMALL.items()
    ),
    *(separable_vgg(f"separable_{name}", vgg.FILTERS, depths, image_size=224) for name, depths in vgg.DEPTHS.items()),
)
