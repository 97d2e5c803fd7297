"""Checks of the tensors and the parameters that an operator gets, and their shapes inside the kernels."""

import math
from typing import Any

import tensorflow as tf

Tensor = Any


def check_input(x: Any, rank: int) -> Tensor:
    """Returns `x` as a floating point tensor with `rank` spatial axes between batch and channels.

    Raises:
        ValueError: if it is none.
    """
    x = tf.convert_to_tensor(x)
    if x.shape.rank != rank + 2:
        expected = "(batch, steps, channels)" if rank == 1 else "(batch, height, width, channels)"
        raise ValueError(f"The input must be {expected}. Received: an input of shape {x.shape}")
    if not x.dtype.is_floating:
        raise ValueError(f"The input must be of a floating point type. Received: {x.dtype.name}; cast it first")
    return x


def check_p(p: Any) -> Any:
    """Returns an exponent, if it is a tensor or a number of at least 1: below that the p-norm is no norm.

    Raises:
        ValueError: if it is a smaller number.
    """
    if isinstance(p, int | float) and not 1 <= p < float("inf"):
        raise ValueError(f"`p` must be a finite number of at least 1. Received: p={p!r}")
    return p


def check_number(value: Any, name: str) -> float:
    """Returns `value` as a float if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number. Received: {name}={value!r}")
    return float(value)


def check_bool(value: Any, name: str) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return value


def per_channel(value: Any, x: Tensor, name: str) -> Tensor:
    """Returns a parameter as a tensor in the type of `x`, of shape `()` or `(channels,)`.

    Raises:
        ValueError: if it has another shape.
    """
    value = like(value, x)
    if value.shape.rank == 0 or (value.shape.rank == 1 and value.shape.is_compatible_with(x.shape[-1:])):
        return value
    raise ValueError(
        f"`{name}` must be a scalar or have one value per channel, {x.shape[-1]}. "
        f"Received: {name} of shape {value.shape}"
    )


def with_shape(value: Any, x: Tensor, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Returns a parameter as a tensor in the type of `x`, if it has the given shape.

    Raises:
        ValueError: if it has another shape.
    """
    value = like(value, x)
    if not value.shape.is_compatible_with(shape):
        raise ValueError(f"`{name}` must have the shape {shape}. Received: {name} of shape {value.shape}")
    return value


def gate_weights(weights: Any, x: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the weights of a gate as `(rows, columns, channels or 1)`.

    Raises:
        ValueError: if they do not have the shape of the window, with or without channels.
    """
    weights = like(weights, x)
    rank = 1 if size[1] == 1 and weights.shape.rank is not None and weights.shape.rank < 3 else 2
    expected = size[:rank]
    if weights.shape == expected:
        return tf.reshape(weights, (*size, 1))
    if weights.shape.is_compatible_with((*expected, x.shape[-1])):
        return tf.reshape(weights, (*size, -1))
    raise ValueError(
        f"`weights` must have the shape {expected} or {(*expected, x.shape[-1])}. "
        f"Received: weights of shape {weights.shape}"
    )


def attention_scores(scores: Any, x: Tensor) -> Tensor:
    """Returns the scores, if they have the shape of `x` with 1 or all channels.

    Raises:
        ValueError: if they do not.
    """
    scores = like(scores, x)
    one, each = (*x.shape[:-1], 1), tuple(x.shape)
    if scores.shape.is_compatible_with(one) or scores.shape.is_compatible_with(each):
        return scores
    raise ValueError(f"`scores` must have the shape {one} or {each}. Received: scores of shape {scores.shape}")


def like(value: Any, x: Tensor) -> Tensor:
    """The value as a tensor: in its own type if that is a floating point one, else in the type of `x`."""
    if hasattr(value, "dtype"):
        value = tf.convert_to_tensor(value)
        return value if value.dtype.is_floating else tf.cast(value, x.dtype)
    return tf.convert_to_tensor(value, x.dtype)


def check_seed(seed: Any) -> Tensor:
    """Returns a seed as two int32 numbers; an int is the first of them.

    Raises:
        ValueError: if it is neither an int nor a pair.
    """
    if isinstance(seed, int):
        seed = (seed, 0)
    seed = tf.convert_to_tensor(seed)
    if seed.shape != (2,) or not seed.dtype.is_integer:
        raise ValueError(f"`seed` must be an int or two of them. Received: seed={seed!r}")
    return tf.cast(seed % (2**31 - 1), tf.int32)
