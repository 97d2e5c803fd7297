"""Exponential and logarithm in float32 from a few multiplications, and limits, for use inside compiled kernels.

XLA on CPU turns `tf.exp` and `tf.math.log` into code that takes twice the time of these (and `tf.pow` into 13
times), which decides the speed of every kernel that uses them. Outside XLA, and in float64, TensorFlow's own
run instead.

Both split their argument into a power of two, which is arithmetic on the exponent bits, and a rest near zero,
for which a polynomial does. A test holds the relative error below 3e-7 over the whole range.

The limits keep NaN. What XLA on CPU makes of `tf.maximum`, `tf.minimum` and `tf.clip_by_value` may be a number.
"""

import math
from typing import Any

import tensorflow as tf

from custom_ops.dispatch import xla_is_compiling

Tensor = Any

LOG2_E = math.log2(math.e)
# ln 2 in two parts: a multiple of the first is exact in float32, so that nothing is lost in the reduction.
LN2_HIGH, LN2_LOW = 0.693359375, math.log(2) - 0.693359375

# Coefficients of least maximal error, highest power first (from the Cephes library of S. L. Moshier).
# e^r = 1 + r + r^2 P(r) for abs(r) <= ln(2) / 2
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# log(1 + m) = m - m^2 / 2 + m^3 P(m) for sqrt(1/2) <= 1 + m < sqrt(2)
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
MANTISSA_BITS = 23
BITS_OF_SQRT_HALF = 0x3F3504F3


def at_least(x: Tensor, least: float) -> Tensor:
    """The larger of x and a number; NaN stays NaN."""
    return tf.where(x < least, tf.constant(least, x.dtype), x)


def at_most(x: Tensor, most: float) -> Tensor:
    """The smaller of x and a number; NaN stays NaN."""
    return tf.where(x > most, tf.constant(most, x.dtype), x)


def exp(x: Tensor) -> Tensor:
    """The exponential. Inside XLA, x counts as -87.3 below that and as 88 above: 1.2e-38 and 1.7e38. NaN stays NaN."""
    return compiled_exp(x) if is_worth_it(x) else tf.exp(x)


def log(x: Tensor) -> Tensor:
    """The natural logarithm of a positive, normal number. Anything else gives nonsense inside XLA."""
    return compiled_log(x) if is_worth_it(x) else tf.math.log(x)


def is_worth_it(x: Tensor) -> bool:
    """Whether the code is compiled by XLA, and for float32."""
    return x.dtype == tf.float32 and xla_is_compiling()


@tf.custom_gradient
def compiled_exp(x: Tensor) -> Any:
    """The exponential with its gradient, which the bit arithmetic does not have."""
    y = exp_by_bits(x)
    return y, lambda dy: dy * exp(x)


@tf.custom_gradient
def compiled_log(x: Tensor) -> Any:
    """The logarithm with its gradient, which the bit arithmetic does not have."""
    return log_by_bits(x), lambda dy: dy / x


def exp_by_bits(x: Tensor) -> Tensor:
    """2^n e^r with n = round(x / ln 2), where n is added to the exponent bits of e^r."""
    x = at_most(at_least(x, -87.3), 88.0)
    # tf.round, not the addition and subtraction of 1.5 * 2^23: XLA would fold that away.
    n = tf.round(x * LOG2_E)
    r = x - n * LN2_HIGH - n * LN2_LOW
    rest = 1.0 + r + r * r * polynomial(r, EXP)
    exponent = tf.bitwise.left_shift(tf.cast(n, tf.int32), MANTISSA_BITS)
    return tf.bitcast(tf.bitcast(rest, tf.int32) + exponent, tf.float32)


def log_by_bits(x: Tensor) -> Tensor:
    """The sum n ln 2 + log(1 + m) with x = 2^n (1 + m) and 1 + m around 1."""
    bits = tf.bitcast(x, tf.int32)
    n = tf.bitwise.right_shift(bits - BITS_OF_SQRT_HALF, MANTISSA_BITS)
    m = tf.bitcast(bits - tf.bitwise.left_shift(n, MANTISSA_BITS), tf.float32) - 1.0
    rest = m - 0.5 * m * m + m * m * m * polynomial(m, LOG)
    n = tf.cast(n, tf.float32)
    return rest + n * LN2_LOW + n * LN2_HIGH


def polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Horner's rule, the highest power first."""
    result = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result
