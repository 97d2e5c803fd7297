"""Kinds of layer on the same input: what each costs by formula, and what it costs in time on this machine."""

import functools
import math
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError

MOST_BYTES = 1 << 30
"""Weights of a layer above which it is not built for measuring."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What goes into a layer, and what comes out.

    Args:
        height: H, positions of input and output.
        width: W, the same.
        channels: C, of the input.
        filters: N, channels of the output.
        kernel_size: k, height and width of a window.

    Raises:
        InputError: If one is below 1.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel_size: int

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels", "filters", "kernel_size"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} is 1 or more. Received: {getattr(self, name)}")


@dataclass(frozen=True)
class Kind:
    """What a kind of layer costs, with strides of 1, same padding and no bias.

    Args:
        name: Of the kind.
        parameters_formula: In H, W, C, N and k.
        parameters: The number.
        multiply_adds_formula: For one image.
        multiply_adds: The number.
    """

    name: str
    parameters_formula: str
    parameters: int
    multiply_adds_formula: str
    multiply_adds: int


def kinds(sizes: Sizes) -> tuple[Kind, ...]:
    """What each kind of layer costs.

    In the dense layer every number of the output depends on every number of the input. Separable convolution is
    a depthwise one and a 1 x 1 convolution after it. Depthwise convolution and pooling leave the channels as they
    are, and so have an output of C channels.
    """
    places, window = sizes.height * sizes.width, sizes.kernel_size**2
    channels, filters = sizes.channels, sizes.filters
    dense = places * channels * places * filters
    full, depthwise, pointwise = window * channels * filters, window * channels, channels * filters
    return (
        Kind("dense", "HWC·HWN", dense, "HWC·HWN", dense),
        Kind("convolution", "k²CN", full, "HW·k²CN", places * full),
        Kind("separable", "k²C+CN", depthwise + pointwise, "HW(k²C+CN)", places * (depthwise + pointwise)),
        Kind("depthwise", "k²C", depthwise, "HW·k²C", places * depthwise),
        Kind("1x1 convolution", "CN", pointwise, "HW·CN", places * pointwise),
        Kind("max pooling", "0", 0, "0", 0),
    )


def measure(sizes: Sizes, *, batch_size: int, seconds: float) -> dict[str, list[float]]:
    """Take the time of one forward pass through each kind of layer, all of them in turn in every round.

    Args:
        sizes: Of input and output.
        batch_size: Images that go through at once.
        seconds: How long to measure, in all; at least five rounds.

    Returns:
        Milliseconds in each round, by name of the kind. A kind whose weights take more than `MOST_BYTES` is left
        out.
    """
    import numpy as np
    import tensorflow as tf

    from custom_ops.benchmark import interleaved

    images = tf.constant(
        np.random.default_rng(0).normal(size=(batch_size, sizes.height, sizes.width, sizes.channels)), tf.float32
    )
    layers = {kind.name: layer(kind.name, sizes) for kind in kinds(sizes) if 4 * kind.parameters <= MOST_BYTES}
    calls = [functools.partial(tf.function(made, autograph=False), images) for made in layers.values()]
    return dict(zip(layers, interleaved(calls, seconds), strict=True))


def layer(kind: str, sizes: Sizes) -> Any:
    """A small model that holds a layer of one kind.

    Args:
        kind: Name of the kind.
        sizes: Of input and output.

    Returns:
        A Keras model, `(batch, H, W, C)` to `(batch, H, W, N)`, or to C channels.
    """
    from keras import Input, Sequential, layers

    shape = (sizes.height, sizes.width, sizes.filters)
    depthwise = functools.partial(layers.DepthwiseConv2D, sizes.kernel_size, padding="same", use_bias=False)
    convolution = functools.partial(layers.Conv2D, sizes.filters, padding="same", use_bias=False)
    match kind:
        case "dense":
            chosen = [layers.Flatten(), layers.Dense(math.prod(shape), use_bias=False), layers.Reshape(shape)]
        case "convolution":
            chosen = [convolution(sizes.kernel_size)]
        case "separable":
            chosen = [depthwise(), convolution(1)]
        case "depthwise":
            chosen = [depthwise()]
        case "1x1 convolution":
            chosen = [convolution(1)]
        case _:
            chosen = [layers.MaxPooling2D(sizes.kernel_size, strides=1, padding="same")]
    return Sequential([Input((sizes.height, sizes.width, sizes.channels)), *chosen])
