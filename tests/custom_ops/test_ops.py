"""Every windowed operator in both forms against its definition: values and gradients, windows and sizes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import custom_ops
from custom_ops import ops, reference
from custom_ops.dispatch import Form

CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator: its parameters for an input shape and a window, its definition, and its name."""

    name: str
    parameters: Callable[[Any, tuple, tuple], list] = lambda rng, shape, size: []

    def ours(self, x, parameters, size, strides, padding):
        operator = getattr(ops, f"{self.name}_pool2d")
        if self.name == "soft":
            return operator(x, size, strides, padding, beta=parameters[0])
        if self.name == "stochastic":
            return operator(x, 0, False, size, strides, padding)
        return operator(x, *parameters, size, strides, padding)

    def definition(self, x, parameters, size, strides, padding):
        operator = getattr(reference, f"{self.name}_pool2d")
        if self.name == "stochastic":
            parameters = [None]
        if self.name == "max_blur":
            return operator(x, size, (3, 3), strides, padding)
        return operator(x, *parameters, size, strides, padding)


def exponents(rng, shape, size):
    return [rng.uniform(1.5, 4, shape[-1])]


CASES = [
    Case("max"),
    Case("avg"),
    Case("lp", exponents),
    Case("gem", exponents),
    Case("soft", lambda rng, shape, size: [rng.normal(size=shape[-1])]),
    Case("lip", lambda rng, shape, size: [rng.normal(size=shape)]),
    Case("mixed", lambda rng, shape, size: [np.array(0.3)]),
    Case("gated", lambda rng, shape, size: [rng.normal(size=(*size, shape[-1]))]),
    Case("stochastic"),
    Case("blur"),
    Case("separable", lambda rng, shape, size: [rng.normal(size=(n, shape[-1])) for n in size]),
    Case("median"),
]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def by_default(*names):
    """All operators, most of them marked slow: compiling takes seconds, so a few stand for the others by default."""
    return pytest.mark.parametrize(
        "case",
        [pytest.param(c, marks=() if c.name in names else pytest.mark.slow, id=c.name) for c in CASES],
    )


both_forms = pytest.mark.parametrize("form", ["xla", "native"])

# Windows larger than strides and strides larger than windows, sizes that the strides do not divide.
GEOMETRIES = [
    (shape, size, strides, padding)
    for shape, size, strides in [
        ((5, 6), (2, 2), (2, 2)),
        ((6, 6), (3, 3), (2, 2)),
        ((7, 5), (3, 3), (1, 1)),
        ((4, 7), (2, 3), (3, 1)),
        ((7, 7), (1, 2), (3, 4)),
        ((3, 4), (4, 4), (2, 2)),
        ((5, 5), (5, 5), (5, 5)),
        ((1, 9), (1, 4), (1, 2)),
    ]
    for padding in ("valid", "same")
    if padding == "same" or (shape[0] >= size[0] and shape[1] >= size[1])
]


def call(case, form: Form, arguments, geometry):
    """The output and the gradients of a random weighting of it."""
    tensors = [tf.constant(argument) for argument in arguments]
    with custom_ops.lowering(form), tf.GradientTape() as tape:
        tape.watch(tensors)
        y = case.ours(tensors[0], tensors[1:], *geometry)
        weights = np.random.default_rng(5).normal(size=y.shape)
        loss = tf.reduce_sum(tf.cast(y, tf.float64) * weights)
    return y, tape.gradient(loss, tensors), weights


