"""The layers between the normalised image and stage 1.

A stem is a function `stem(inputs, spec) -> outputs`, where `spec` is the whole `ModelSpec`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from zoo.blocks.convolution import activation, conv_norm
from zoo.pools import pool_windows
from zoo.registry import Registry
from zoo.spec import ModelSpec, as_pool

Stem: TypeAlias = Callable[[Any, ModelSpec], Any]

STEMS: Registry[Stem] = Registry("stem")


@STEMS.register("conv")
def conv_stem(inputs: Any, spec: ModelSpec) -> Any:
    """One convolution: `stem_conv`, `stem_norm`, `stem_activation`, and `stem_pool` if the spec names a pool."""
    stem = spec.stem
    assert stem is not None  # who has none does not come here
    x = conv_norm(
        inputs,
        filters=stem.filters,
        kernel_size=stem.kernel_size,
        strides=1 if stem.pool else stem.strides,
        style=spec.style,
        name="stem",
    )
    x = activation(x, style=spec.style, name="stem")
    return pool_windows(x, as_pool(stem.pool), strides=stem.strides, name="stem_pool") if stem.pool else x
