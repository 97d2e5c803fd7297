"""VGG: stacks of 3 x 3 convolutions with max pooling after each; as published, and small.

Reference:
    - [Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
      Recognition](https://arxiv.org/abs/1409.1556)
"""

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StyleSpec

# Blocks per stage of the published networks.
DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)
# Name: channels per stage, blocks per stage.
SMALL = {
    "test_vgg": ((8, 16), 1),
    "vgg_nano": ((16, 32, 64), 1),
    "vgg_tiny": ((16, 32, 64), 2),
    "vgg_small": ((32, 64, 128), 2),
}


def vgg(name: str, depths: tuple[int, ...]) -> ModelSpec:
    """VGG as published: no batch normalization, and a flat head with two hidden layers of 4,096.

    The first of these reads every position of the last feature map by itself, so its size depends on that of
    the images: 512 x 7 x 7 x 4,096 weights at 224 pixels, 512 x 3 x 3 x 4,096 at 96.

    Args:
        name: Name of the model.
        depths: Blocks per stage.

    Returns:
        The spec.
    """
    return ModelSpec(
        name=name,
        family="vgg",
        image_size=224,
        # ImageNet's mean colour is taken away; channels are blue, green, red, as in Caffe.
        preprocessing=PreprocessingSpec(scale=1.0, offset=(-123.68, -116.779, -103.939), channel_order="bgr"),
        style=StyleSpec(activation="relu", batch_norm=False),
        stages=tuple(
            StageSpec(block="vgg", filters=filters, depth=depth, strides=2, pool="max")
            for filters, depth in zip(FILTERS, depths, strict=True)
        ),
        head=HeadSpec(name="pool", pool="flatten", hidden=(4096, 4096), dropout=0.5),
    )


def small_vgg(name: str, filters: tuple[int, ...], depth: int) -> ModelSpec:
    """A VGG for small images: with batch normalization, and the mean over all positions in its head.

    Args:
        name: Name of the model.
        filters: Channels of each stage.
        depth: Blocks per stage.

    Returns:
        The spec.
    """
    return ModelSpec(
        name=name,
        family="vgg",
        image_size=32,
        preprocessing=PreprocessingSpec(scale=1 / 127.5, offset=-1.0),
        style=StyleSpec(activation="relu"),
        stages=tuple(
            StageSpec(block="vgg", filters=channels, depth=depth, strides=2, pool="max") for channels in filters
        ),
        head=HeadSpec(name="pool", dropout=0.2),
    )


SPECS = (
    *(small_vgg(name, filters, depth) for name, (filters, depth) in SMALL.items()),
    *(vgg(name, depths) for name, depths in DEPTHS.items()),
)
