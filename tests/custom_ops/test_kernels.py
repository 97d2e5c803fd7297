"""What single kernels promise beyond their definition: ties, draws, accuracy, networks."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import custom_ops
from custom_ops import ops, reference
from custom_ops.kernels import fast_math, median, stochastic

both_forms = pytest.mark.parametrize("form", ["xla", "native"])


def one_window(form, operator, values, *parameters, **options):
    """Value and gradient of an operator at one window of four values."""
    x = tf.reshape(tf.constant(values, tf.float32), (1, 2, 2, 1))
    with custom_ops.lowering(form), tf.GradientTape() as tape:
        tape.watch(x)
        y = operator(x, *parameters, **options)
    return y.numpy().item(), tape.gradient(y, x).numpy().ravel().tolist()


@both_forms
def test_ties_give_the_whole_gradient_to_the_first(form):
    assert one_window(form, ops.max_pool2d, [1, 3, 3, 3]) == (3, [0, 1, 0, 0])
    assert one_window(form, ops.max_pool2d, [0, 0, 0, 0]) == (0, [1, 0, 0, 0])
    assert one_window(form, ops.mixed_pool2d, [2, 2, 2, 2], 0.5) == (2, [0.625, 0.125, 0.125, 0.125])
    gate = np.zeros((2, 2), "float32")
    assert one_window(form, ops.gated_pool2d, [2, 2, 2, 2], gate) == (2, [0.625, 0.125, 0.125, 0.125])
    # The median takes half from each of the middle values, wherever the first of their kind stands.
    assert one_window(form, ops.median_pool2d, [5, 1, 3, 9]) == (4, [0.5, 0, 0.5, 0])
    assert one_window(form, ops.median_pool2d, [5, 1, 5, 5]) == (5, [1, 0, 0, 0])


@both_forms
def test_lp_has_no_gradient_at_zero(form):
    for p in (1.0, 1.5, 2.0):
        assert one_window(form, ops.lp_pool2d, [0, 0, 0, 0], p) == (0, [0, 0, 0, 0])
        _, gradient = one_window(form, ops.lp_pool2d, [0, -2, 0, 0], p)
        np.testing.assert_allclose(gradient, [0, -1, 0, 0], atol=1e-6)


@both_forms
def test_a_high_power_stays_finite_where_no_window_stands(form):
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 5, 5, 2)) * 1e4, tf.float32)
    for operator in (ops.lp_pool2d, ops.gem_pool2d):
        with custom_ops.lowering(form), tf.GradientTape() as tape:
            tape.watch(x)
            y = operator(x, 50.0)
        gradient = tape.gradient(y, x)
        assert np.isfinite(y).all()
        assert np.isfinite(gradient).all()
        assert not np.any(gradient[:, 4])


@both_forms
def test_gem_has_no_gradient_below_its_floor(form):
    y, gradient = one_window(form, ops.gem_pool2d, [-1, -2, 0, -5], 3.0)
    assert y == pytest.approx(1e-6)
    assert gradient == [0, 0, 0, 0]


@both_forms
def test_overlapping_windows_at_ties_agree_with_tensorflow(form):
    x = tf.constant(np.random.default_rng(0).integers(0, 3, (2, 7, 8, 2)).astype("float32"))
    for padding in ("valid", "same"):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            with custom_ops.lowering(form):
                ours = ops.max_pool2d(x, 3, 2, padding)
            theirs = tf.nn.max_pool2d(x, 3, 2, padding.upper())
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(tape.gradient(ours, x), tape.gradient(theirs, x))


# ------------------------------------------------------------------------------------------- stochastic


@both_forms
def test_windows_of_zeros_have_no_gradient_where_windows_overlap(form):
    x = tf.zeros((1, 7, 7, 1))
    with custom_ops.lowering(form), tf.GradientTape() as tape:
        tape.watch(x)
        y = ops.stochastic_pool2d(x, 1, True, 3, 2)
    assert not np.any(y)
    assert not np.any(tape.gradient(y, x))


def test_a_draw_is_the_one_of_the_definition():
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    for padding in ("valid", "same"):
        expected_shape = reference.max_pool2d(x, (3, 2), (2, 2), padding).shape
        draw = stochastic.uniform(tf.constant(expected_shape), tf.constant([7, 9]), tf.float32).numpy()
        expected = reference.stochastic_pool2d(x, draw, (3, 2), (2, 2), padding)
        for form in ("xla", "native"):
            with custom_ops.lowering(form):
                y = ops.stochastic_pool2d(x, (7, 9), True, (3, 2), 2, padding)
            np.testing.assert_allclose(y, expected)


def test_a_draw_is_the_same_eagerly_in_a_graph_and_under_xla():
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32"))

    def draw(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = ops.stochastic_pool2d(x, 11, True)
        return y, tape.gradient(y, x)

    y, gradient = draw(x)
    for run in (tf.function(draw, autograph=False), tf.function(draw, jit_compile=True, autograph=False)):
        np.testing.assert_array_equal(run(x)[0], y)
        np.testing.assert_array_equal(run(x)[1], gradient)
    # The gradient of a window stands where its value was drawn.
    drawn = tf.nn.max_pool2d(gradient * x, 2, 2, "VALID")
    np.testing.assert_array_equal(drawn, y)


def test_draws_follow_the_probabilities_and_not_each_other():
    shape = tf.constant((400, 500))
    draws = [
        stochastic.uniform(shape, tf.constant(seed), tf.float32).numpy().ravel()
        for seed in ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1000, 0), (1, 1))
    ]
    for numbers in draws:
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts = np.histogram(numbers, 20, (0, 1))[0]
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 50  # chi-squared with 19 degrees of freedom, p < 1e-4
        for lag in (1, 2, 500):
            assert abs(np.corrcoef(numbers[lag:], numbers[:-lag])[0, 1]) < 0.012  # five standard deviations
    for one, other in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.012
    x = np.tile(np.reshape([1.0, 2.0, 3.0, 4.0], (1, 2, 2, 1)), (1, 100, 100, 1)).astype("float32")
    values, counts = np.unique(ops.stochastic_pool2d(x, 5, True), return_counts=True)
    np.testing.assert_array_equal(values, [1, 2, 3, 4])
    np.testing.assert_allclose(counts / 10_000, [0.1, 0.2, 0.3, 0.4], atol=0.025)


# -------------------------------------------------------------------------------------------- fast maths


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def test_fast_exp_is_accurate_over_its_whole_range():
    x = np.concatenate([np.linspace(-87.2, 88, 400_001), [0.0, -1e-30, 1e-30]]).astype("float32")
    np.testing.assert_allclose(compiled(fast_math.exp)(x), np.exp(x.astype("float64")), rtol=3e-7)
    assert compiled(fast_math.exp)(tf.constant([0.0]))[0] == 1
    far = compiled(fast_math.exp)(tf.constant([-3e38, -100.0, 100.0, 3e38])).numpy()
    assert (far[:2] < 2e-38).all()
    assert np.isfinite(far).all()
    assert np.isnan(compiled(fast_math.exp)(tf.constant([np.nan]))[0])


def test_fast_log_is_accurate_over_its_whole_range():
    x = np.concatenate([np.geomspace(1.2e-38, 3.4e38, 400_001), np.linspace(0.5, 2, 100_001)]).astype("float32")
    expected = np.log(x.astype("float64"))
    np.testing.assert_allclose(compiled(fast_math.log)(x), expected, rtol=3e-7, atol=1e-10)
    assert compiled(fast_math.log)(tf.constant([1.0]))[0] == 0


@pytest.mark.parametrize(("function", "derivative"), [("exp", np.exp), ("log", lambda x: 1 / x)])
def test_fast_maths_has_first_and_second_gradients(function, derivative):
    x = tf.constant([0.3, 1.0, 2.5])

    def gradients(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = getattr(fast_math, function)(x)
            first = inner.gradient(y, x)
        return first, outer.gradient(first, x)

    first, second = compiled(gradients)(x)
    np.testing.assert_allclose(first, derivative(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose(second, np.exp(x) if function == "exp" else -1 / x.numpy() ** 2, rtol=1e-6)


def test_outside_xla_tensorflow_computes():
    x = tf.constant([0.1, 0.7])
    np.testing.assert_array_equal(fast_math.exp(x), tf.exp(x))
    np.testing.assert_array_equal(fast_math.log(x), tf.math.log(x))


# ------------------------------------------------------------------------------------------------ median


@pytest.mark.parametrize("size", range(1, 10))
def test_networks_sort(size):
    """A network sorts all numbers if it sorts all zeros and ones (Knuth)."""
    everything = frozenset(range(size))
    bits = np.array(list(itertools.product([0, 1], repeat=size))).T
    for ranks in (everything, frozenset({size // 2}), frozenset({0}), frozenset({size - 1})):
        line = list(bits)
        for i, j in median.network(size, ranks):
            line[i], line[j] = np.minimum(line[i], line[j]), np.maximum(line[i], line[j])
        expected = np.sort(bits, 0)
        for rank in ranks:
            np.testing.assert_array_equal(line[rank], expected[rank])


def test_networks_leave_out_what_is_not_asked_for():
    assert len(median.network(9, frozenset({4}))) < len(median.network(9, frozenset(range(9))))
