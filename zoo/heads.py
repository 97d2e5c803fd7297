"""The layers between the last stage and the logits.

A head is a function `head(inputs, spec, num_classes) -> outputs`, where `spec` is the whole `ModelSpec`.
Without classes it ends after `head_pool`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from keras import layers

from zoo.blocks.convolution import activation, conv_norm
from zoo.registry import Registry
from zoo.spec import ModelSpec

Head: TypeAlias = Callable[[Any, ModelSpec, int | None], Any]

HEADS: Registry[Head] = Registry("head")


@HEADS.register("conv")
def conv_head(inputs: Any, spec: ModelSpec, num_classes: int | None) -> Any:
    """A 1 x 1 convolution, the mean over the image, one dense layer.

    Layers: `head_conv`, `head_norm`, `head_activation`, `head_pool`, `head_dropout`, `head_logits`.
    """
    x = conv_norm(inputs, filters=spec.head.filters, kernel_size=1, style=spec.style, name="head")
    x = activation(x, style=spec.style, name="head")
    return _pool_and_classify(x, spec, num_classes)


def _pool_and_classify(inputs: Any, spec: ModelSpec, num_classes: int | None) -> Any:
    # float32 under every dtype policy: a mean over hundreds of pixels and a softmax lose too much in 16 bits,
    # and these layers cost next to nothing.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="head_pool")(inputs)
    if num_classes is None:
        return x
    x = layers.Dropout(spec.head.dropout, dtype="float32", name="head_dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
