"""The layers between the normalised image and stage 1.

A stem is a function `stem(inputs, spec) -> outputs`, where `spec` is the whole `ModelSpec`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from zoo.blocks.convolution import activation, conv_norm
from zoo.registry import Registry
from zoo.spec import ModelSpec

Stem: TypeAlias = Callable[[Any, ModelSpec], Any]

STEMS: Registry[Stem] = Registry("stem")


@STEMS.register("conv")
def conv_stem(inputs: Any, spec: ModelSpec) -> Any:
    """One convolution: `stem_conv`, `stem_norm`, `stem_activation`."""
    x = conv_norm(
        inputs,
        filters=spec.stem.filters,
        kernel_size=spec.stem.kernel_size,
        strides=spec.stem.strides,
        style=spec.style,
        name="stem",
    )
    return activation(x, style=spec.style, name="stem")