def check_against_definition(case, shape, size, strides, padding, rng):
    """Values in float64, and the gradients along a random direction against central differences."""
    geometry = (size, strides, padding)
    x = rng.normal(size=(2, *shape, CHANNELS))
    arguments = [x, *case.parameters(rng, x.shape, size)]
    expected = case.definition(x, arguments[1:], *geometry)
    directions = [rng.normal(size=argument.shape) for argument in arguments]
    results = {form: call(case, form, arguments, geometry) for form in ("xla", "native")}
    weights = results["xla"][2]

    def loss(step, moved):
        at = [a + step * d * (i == moved) for i, (a, d) in enumerate(zip(arguments, directions, strict=True))]
        return (case.definition(at[0], at[1:], *geometry) * weights).sum()

    slopes = [(loss(1e-6, moved) - loss(-1e-6, moved)) / 2e-6 for moved in range(len(arguments))]
    for y, gradients, _ in results.values():
        np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)
        ours = [np.sum(g * d) for g, d in zip(gradients, directions, strict=True)]
        np.testing.assert_allclose(ours, slopes, rtol=1e-5, atol=1e-6)


@by_name
def test_both_forms_agree_with_the_definition(case, rng):
    check_against_definition(case, (5, 6), (3, 2), (2, 3), "same", rng)


@pytest.mark.parametrize(
    ("case", "geometry"),
    [
        pytest.param(
            case,
            geometry,
            id=f"{case.name}-{geometry}",  # the same in every process: pytest-xdist compares them
            marks=()
            if number == 0 and case.name in ("max", "avg", "soft", "separable", "median")
            else pytest.mark.slow,
        )
        for case in CASES
        for number, geometry in enumerate(GEOMETRIES)
    ],
)
def test_both_forms_agree_with_the_definition_everywhere(case, geometry, rng):
    check_against_definition(case, *geometry, rng)


@both_forms
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_max_blur_is_two_operators(form, padding, rng):
    x = rng.normal(size=(2, 7, 6, CHANNELS))
    with custom_ops.lowering(form):
        y = ops.max_blur_pool2d(x, 2, filter_size=3, strides=2, padding=padding)
    np.testing.assert_allclose(y, reference.max_blur_pool2d(x, (2, 2), (3, 3), (2, 2), padding))


@by_name
def test_one_dimension_is_one_column(case, rng):
    x = rng.normal(size=(2, 7, CHANNELS))
    image = x[:, :, None]
    size, strides, padding = (3, 1), (2, 1), "same"
    parameters = case.parameters(rng, image.shape, size)
    expected = case.definition(image, parameters, size, strides, padding)[:, :, 0]
    operator = getattr(ops, f"{case.name}_pool1d")
    given = [p.reshape(p.shape[0], *p.shape[2:]) if p.ndim > 2 and case.name == "gated" else p for p in parameters]
    with custom_ops.lowering("native"):
        match case.name:
            case "soft":
                y = operator(x, 3, 2, padding, beta=given[0])
            case "stochastic":
                y = operator(x, 0, False, 3, 2, padding)
            case "lip":
                y = operator(x, given[0][:, :, 0], 3, 2, padding)
            case "separable":
                y = operator(x, given[0], 3, 2, padding)
            case _:
                y = operator(x, *given, 3, 2, padding)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "dtype", "resolution"),
    [
        ("xla", tf.bfloat16, 2**-8),
        ("native", tf.float16, 2**-11),
        pytest.param("xla", tf.float16, 2**-11, marks=pytest.mark.slow),
        pytest.param("native", tf.bfloat16, 2**-8, marks=pytest.mark.slow),
    ],
)
@by_default("max", "soft", "separable")
def test_half_precision_is_added_up_in_float32(case, form, dtype, resolution, rng):
    x = rng.normal(size=(2, 6, 6, CHANNELS))
    parameters = case.parameters(rng, x.shape, (3, 3))
    geometry = ((3, 3), (2, 2), "same")
    rounded = [tf.cast(argument, dtype).numpy().astype("float64") for argument in (x, *parameters)]
    y, gradients, weights = call(case, form, [tf.cast(a, dtype) for a in rounded], geometry)
    exact, wide, _ = call(case, "native", rounded, geometry)
    assert y.dtype == dtype
    np.testing.assert_allclose(tf.cast(y, tf.float64), exact, rtol=resolution, atol=1e-4)
    for gradient, expected in zip(gradients, wide, strict=True):
        # The gradient that comes in is rounded, too.
        allowed = 4 * resolution * np.abs(weights).max() * (1 + np.abs(expected).max())
        np.testing.assert_allclose(tf.cast(gradient, tf.float64), expected, rtol=4 * resolution, atol=allowed)


