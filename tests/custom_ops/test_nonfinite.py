"""What becomes of NaN and infinity: as each kernel's docstring says, and never in other windows or channels."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import custom_ops
from custom_ops import ops

NAN, INF = float("nan"), float("inf")
LARGE = 1e6  # what a value is replaced by where an infinite one acts like a large one, and NaN like a small one
REST = np.array([1, 2, 3, 4], "float32")
ONES = np.ones((2, 1), "float32")


@dataclasses.dataclass(frozen=True)
class Case:
    """What may become of NaN, infinity and minus infinity: nan, inf, -inf, large, or another number of the window."""

    name: str
    operator: Callable
    nan: str = "nan"
    inf: str = "inf"
    minus_inf: str = "-inf"
    form: str | None = None  # both, if none is given


def lip_logits(logits):
    """LIP of the numbers 1 to 4 in each window, with the given logits."""
    batch = logits.shape[0]
    return ops.lip_pool2d(np.tile(REST.reshape(1, 2, 2, 1), (batch, 1, 1, 1)), logits)


WINDOWED = [
    Case("max", ops.max_pool2d, "nan large", "inf", "large", "xla"),
    Case("max", ops.max_pool2d, "large", "inf", "large", "native"),
    Case("avg", ops.avg_pool2d),
    Case("lp", lambda x: ops.lp_pool2d(x, 3.0), minus_inf="inf"),
    Case("gem", lambda x: ops.gem_pool2d(x, 3.0), minus_inf="large"),
    Case("soft", ops.soft_pool2d, form="xla"),
    Case("soft", ops.soft_pool2d, minus_inf="nan", form="native"),
    Case("lip", lambda x: ops.lip_pool2d(x, tf.zeros_like(x))),
    Case("lip logits", lip_logits, inf="large", minus_inf="large"),
    Case("mixed", lambda x: ops.mixed_pool2d(x, 0.3)),
    Case("gated", lambda x: ops.gated_pool2d(x, ONES @ ONES.T), inf="nan"),
    Case("stochastic draw", lambda x: ops.stochastic_pool2d(x, 1, True), minus_inf="number"),
    Case("stochastic mean", lambda x: ops.stochastic_pool2d(x, 1, False), minus_inf="large"),
    Case("blur", lambda x: ops.blur_pool2d(x, 2)),
    Case("separable", lambda x: ops.separable_pool2d(x, ONES, ONES)),
    Case("median", ops.median_pool2d, "nan number", "large", "large", "xla"),
    Case("median", ops.median_pool2d, "nan", "large", "large", "native"),
]
GLOBAL = [
    Case("global avg", ops.global_avg_pool2d),
    Case("global max", ops.global_max_pool2d, "nan", "inf", "large", "native"),
    Case("global max", ops.global_max_pool2d, "nan large", "inf", "large", "xla"),
    Case("global gem", lambda x: ops.global_gem_pool2d(x, 3.0), minus_inf="large"),
    Case("global attention", lambda x: ops.global_attention_pool2d(x, tf.zeros_like(x))),
    Case("adaptive avg", lambda x: ops.adaptive_avg_pool2d(x, 1)),
    Case("adaptive max", lambda x: ops.adaptive_max_pool2d(x, 1), "nan", "inf", "large", "native"),
    Case("adaptive max", lambda x: ops.adaptive_max_pool2d(x, 1), "nan large", "inf", "large", "xla"),
    Case("pyramid", lambda x: ops.spatial_pyramid_pool2d(x, (1,), "avg")),
    Case("k-max", lambda x: ops.k_max_pool1d(tf.reshape(x, (-1, 4, 1)), 1), "nan number", "inf", "large"),
]


def windows_with(value):
    """Four windows of 1 to 4, one per image, each with the value in another place."""
    windows = np.tile(REST, (4, 1))
    np.fill_diagonal(windows, value)
    return windows.reshape(4, 2, 2, 1)


def cases_in_forms(cases):
    """Each case in the form it is for, or in both."""
    return [
        pytest.param(case, form, id=f"{case.name}-{form}")
        for case in cases
        for form in ("xla", "native")
        if case.form in (None, form)
    ]


@pytest.mark.parametrize(("case", "form"), cases_in_forms(WINDOWED) + cases_in_forms(GLOBAL))
def test_nan_and_infinity_in_each_place_of_a_window(case, form):
    values = (NAN, INF, -INF, LARGE, -LARGE)
    x = tf.constant(np.concatenate([windows_with(value) for value in values]))
    # Of a global operator the two forms are the same code, run by TensorFlow and compiled by XLA.
    compiled = case in GLOBAL and form == "xla"
    with custom_ops.lowering(form):
        y = tf.function(case.operator, jit_compile=compiled, autograph=False)(x) if compiled else case.operator(x)
    nan, inf, minus_inf, large, minus_large = np.reshape(y, (5, 4))
    for found, words, as_large in (
        (nan, case.nan, minus_large),
        (inf, case.inf, large),
        (minus_inf, case.minus_inf, minus_large),
    ):
        for number, instead in zip(found, as_large, strict=True):
            allowed = {
                "nan": np.isnan(number),
                "inf": number == INF,
                "-inf": number == -INF,
                "large": np.isclose(number, instead, rtol=1e-5),
                "number": 1 <= number <= 4,
            }
            assert any(allowed[word] for word in words.split()), f"{number} instead of {words} ({instead})"


@pytest.mark.parametrize("form", ["xla", "native"])
def test_windows_of_nothing_else(form):
    with custom_ops.lowering(form):
        lowest = ops.max_pool2d(np.full((1, 2, 2, 1), -INF, "float32")).numpy().item()
        masked = lip_logits(np.full((1, 2, 2, 1), -INF, "float32"))
        all_of_it = lip_logits(np.full((1, 2, 2, 1), INF, "float32"))
    assert lowest == (-INF if form == "xla" else np.finfo("float32").min)
    assert np.isnan(masked)
    assert all_of_it == 2.5


def test_attention_scores():
    scores = [[NAN, 0, 0, 0], [INF, 0, 0, 0], [-INF, 0, 0, 0]]
    x = np.tile(REST.reshape(1, 4, 1), (3, 1, 1))
    y = ops.global_attention_pool1d(x, np.reshape(scores, (3, 4, 1)).astype("float32"))
    np.testing.assert_allclose(np.ravel(y), [NAN, NAN, 3])
