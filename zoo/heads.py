"""The layers between the last stage and the logits.

A head is a function `head(inputs, spec, num_classes) -> outputs`, where `spec` is the whole `ModelSpec`.
Without classes it ends after `head_pool`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from keras import layers

from zoo.blocks.convolution import activation, conv_norm
from zoo.errors import InputError
from zoo.pools import pool_whole
from zoo.registry import Registry
from zoo.spec import ModelSpec, as_pool

Head: TypeAlias = Callable[[Any, ModelSpec, int | None], Any]

HEADS: Registry[Head] = Registry("head")


@HEADS.register("conv")
def conv_head(inputs: Any, spec: ModelSpec, num_classes: int | None) -> Any:
    """A 1 x 1 convolution, pooling, dense layers.

    Layers: `head_conv`, `head_norm`, `head_activation`, and those of the head `pool`.
    """
    if spec.head.filters is None:
        raise InputError("'conv' needs `filters`, the channels of its 1 x 1 convolution.")
    x = conv_norm(inputs, filters=spec.head.filters, kernel_size=1, style=spec.style, name="head")
    x = activation(x, style=spec.style, name="head")
    return _pool_and_classify(x, spec, num_classes)


@HEADS.register("pool")
def pool_head(inputs: Any, spec: ModelSpec, num_classes: int | None) -> Any:
    """Pooling, dense layers.

    Layers: `head_pool`; `head_dense{n}` and `head_dense{n}_activation` for each hidden layer; `head_dropout`
    and `head_logits`.
    """
    if spec.head.filters is not None:
        raise InputError(
            "'pool' has no convolution: leave out `filters`, or name the head 'conv'. "
            f"Received: filters={spec.head.filters}"
        )
    return _pool_and_classify(inputs, spec, num_classes)


def _pool_and_classify(inputs: Any, spec: ModelSpec, num_classes: int | None) -> Any:
    # Pooling and logits are float32 under every dtype policy: a mean over hundreds of pixels and a softmax
    # lose too much in 16 bits, and these layers cost next to nothing.
    x = pool_whole(inputs, as_pool(spec.head.pool), name="head_pool")
    if num_classes is None:
        return x
    for number, units in enumerate(spec.head.hidden, start=1):
        x = layers.Dense(units, name=f"head_dense{number}")(x)
        x = activation(x, style=spec.style, name=f"head_dense{number}")
    x = layers.Dropout(spec.head.dropout, dtype="float32", name="head_dropout")(x)
    return layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
