"""Convolution, batch normalization, activation: the three layers that everything else repeats."""

from typing import Any

from keras import initializers, layers

from zoo.spec import StyleSpec


def conv_norm(inputs: Any, *, filters: int, kernel_size: int, strides: int = 1, style: StyleSpec, name: str) -> Any:
    """Convolution without bias, then batch normalization: `{name}_conv`, `{name}_norm`.

    Padding is "same", TensorFlow's rule: at strides 2 and an even size the window starts inside the image,
    and the odd row and column of padding come last.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        kernel_size: Height and width of the window, pixels.
        strides: Step of the window, pixels.
        style: The model's batch normalization.
        name: Start of the layer names.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=_kernel_initializer(),
        name=f"{name}_conv",
    )(inputs)
    return _norm(x, style, name)


def depthwise_conv_norm(inputs: Any, *, kernel_size: int, strides: int = 1, style: StyleSpec, name: str) -> Any:
    """Convolution of each channel by itself, then batch normalization: `{name}_conv`, `{name}_norm`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        kernel_size: Height and width of the window, pixels.
        strides: Step of the window, pixels.
        style: The model's batch normalization.
        name: Start of the layer names.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), channels)`.
    """
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=_kernel_initializer(),
        name=f"{name}_conv",
    )(inputs)
    return _norm(x, style, name)


def activation(inputs: Any, *, style: StyleSpec, name: str) -> Any:
    """The model's activation as a layer of its own: `{name}_activation`."""
    return layers.Activation(style.activation, name=f"{name}_activation")(inputs)


def _norm(inputs: Any, style: StyleSpec, name: str) -> Any:
    return layers.BatchNormalization(momentum=style.norm_momentum, epsilon=style.norm_epsilon, name=f"{name}_norm")(
        inputs
    )


def _kernel_initializer() -> Any:
    """He's initializer by outputs. A new one for each layer: one object gives equal shapes equal values."""
    return initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")
