"""The definitions against TensorFlow where it has them, and against small cases worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from custom_ops import reference

CASES = [
    ((5, 6), (2, 2), (2, 2)),  # a row is left over: the last stride does not reach it
    ((7, 8), (3, 2), (2, 3)),
    ((4, 5), (2, 3), (3, 1)),  # strides larger than the window, and smaller
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "size", "strides"), CASES)
def test_max_and_avg_agree_with_tensorflow(rng, shape, size, strides, padding):
    x = rng.normal(size=(2, *shape, 3))
    ours = reference.max_pool2d(x, size, strides, padding)
    np.testing.assert_allclose(ours, tf.nn.max_pool2d(x, size, strides, padding.upper()))
    ours = reference.avg_pool2d(x, size, strides, padding)
    np.testing.assert_allclose(ours, tf.nn.avg_pool2d(x, size, strides, padding.upper()))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "size", "strides"), CASES)
def test_convolutions_agree_with_tensorflow(rng, shape, size, strides, padding):
    x = rng.normal(size=(2, *shape, 3))
    kernel = rng.normal(size=(*size, 3, 4))
    ours = reference.conv2d(x, kernel, strides, padding)
    np.testing.assert_allclose(ours, tf.nn.conv2d(x, kernel, strides, padding.upper()), atol=1e-12)

    step = (2, 2)  # TensorFlow knows depthwise convolutions with equal strides only
    depthwise, pointwise = rng.normal(size=(*size, 3, 2)), rng.normal(size=(1, 1, 6, 4))
    ours = reference.separable_conv2d(x, depthwise, pointwise, step, padding)
    theirs = tf.nn.separable_conv2d(x, depthwise, pointwise, (1, *step, 1), padding.upper())
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def one_window(operator, values, *parameters):
    """Applies an operator to one window of four values."""
    x = np.array(values, np.float64).reshape(1, 2, 2, 1)
    return operator(x, *parameters, (2, 2), (2, 2), "valid").item()


def test_definitions_by_hand():
    assert one_window(reference.lp_pool2d, [3, -4, 0, 0], 2.0) == pytest.approx(5)
    assert one_window(reference.lp_pool2d, [0, 0, 0, 0], 2.0) == 0
    assert one_window(reference.gem_pool2d, [1, 2, 3, 4], 1.0) == pytest.approx(2.5)
    assert one_window(reference.gem_pool2d, [1, 7, 1, -9], 3.0) == pytest.approx((345 / 4) ** (1 / 3))
    # weights 1, 1, 2, 4 out of 8
    assert one_window(reference.soft_pool2d, np.log([1, 1, 2, 4]), 1.0) == pytest.approx(10 * np.log(2) / 8)
    logits = np.log([1, 1, 2, 4]).reshape(1, 2, 2, 1)
    assert one_window(reference.lip_pool2d, [8, 0, 4, 2], logits) == pytest.approx(3)
    assert one_window(reference.mixed_pool2d, [1, 2, 3, 6], 0.25) == pytest.approx(0.25 * 6 + 0.75 * 3)
    gate = np.array([[0, 0], [1, -0.5]])
    assert one_window(reference.gated_pool2d, [1, 2, 3, 6], gate) == pytest.approx(0.5 * 6 + 0.5 * 3)
    assert one_window(reference.stochastic_pool2d, [1, -5, 3, 0], None) == pytest.approx(2.5)
    for number, drawn in ((0.0, 1), (0.24, 1), (0.26, 3), (0.99, 3)):
        draw = np.full((1, 1, 1, 1), number)
        assert one_window(reference.stochastic_pool2d, [1, -5, 3, 0], draw) == drawn
    assert one_window(reference.stochastic_pool2d, [0, -5, 0, 0], np.zeros((1, 1, 1, 1))) == 0
    rows, columns = np.log([[1.0], [3.0]]), np.log([[1.0], [1.0]])
    assert one_window(reference.separable_pool2d, [0, 8, 8, 16], rows, columns) == pytest.approx(10)
    assert one_window(reference.median_pool2d, [9, 1, 2, 100]) == 5.5
    np.testing.assert_array_equal(reference.binomial(5), [1, 4, 6, 4, 1])


def test_absent_positions_are_left_out():
    x = np.full((1, 3, 3, 1), 5.0)
    for pool in (reference.avg_pool2d, reference.blur_pool2d, reference.median_pool2d, reference.max_pool2d):
        np.testing.assert_allclose(pool(x, (3, 3), (2, 2), "same"), 5.0)
    logits = np.array([[0.0], [1.0], [2.0]])
    np.testing.assert_allclose(reference.separable_pool2d(x, logits, logits, (3, 3), (1, 1), "same"), 5.0)


def test_blur_is_a_normalised_binomial_filter(rng):
    x = rng.normal(size=(1, 7, 7, 1))
    kernel = np.outer([1, 2, 1], [1, 2, 1]).reshape(3, 3, 1, 1) / 16
    expected = tf.nn.conv2d(x, kernel, 2, "VALID")
    np.testing.assert_allclose(reference.blur_pool2d(x, (3, 3), (2, 2), "valid"), expected)
    expected = tf.nn.conv2d(tf.nn.max_pool2d(x, 2, 1, "VALID"), kernel, 2, "VALID")
    np.testing.assert_allclose(reference.max_blur_pool2d(x, (2, 2), (3, 3), (2, 2), "valid"), expected)


def test_global_and_dynamic_by_hand():
    x = np.array([[[1.0], [5.0], [2.0], [4.0]]])
    np.testing.assert_array_equal(reference.k_max_pool1d(x, 2), [[[5], [4]]])
    np.testing.assert_array_equal(reference.k_max_pool1d(x[:, ::-1], 3), [[[4], [2], [5]]])
    np.testing.assert_allclose(reference.global_gem_pool(x, 1.0), [[3.0]])
    np.testing.assert_allclose(reference.global_attention_pool(x, np.log(x)), [[46 / 12]])
    image = np.arange(25.0).reshape(1, 5, 5, 1)
    corners = [[12, 14], [22, 24]]
    np.testing.assert_array_equal(reference.adaptive_pool2d(image, (2, 2), np.max)[0, ..., 0], corners)
    pyramid = reference.spatial_pyramid_pool2d(image, (1, 2), np.max)
    np.testing.assert_array_equal(pyramid, [[24, 12, 14, 22, 24]])
