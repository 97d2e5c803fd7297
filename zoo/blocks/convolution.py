"""Convolution, batch normalization, activation: the three layers that everything else repeats."""

from typing import Any

from keras import initializers, layers

from zoo.spec import StyleSpec


def conv_norm_activation(
    inputs: Any, *, filters: int, strides: int, style: StyleSpec, name: str, kernel_size: int = 3
) -> Any:
    """Convolution, batch normalization and activation, as a block.

    Parts, in order: `conv`, `norm` (absent without batch normalization), `activation`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        filters: Output channels.
        strides: Step of the window, pixels.
        style: The model's activation and batch normalization.
        name: Start of the layer names, `stage{n}_block{m}`.
        kernel_size: Height and width of the window, pixels.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), filters)`.
    """
    x = conv_norm(inputs, filters=filters, kernel_size=kernel_size, strides=strides, style=style, name=name)
    return activation(x, style=style, name=name)


def conv_norm(inputs: Any, *, filters: int, kernel_size: int, strides: int = 1, style: StyleSpec, name: str) -> Any:
    """Convolution, then batch normalization: `{name}_conv`, `{name}_norm`.

    The convolution has a bias only where the style has no batch normalization. Padding is "same",
    TensorFlow's rule: at strides 2 and an even size the window starts inside the image, and the odd row and
    column of padding come last.

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
        use_bias=not style.batch_norm,
        kernel_initializer=_kernel_initializer(),
        name=f"{name}_conv",
    )(inputs)
    return _norm(x, style, name)


def depthwise_conv_norm(
    inputs: Any, *, kernel_size: int, strides: int = 1, pad_end: bool = False, style: StyleSpec, name: str
) -> Any:
    """Convolution of each channel by itself, then batch normalization: `{name}_conv`, `{name}_norm`.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        kernel_size: Height and width of the window, pixels.
        strides: Step of the window, pixels.
        pad_end: Where strides are above 1, pad the end of rows and columns only, whatever the size, in a layer
            `{name}_pad`. It differs from "same" padding at odd sizes, of which it takes the smaller half.
        style: The model's batch normalization.
        name: Start of the layer names.

    Returns:
        Keras tensor `(batch, ceil(height / strides), ceil(width / strides), channels)`; rounded down with
        `pad_end`.
    """
    x = inputs
    padded = pad_end and strides > 1
    if padded:
        rest = max(kernel_size - strides, 0)
        x = layers.ZeroPadding2D(((0, rest), (0, rest)), name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides=strides,
        padding="valid" if padded else "same",
        use_bias=not style.batch_norm,
        depthwise_initializer=_kernel_initializer(),
        name=f"{name}_conv",
    )(x)
    return _norm(x, style, name)


def activation(inputs: Any, *, style: StyleSpec, name: str) -> Any:
    """The model's activation as a layer of its own: `{name}_activation`."""
    return layers.Activation(style.activation, name=f"{name}_activation")(inputs)


def _norm(inputs: Any, style: StyleSpec, name: str) -> Any:
    if not style.batch_norm:
        return inputs
    return layers.BatchNormalization(momentum=style.norm_momentum, epsilon=style.norm_epsilon, name=f"{name}_norm")(
        inputs
    )


def _kernel_initializer() -> Any:
    """He's initializer by outputs. A new one for each layer: one object gives equal shapes equal values."""
    return initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")
