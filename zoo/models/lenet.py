"""LeNet for images of 28 x 28 grey pixels, as textbooks and TensorFlow's first tutorial draw it.

Reference:
    - [LeCun et al., Gradient-Based Learning Applied to Document
      Recognition](http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf)
"""

from zoo.spec import HeadSpec, ModelSpec, PreprocessingSpec, StageSpec, StyleSpec


def lenet(name: str, *, filters: tuple[int, int], units: int) -> ModelSpec:
    """Two convolutions of 5 x 5 pixels, each with ReLU and max pooling; a dense layer, dropout, a dense layer.

    Args:
        name: Name of the model.
        filters: Channels of the two convolutions.
        units: Units of the hidden dense layer.

    Returns:
        The spec.
    """
    stages = tuple(
        StageSpec(
            block="conv_norm_activation",
            filters=channels,
            depth=1,
            strides=2,
            pool="max",
            arguments={"kernel_size": 5},
        )
        for channels in filters
    )
    return ModelSpec(
        name=name,
        family="lenet",
        image_size=28,
        channels=1,
        preprocessing=PreprocessingSpec(scale=1 / 255, offset=-0.5),
        style=StyleSpec(activation="relu", batch_norm=False),
        stages=stages,
        head=HeadSpec(name="pool", pool="flatten", hidden=(units,), dropout=0.5),
    )


SPECS = (
    lenet("test_lenet", filters=(4, 8), units=16),
    lenet("lenet", filters=(32, 64), units=512),
)
