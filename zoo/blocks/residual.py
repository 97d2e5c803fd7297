"""The basic block of ResNet: two convolutions that learn what to add to their input."""

from typing import Any

from keras import layers

from zoo.blocks.convolution import activation, conv_norm
from zoo.layers.stochastic_depth import StochasticDepth
from zoo.spec import StyleSpec


def residual(inputs: Any, *, filters: int, strides: int, style: StyleSpec, name: str, drop_rate: float = 0.0) -> Any:
    """Two 3 x 3 convolutions and a shortcut around them.

    Parts, in order: `first`, `second` (no activation), `shortcut_subsample` (every so many pixels, only with strides),
    `shortcut` (1 x 1, only where input and output differ in shape), `drop` (stochastic depth, only with a
    `drop_rate`), `add`, `activation`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Step of the first convolution and of the shortcut, pixels.
        style: The model's activation and batch normalization.
        name: Start of the layer names, `stage{n}_block{m}`.
        drop_rate: Fraction of the images for which training leaves out the convolutions, in [0, 1).

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        - [He et al., Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385)
    """
    x = conv_norm(inputs, filters=filters, kernel_size=3, strides=strides, style=style, name=f"{name}_first")
    x = activation(x, style=style, name=f"{name}_first")
    x = conv_norm(x, filters=filters, kernel_size=3, style=style, name=f"{name}_second")
    shortcut = inputs
    if strides > 1:
        # A strided 1 x 1 convolution would be the same, but with fewer than 16 channels TensorFlow 2.21 on a CPU
        # corrupts memory in the gradient of its kernel.
        shortcut = layers.MaxPooling2D(1, strides, padding="same", name=f"{name}_shortcut_subsample")(shortcut)
    if strides > 1 or inputs.shape[-1] != filters:
        shortcut = conv_norm(shortcut, filters=filters, kernel_size=1, style=style, name=f"{name}_shortcut")
    if drop_rate:
        x = StochasticDepth(drop_rate, name=f"{name}_drop")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return activation(x, style=style, name=name)
