"""Replace the pooling of a finished model."""

import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import keras
from keras import layers

from custom_ops.layers.base import GlobalPooling, Pooling
from zoo.errors import InputError
from zoo.graph import Graph, copy_model, dtype_policy
from zoo.pools import POOLS, pool_whole, pool_windows
from zoo.registry import unknown_name
from zoo.spec import PoolSpec, as_pool

NewPool: TypeAlias = str | PoolSpec | Callable[[keras.Layer], keras.Layer]

_WINDOWED = (layers.MaxPooling2D, layers.AveragePooling2D, Pooling)
GLOBAL = (layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D, GlobalPooling)
"""Layers that pool over all positions."""


def swap_pooling(
    model: keras.Model,
    pool: NewPool | None = None,
    *,
    head_pool: NewPool | None = None,
    only: Collection[str] | None = None,
) -> keras.Model:
    """Copy a model with other pooling layers.

    All else stays: weights, layer names (a new layer takes over the old one's) and dtype policies.

    Args:
        model: A functional model or a built `Sequential`, which stays as it is.
        pool: What takes the place of the layers that slide a window: a name of `zoo.pools.POOLS` or a `PoolSpec`, or a
            function from the old layer to the new one. By name, windows keep their size, strides and padding, if the
            arguments do not say otherwise. `None` leaves these layers.
        head_pool: What takes the place of the global pooling in front of the classifier; by name, in float32. The
            others, as in squeeze-and-excitation, stay. `None` leaves it.
        only: Names of the layers that `pool` replaces, all of which slide windows. By default those that make the
            feature map smaller, and so not the averages with strides of 1 inside Inception's blocks.

    Returns:
        A functional model, not compiled.

    Raises:
        InputError: If there is nothing to replace, a name is unknown, an argument is wrong, or the weights of the
            next layer do not fit what the new pooling gives.

    Example:
        ```python
        softer = swap_pooling(keras.applications.VGG16(), "soft", head_pool=None)
        sharper = swap_pooling(model, head_pool=PoolSpec("gem", {"p": 4.0}))
        same = swap_pooling(model, lambda old: keras.layers.MaxPooling2D(2, name=old.name))
        ```
    """
    if pool is None and head_pool is None:
        raise InputError("swap_pooling needs `pool`, `head_pool` or both, such as pool='soft'.")
    graph = Graph(model)
    replace: dict[str, Callable[..., Any]] = {}
    if pool is not None:
        replace |= {layer.name: _windows(layer, pool) for layer in _windowed_layers(graph, only)}
    if head_pool is not None:
        layer = _head_pool(graph)
        replace[layer.name] = _whole(layer, head_pool)
    return copy_model(model, replace)


def _windowed_layers(graph: Graph, only: Collection[str] | None) -> list[keras.Layer]:
    found = {
        call.name: call.operation
        for call in graph.calls
        if isinstance(call.operation, _WINDOWED) and len(call.outputs[0].shape) == 4
    }
    if only is not None:
        for name in only:
            if name not in found:
                raise unknown_name("pooling layer", name, found)
        return [found[name] for name in only]
    smaller = [layer for layer in found.values() if max(layer.strides) > 1]
    if not smaller:
        raise InputError(
            f"{graph.model.name} has no pooling layer that makes its feature map smaller, so `pool` has nothing to "
            f"replace. Pooling layers with strides of 1, for `only`: {', '.join(found) or 'none'}."
        )
    return smaller


def _head_pool(graph: Graph) -> keras.Layer:
    """The last global pooling that everything passes through."""
    places = [*graph.cuts(), len(graph.calls) - 1]
    found = [graph.operations[index] for index in places if isinstance(graph.operations[index], GLOBAL)]
    if not found:
        raise InputError(
            f"{graph.model.name} has no global pooling that everything passes through, so `head_pool` has nothing to "
            "replace. For a model that ends with a feature map, replace_head(model, None) adds one."
        )
    return found[-1]


def _windows(layer: keras.Layer, pool: NewPool) -> Callable[..., Any]:
    if not isinstance(pool, str | PoolSpec):
        return pool(layer)
    spec = as_pool(pool)
    strides, size = (_square(layer, values) for values in (layer.strides, layer.pool_size))
    kept: dict[str, Any] = {}
    if size != strides or layer.padding != "valid":
        # What POOLS takes for granted need not be said, and is better unsaid: a blur filter is larger than its step.
        known = inspect.signature(POOLS[spec.name].window or (lambda: None)).parameters
        kept = {name: value for name, value in (("pool_size", size), ("padding", layer.padding)) if name in known}
    spec = PoolSpec(spec.name, {**kept, **dict(spec.arguments)})

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Pooling that learns what is important reads that beside the feature map.
        pooled = inputs[0] if isinstance(inputs, list | tuple) else inputs
        with dtype_policy(layer.dtype_policy):
            return pool_windows(pooled, spec, strides=strides, name=layer.name)

    return call


def _whole(layer: keras.Layer, pool: NewPool) -> Callable[..., Any]:
    if not isinstance(pool, str | PoolSpec):
        return pool(layer)
    spec = as_pool(pool)

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = pool_whole(inputs, spec, name=layer.name)
        if not layer.keepdims:
            return outputs
        shape = (1, 1, outputs.shape[-1])
        return layers.Reshape(shape, dtype="float32", name=f"{layer.name}_keepdims")(outputs)

    return call


def _square(layer: keras.Layer, values: tuple[int, ...]) -> int:
    if len(set(values)) > 1:
        raise InputError(
            f"The pooling layer {layer.name!r} has pool_size={layer.pool_size} and strides={layer.strides}: where they "
            "are not square, give a function from the old layer to the new one."
        )
    return values[0]
