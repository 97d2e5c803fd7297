"""Every way of pooling by name: between stages, in place of strided convolution, and in the head.

The layers are those of `custom_ops.layers`, whose arguments a `PoolSpec` takes; `max` and `avg` are Keras's
own, so that models with nothing else load without this package. Add your own with
`POOLS.add("mine", Pool(window=...))`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from keras import layers

from custom_ops import layers as pooling
from zoo.errors import InputError
from zoo.keras_errors import reason_of
from zoo.registry import Registry, unknown_name
from zoo.spec import PoolSpec

Pooling: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One way of pooling, where it exists.

    Args:
        window: A function `(inputs, *, strides, name, **arguments) -> outputs` from one feature map
            `(batch, height, width, channels)` to a smaller one.
        whole: A function `(inputs, *, name, **arguments) -> outputs` from a feature map to
            `(batch, features)`, float32 under every dtype policy.
    """

    window: Pooling | None = None
    whole: Pooling | None = None


POOLS: Registry[Pool] = Registry("pool")


def pool_windows(inputs: Any, pool: PoolSpec, *, strides: int, name: str) -> Any:
    """Make a feature map smaller.

    Unless the arguments say otherwise, windows are as large as the strides, and the filters of `blur` and
    `max_blur` 3 x 3. Windows that lie side by side leave out an odd last row or column (`padding="valid"`), as
    in VGG; where windows or filters overlap, the map is padded (`"same"`).

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        pool: Name and arguments.
        strides: How many times smaller the feature map becomes.
        name: Name of the layer.

    Returns:
        Keras tensor `(batch, new_height, new_width, channels)`.

    Raises:
        InputError: If there is no such pool, it cannot do this, or its arguments are wrong.
    """
    function = POOLS[pool.name].window
    if function is None:
        choices = ", ".join(each for each in POOLS if POOLS[each].window)
        raise InputError(f"The pool {pool.name!r} ends a network; between layers there are: {choices}.")
    return _call(function, inputs, pool, strides=strides, name=name)


def pool_whole(inputs: Any, pool: PoolSpec, *, name: str) -> Any:
    """Make one vector of a feature map.

    Args:
        inputs: Keras tensor `(batch, height, width, channels)`.
        pool: Name and arguments.
        name: Name of the layer.

    Returns:
        Keras tensor `(batch, features)`, float32.

    Raises:
        InputError: If there is no such pool, it cannot do this, or its arguments are wrong.
    """
    function = POOLS[pool.name].whole
    if function is None:
        choices = ", ".join(each for each in POOLS if POOLS[each].whole)
        raise InputError(f"The pool {pool.name!r} stands between layers; in the head there are: {choices}.")
    return _call(function, inputs, pool, name=name)


def _call(function: Pooling, inputs: Any, pool: PoolSpec, **own: Any) -> Any:
    arguments = dict(pool.arguments)
    known = [name for name in inspect.signature(function).parameters if name not in {"inputs", *own}]
    for name in arguments:
        if name not in known:
            raise unknown_name(f"argument of the pool {pool.name!r}:", name, known)
    try:
        return function(inputs, **own, **arguments)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # what a layer's constructor says of its arguments
        raise InputError(f"The pool {pool.name!r}: {reason_of(error)}") from error


# Arguments of layers that are not for a spec: its place in the network decides them.
_DECIDED = {"self", "strides", "keepdims", "data_format", "name", "kwargs", "keywords"}


def _windowed(layer: type, *, size: int = 2, blurs: bool = False) -> Pooling:
    """Make the function of a layer that slides a window, by default of `size`."""

    def pool(inputs: Any, *, strides: int, name: str, **arguments: Any) -> Any:
        pool_size = arguments.setdefault("pool_size", max(size, strides))
        arguments.setdefault("padding", "same" if blurs else _padding(pool_size, strides))
        return layer(strides=strides, name=name, **arguments)(inputs)

    return _with_signature(pool, layer, ("inputs", "strides", "name"))


def _padding(pool_size: Any, strides: int) -> str:
    sizes = pool_size if isinstance(pool_size, tuple) else (pool_size,)
    # What is no number is for the layer to refuse.
    return "same" if any(isinstance(each, int) and each > strides for each in sizes) else "valid"