@both_forms
@by_default("lp", "gem", "soft", "gated", "stochastic")
def test_extreme_windows_give_finite_values_and_gradients(case, form, rng):
    size, strides = (2, 2), (2, 2)
    x = np.zeros((1, 6, 6, CHANNELS), "float32")
    x[:, 2:4] = 3.0  # constant windows; those before are all zeros
    x[:, 4:] = rng.normal(size=(1, 2, 6, CHANNELS)) * 1e4
    x[:, 4:, :2] = -1e4
    parameters = [p.astype("float32") for p in case.parameters(rng, x.shape, size)]
    if case.name == "gated":
        parameters[0] /= 1e4  # else the rounding of the product decides which way the gate falls
    y, gradients, _ = call(case, form, [x, *parameters], (size, strides, "valid"))
    expected = case.definition(x, parameters, size, strides, "valid")
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-5)
    for gradient in gradients:
        assert np.isfinite(gradient).all()


@both_forms
@by_default("lp", "soft", "gated", "blur")
@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
def test_nan_and_infinity_stay_in_their_windows_and_channels(case, form, value, rng):
    geometry = ((3, 3), (2, 2), "same")
    x = rng.normal(size=(2, 8, 8, CHANNELS)).astype("float32")
    parameters = [p.astype("float32") for p in case.parameters(rng, x.shape, (3, 3))]
    broken = x.copy()
    broken[1, 4, 3, 0] = value
    y, gradients, _ = call(case, form, [x, *parameters], geometry)
    with_value, with_gradients, _ = call(case, form, [broken, *parameters], geometry)
    # The windows start at even positions, so those of rows 2 and 4 and of column 2 hold the value.
    windows, positions = np.zeros(y.shape, bool), np.zeros(x.shape, bool)
    windows[1, 1:3, 1, 0] = positions[1, 2:7, 2:5, 0] = True
    np.testing.assert_array_equal(np.where(windows, 0, with_value), np.where(windows, 0, y))
    dx, with_dx = gradients[0], with_gradients[0]
    np.testing.assert_array_equal(np.where(positions, 0, with_dx), np.where(positions, 0, dx))
    for parameter, gradient, with_gradient in zip(parameters, gradients[1:], with_gradients[1:], strict=True):
        if parameter.shape[-1:] == (CHANNELS,) and parameter.shape != x.shape:
            np.testing.assert_allclose(with_gradient[..., 1:], gradient[..., 1:], rtol=1e-5)


@both_forms
@by_default("max", "soft", "separable", "median")
def test_an_empty_batch_gives_an_empty_output(case, form, rng):
    x = np.zeros((0, 5, 4, CHANNELS), "float32")
    parameters = [p.astype("float32") for p in case.parameters(rng, x.shape, (2, 2))]
    y, gradients, _ = call(case, form, [x, *parameters], ((2, 2), (2, 2), "valid"))
    assert y.shape == (0, 2, 2, CHANNELS)
    assert gradients[0].shape == x.shape
    for parameter, gradient in zip(parameters, gradients[1:], strict=True):
        np.testing.assert_array_equal(gradient, np.zeros_like(parameter))


