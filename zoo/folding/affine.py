"""Batch norm as `x * scale + offset`, and how the layer before or after it takes that up into its weights."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
LINEAR = (*CONVOLUTIONS, *DEPTHWISE, *SEPARABLE, *TRANSPOSED, layers.Dense)
"""The layers that can take up a batch norm."""


@dataclass(frozen=True, eq=False)
class Affine:
    """`x * scale + offset`, with one float64 of each per channel."""

    scale: np.ndarray
    offset: np.ndarray

    def after(self, earlier: "Affine") -> "Affine":
        """First `earlier`, then this."""
        return Affine(self.scale * earlier.scale, self.scale * earlier.offset + self.offset)


def affine_of(norm: layers.BatchNormalization) -> Affine:
    """What a batch norm does in inference mode."""
    scale = 1 / np.sqrt(_read(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * _read(norm.gamma)
    offset = -_read(norm.moving_mean) * scale
    return Affine(scale, offset + _read(norm.beta) if norm.center else offset)


def stock_class(layer: object, classes: tuple[type, ...]) -> Any:
    """The class among `classes` that decides what a layer computes.

    None if there is none, or if a subclass computes something of its own, such as a convolution that first
    standardises its kernel.
    """
    for cls in type(layer).__mro__:
        if cls in classes:
            return cls
        if {"__call__", "call", "build", "kernel", "convolution_op"} & set(vars(cls)):
            return None
    return None


def absorb(layer: keras.Layer, before: Affine | None, after: Affine | None) -> tuple[keras.Layer, list[np.ndarray]]:
    """A layer that also does what stands before and after another one.

    Args:
        layer: A built layer of one of the classes `LINEAR`.
        before: Applied to its input, per input channel. Exact only without zero padding; not for transposed
            convolution.
        after: Applied to its output, per output channel. Exact only without an activation.

    Returns:
        The layer, of the stock class, with a bias, not built yet; and its weights.
    """
    separable = isinstance(layer, SEPARABLE)
    kernels = [_read(layer.depthwise_kernel), _read(layer.pointwise_kernel)] if separable else [_read(layer.kernel)]
    bias = _read(layer.bias) if layer.use_bias else np.zeros(1)
    if before is not None:
        constant = _times_inputs(layer, kernels[0], before.offset).sum(axis=tuple(range(kernels[0].ndim - 2)))
        if separable:
            constant = constant.ravel() @ kernels[1].reshape(constant.size, -1)
        bias = bias + (constant.ravel() if isinstance(layer, (*DEPTHWISE, *SEPARABLE)) else constant.sum(axis=0))
        kernels[0] = _times_inputs(layer, kernels[0], before.scale)
    if after is not None:
        bias = bias * after.scale + after.offset
        kernels[-1] = _times_outputs(layer, kernels[-1], after.scale)
    stock = stock_class(layer, LINEAR)
    return stock.from_config({**stock.get_config(layer), "use_bias": True}), [*kernels, bias]


def _times_inputs(layer: keras.Layer, kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A kernel times one value per input channel."""
    if isinstance(layer, (*DEPTHWISE, *SEPARABLE)):
        return kernel * values[:, None]
    # The last two axes of a convolution are the inputs of one group and the outputs of all, group after group.
    groups = getattr(layer, "groups", 1)
    return kernel * np.repeat(values.reshape(groups, -1), kernel.shape[-1] // groups, axis=0).T


def _times_outputs(layer: keras.Layer, kernel: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A kernel times one value per output channel."""
    if isinstance(layer, DEPTHWISE):
        return kernel * values.reshape(kernel.shape[-2:])
    return kernel * (values[:, None] if isinstance(layer, TRANSPOSED) else values)


def _read(weight: Any) -> np.ndarray:
    array: np.ndarray = keras.ops.convert_to_numpy(weight).astype("float64")
    return array
