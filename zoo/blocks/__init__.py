"""The blocks that stages are made of.

A block is a function `block(inputs, *, filters, strides, style, name, **arguments) -> outputs` on Keras
tensors of shape `(batch, height, width, channels)`. It builds its layers under `{name}_{part}`, where `name`
is `stage{n}_block{m}`, and takes what only it needs (`expansion`, `kernel_size`) as keyword arguments, which
a `StageSpec` gives in its `arguments`. Register your own with `@BLOCKS.register("mine")`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from zoo.blocks.convolution import conv_norm_activation
from zoo.blocks.inverted_residual import inverted_residual
from zoo.blocks.residual import residual
from zoo.blocks.separable import separable
from zoo.blocks.vgg import vgg
from zoo.registry import Registry

Block: TypeAlias = Callable[..., Any]

BLOCKS: Registry[Block] = Registry("block")
BLOCKS.add("conv_norm_activation", conv_norm_activation)
BLOCKS.add("vgg", vgg)
BLOCKS.add("separable", separable)
BLOCKS.add("inverted_residual", inverted_residual)
BLOCKS.add("residual", residual)