@both_forms
@by_default("soft", "separable")
@pytest.mark.parametrize("padding", ["same", pytest.param("valid", marks=pytest.mark.slow)])
def test_unknown_sizes_give_the_same_as_known_ones(case, form, padding, rng):
    if case.name == "lip":
        spec = [tf.TensorSpec((None, None, None, CHANNELS))] * 2
    else:
        spec = [tf.TensorSpec((None, None, None, CHANNELS))]
    x = rng.normal(size=(2, 5, 6, CHANNELS)).astype("float32")
    parameters = [p.astype("float32") for p in case.parameters(rng, x.shape, (3, 2))]
    geometry = ((3, 2), (2, 2), padding)

    def gradient(*images):
        known = [*images, *parameters[len(images) - 1 :]]
        with custom_ops.lowering(form), tf.GradientTape() as tape:
            tape.watch(known[0])
            y = case.ours(known[0], known[1:], *geometry)
        return y, tape.gradient(y, known[0])

    given = [x, *parameters][: len(spec)]
    y, dx = tf.function(gradient, input_signature=spec, autograph=False)(*given)
    expected, expected_dx = gradient(*map(tf.constant, given))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["xla", pytest.param("native", marks=pytest.mark.slow)])
@by_default("max", "separable")
def test_inside_xla_the_gradient_is_the_same(case, form, rng):
    x = rng.normal(size=(2, 6, 5, CHANNELS)).astype("float32")
    parameters = [p.astype("float32") for p in case.parameters(rng, x.shape, (3, 3))]
    geometry = ((3, 3), (2, 2), "same")

    def run(*tensors):
        with custom_ops.lowering(form), tf.GradientTape() as tape:
            tape.watch(tensors)
            y = case.ours(tensors[0], tensors[1:], *geometry)
        return y, tape.gradient(y, tensors)

    tensors = tuple(map(tf.constant, [x, *parameters]))
    y, gradients = tf.function(run, jit_compile=True, autograph=False)(*tensors)
    expected, expected_gradients = run(*tensors)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@both_forms
@pytest.mark.parametrize("in_graph", [pytest.param(False, marks=pytest.mark.slow), True])
@by_default("lp", "soft", "separable")
def test_gradients_of_gradients(case, form, in_graph, rng):
    geometry = ((2, 2), (2, 1), "same")
    x = rng.uniform(0.5, 2, size=(1, 3, 3, CHANNELS))
    arguments = [x, *case.parameters(rng, x.shape, (2, 2))]
    weights = rng.normal(size=case.definition(x, arguments[1:], *geometry).shape)
    inner = rng.normal(size=x.shape)
    directions = [rng.normal(size=argument.shape) for argument in arguments]

    def slope(*tensors):
        """How the weighted output changes along `inner`."""
        with tf.GradientTape() as tape:
            tape.watch(tensors[0])
            y = tf.reduce_sum(case.ours(tensors[0], tensors[1:], *geometry) ** 2 * weights)
        return tf.reduce_sum(tape.gradient(y, tensors[0]) * inner)

    def curvature(*tensors):
        with custom_ops.lowering(form), tf.GradientTape() as tape:
            tape.watch(tensors)
            y = slope(*tensors)
        return tape.gradient(y, tensors)

    run = tf.function(curvature, autograph=False) if in_graph else curvature
    gradients = run(*map(tf.constant, arguments))
    ours = [np.sum(g * d) for g, d in zip(gradients, directions, strict=True)]

    def moved(step, index):
        at = [a + step * d * (i == index) for i, (a, d) in enumerate(zip(arguments, directions, strict=True))]
        return slope(*map(tf.constant, at)).numpy()

    with custom_ops.lowering("native"):
        slopes = [(moved(1e-5, i) - moved(-1e-5, i)) / 2e-5 for i in range(len(arguments))]
    np.testing.assert_allclose(ours, slopes, rtol=1e-5, atol=1e-6)


def test_each_windowed_operator_has_a_case():
    names = {name.removesuffix("_pool2d") for name in dir(ops) if name.endswith("_pool2d")}
    others = {n for n in names if n.startswith(("global_", "adaptive_", "spatial_"))} | {"max_blur"}
    assert names - others == {case.name for case in CASES}
    assert {n.removesuffix("_pool1d") for n in dir(ops) if n.endswith("_pool1d")} - {"k_max"} == names - {
        "spatial_pyramid"
    }
