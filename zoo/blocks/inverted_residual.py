"""The block of MobileNetV2 and EfficientNet: widen, filter each channel, narrow again."""

from typing import Any

from keras import layers

from zoo.blocks.convolution import activation, conv_norm, depthwise_conv_norm
from zoo.layers.stochastic_depth import StochasticDepth
from zoo.spec import StyleSpec


def inverted_residual(
    inputs: Any,
    *,
    filters: int,
    strides: int,
    style: StyleSpec,
    name: str,
    expansion: int = 6,
    kernel_size: int = 3,
    drop_rate: float = 0.0,
) -> Any:
    """Inverted residual with a linear bottleneck.

    Parts, in order: `expand` (1 x 1, absent if `expansion` is 1), `depthwise`, `project` (1 x 1, no
    activation), and where input and output have the same shape `drop` (stochastic depth, only with a
    `drop_rate`) and `add`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Step of the depthwise convolution, pixels.
        style: The model's activation and batch normalization.
        name: Start of the layer names, `stage{n}_block{m}`.
        expansion: Factor between the channels of the input and those inside.
        kernel_size: Height and width of the depthwise window, pixels.
        drop_rate: Fraction of the images for which training leaves out the convolutions, in [0, 1), where
            there is something to add them to.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        - [Sandler et al., MobileNetV2: Inverted Residuals and Linear
        Bottlenecks](https://arxiv.org/abs/1801.04381)
    """
    channels = inputs.shape[-1]
    x = inputs
    if expansion != 1:
        x = conv_norm(x, filters=expansion * channels, kernel_size=1, style=style, name=f"{name}_expand")
        x = activation(x, style=style, name=f"{name}_expand")
    x = depthwise_conv_norm(x, kernel_size=kernel_size, strides=strides, style=style, name=f"{name}_depthwise")
    x = activation(x, style=style, name=f"{name}_depthwise")
    x = conv_norm(x, filters=filters, kernel_size=1, style=style, name=f"{name}_project")
    if strides == 1 and channels == filters:
        if drop_rate:
            x = StochasticDepth(drop_rate, name=f"{name}_drop")(x)
        x = layers.Add(name=f"{name}_add")([inputs, x])
    return x