def _global(layer: type) -> Pooling:
    """Make the function of a layer that pools over all positions."""

    def pool(inputs: Any, *, name: str, **arguments: Any) -> Any:
        return layer(name=name, dtype="float32", **arguments)(inputs)

    return _with_signature(pool, layer, ("inputs", "name"))


def _adaptive(layer: type) -> Pooling:
    """Make the function of a layer that pools to a grid of cells, which are then laid out in a row."""

    def pool(inputs: Any, *, name: str, **arguments: Any) -> Any:
        cells = layer(name=f"{name}_cells", dtype="float32", **arguments)(inputs)
        return layers.Flatten(name=name, dtype="float32")(cells)

    return _with_signature(pool, layer, ("inputs", "name"))


def _with_signature(function: Any, layer: type, own: tuple[str, ...]) -> Pooling:
    """Let a function show the arguments that its layer takes."""
    known = (name for name in inspect.signature(layer.__init__).parameters if name not in _DECIDED)  # type: ignore[misc]  # of the class that is called
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in (*own, *known)]
    function.__signature__ = inspect.Signature(parameters)
    return function


def _lip(inputs: Any, *, strides: int, name: str, pool_size: Any = None, padding: str | None = None) -> Any:
    """Local importance pooling; a 1 x 1 convolution says how important a position is, at first equally."""
    logits = layers.Conv2D(inputs.shape[-1], 1, kernel_initializer="zeros", name=f"{name}_logits")(inputs)
    size = max(2, strides) if pool_size is None else pool_size
    layer = pooling.LipPooling2D(size, strides=strides, padding=padding or _padding(size, strides), name=name)
    return layer([inputs, logits])


def _flatten(inputs: Any, *, name: str) -> Any:
    if None in inputs.shape[1:]:
        raise InputError(
            "The pool 'flatten' needs images of one size: give height and width in `input_shape`, or take "
            "PoolSpec('adaptive_avg', {'output_size': 7}), which makes a grid of fixed size of any image."
        )
    return layers.Flatten(name=name, dtype="float32")(inputs)


POOLS.add("max", Pool(window=_windowed(layers.MaxPooling2D), whole=_global(layers.GlobalMaxPooling2D)))
POOLS.add("avg", Pool(window=_windowed(layers.AveragePooling2D), whole=_global(layers.GlobalAveragePooling2D)))
POOLS.add("gem", Pool(window=_windowed(pooling.GemPooling2D), whole=_global(pooling.GlobalGemPooling2D)))
POOLS.add("lp", Pool(window=_windowed(pooling.LpPooling2D)))
POOLS.add("soft", Pool(window=_windowed(pooling.SoftPooling2D)))
POOLS.add("lip", Pool(window=_lip))
POOLS.add("mixed", Pool(window=_windowed(pooling.MixedPooling2D)))
POOLS.add("gated", Pool(window=_windowed(pooling.GatedPooling2D)))
POOLS.add("stochastic", Pool(window=_windowed(pooling.StochasticPooling2D)))
POOLS.add("blur", Pool(window=_windowed(pooling.BlurPooling2D, size=3, blurs=True)))
POOLS.add("max_blur", Pool(window=_windowed(pooling.MaxBlurPooling2D, blurs=True)))
POOLS.add("separable", Pool(window=_windowed(pooling.SeparablePooling2D)))
POOLS.add("median", Pool(window=_windowed(pooling.MedianPooling2D)))
POOLS.add("avg_max", Pool(whole=_global(pooling.GlobalAvgMaxPooling2D)))
POOLS.add("attention", Pool(whole=_global(pooling.GlobalAttentionPooling2D)))
POOLS.add("spatial_pyramid", Pool(whole=_global(pooling.SpatialPyramidPooling2D)))
POOLS.add("adaptive_avg", Pool(whole=_adaptive(pooling.AdaptiveAvgPooling2D)))
POOLS.add("adaptive_max", Pool(whole=_adaptive(pooling.AdaptiveMaxPooling2D)))
POOLS.add("flatten", Pool(whole=_flatten))
