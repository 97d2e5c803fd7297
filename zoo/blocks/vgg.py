"""The block of VGG: a small convolution, many times."""

from typing import Any

from zoo.blocks.convolution import conv_norm_activation
from zoo.spec import StyleSpec


def vgg(inputs: Any, *, filters: int, strides: int, style: StyleSpec, name: str) -> Any:
    """A 3 x 3 convolution and its activation; what the paper calls a block is a stage here.

    Parts, in order: `conv`, `norm` (absent without batch normalization, as in the paper), `activation`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Step of the convolution, pixels; the paper has pooling layers instead.
        style: The model's activation and batch normalization.
        name: Start of the layer names, `stage{n}_block{m}`.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        - [Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
        Recognition](https://arxiv.org/abs/1409.1556)
    """
    return conv_norm_activation(inputs, filters=filters, strides=strides, style=style, name=name, kernel_size=3)
