"""The small residual networks for images of 32 x 32 pixels: 3 stages of basic blocks, 16 to 64 channels.

Where a stage makes the feature map smaller its shortcut is a 1 x 1 convolution (option B of the paper).

Reference:
    - [He et al., Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385), section 4.2
"""

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec


def resnet(name: str, *, depth: int, filters: tuple[int, ...] = (16, 32, 64)) -> ModelSpec:
    """A residual network of `6 * depth + 2` layers.

    Args:
        name: Name of the model.
        depth: Blocks per stage, of 2 convolutions each.
        filters: Channels of each stage; those of the first are the stem's too.

    Returns:
        The spec.
    """
    return ModelSpec(
        name=name,
        family="resnet",
        image_size=32,
        preprocessing=PreprocessingSpec(scale=1 / 127.5, offset=-1.0),
        style=StyleSpec(activation="relu", norm_momentum=0.9),
        stem=StemSpec(filters=filters[0], strides=1),
        stages=tuple(
            StageSpec(block="residual", filters=channels, depth=depth, strides=1 if index == 0 else 2)
            for index, channels in enumerate(filters)
        ),
        head=HeadSpec(name="pool"),
    )


SPECS = (
    resnet("test_resnet", depth=1, filters=(4, 8)),
    resnet("resnet20", depth=3),
    resnet("resnet32", depth=5),
    resnet("resnet44", depth=7),
    resnet("resnet56", depth=9),
)
