"""The block of MobileNet: a convolution in two, first of each channel by itself, then across channels."""

from typing import Any

from zoo.blocks.convolution import activation, conv_norm, depthwise_conv_norm
from zoo.spec import StyleSpec


def separable(
    inputs: Any,
    *,
    filters: int,
    strides: int,
    style: StyleSpec,
    name: str,
    kernel_size: int = 3,
    pad_end: bool = False,
) -> Any:
    """Depthwise-separable convolution: it costs `1 / filters + 1 / kernel_size ** 2` of a full one.

    Parts, in order: `depthwise`, `pointwise` (1 x 1); each with its convolution, batch normalization and
    activation.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Step of the depthwise convolution, pixels.
        style: The model's activation and batch normalization.
        name: Start of the layer names, `stage{n}_block{m}`.
        kernel_size: Height and width of the depthwise window, pixels.
        pad_end: Where strides are above 1, pad the end of rows and columns only; odd sizes are then rounded
            down. So did the network that MobileNet's published weights were trained in.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        - [Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications](https://arxiv.org/abs/1704.04861)
    """
    x = depthwise_conv_norm(
        inputs, kernel_size=kernel_size, strides=strides, pad_end=pad_end, style=style, name=f"{name}_depthwise"
    )
    x = activation(x, style=style, name=f"{name}_depthwise")
    x = conv_norm(x, filters=filters, kernel_size=1, style=style, name=f"{name}_pointwise")
    return activation(x, style=style, name=f"{name}_pointwise")
