"""The layers that Keras lacks."""

from pathlib import Path

import keras
import numpy as np
import pytest

from zoo import layers
from zoo.layers.registration import register


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype("float32")


def test_separable_convolution_is_that_of_keras() -> None:
    assert layers.SeparableConv2D is keras.layers.SeparableConv2D


def test_pointwise_convolution_is_a_dense_layer_at_every_position(images: np.ndarray) -> None:
    layer = layers.PointwiseConv2D(7, bias_initializer="normal")
    outputs = layer(images)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (1, 1, 3, 7)
    np.testing.assert_allclose(outputs, images @ kernel[0, 0] + bias, atol=1e-6)
    assert layers.PointwiseConv2D(7, strides=2)(images).shape == (4, 3, 3, 7)


def test_depthwise_and_pointwise_convolution_make_a_separable_one(images: np.ndarray) -> None:
    separable = layers.SeparableConv2D(7, 3, padding="same", use_bias=False)
    expected = separable(images)
    depthwise = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False)
    pointwise = layers.PointwiseConv2D(7, use_bias=False)
    pointwise(depthwise(images))
    first, second = separable.get_weights()
    depthwise.set_weights([first])
    pointwise.set_weights([second])
    np.testing.assert_allclose(pointwise(depthwise(images)), expected, atol=1e-6)


def test_pointwise_convolution_has_a_window_of_one() -> None:
    with pytest.raises(ValueError, match="Received: kernel_size=3"):
        layers.PointwiseConv2D(7, kernel_size=3)


def test_stochastic_depth_does_nothing_at_inference(images: np.ndarray) -> None:
    np.testing.assert_array_equal(layers.StochasticDepth(0.5)(images), images)
    np.testing.assert_array_equal(layers.StochasticDepth(0.0)(images, training=True), images)


@pytest.mark.parametrize("shape", [(1000, 3), (1000, 2, 3, 2)])
def test_stochastic_depth_drops_whole_images_and_keeps_the_mean(shape: tuple[int, ...]) -> None:
    x = np.full(shape, 2.0, "float32")
    outputs = np.reshape(layers.StochasticDepth(0.2, seed=1)(x, training=True), (len(x), -1))
    kept = outputs[:, 0] != 0
    np.testing.assert_allclose(outputs, np.where(kept, 2 / 0.8, 0)[:, None] * np.ones_like(outputs))
    # 1,000 draws of 0.8: a standard deviation of 0.013.
    assert 0.75 < kept.mean() < 0.85


def test_stochastic_depth_follows_its_seed(images: np.ndarray) -> None:
    x = np.repeat(images, 16, axis=0)

    def draws(seed: int) -> list[np.ndarray]:
        layer = layers.StochasticDepth(0.5, seed=seed)
        return [np.asarray(layer(x, training=True)) for _ in range(2)]

    first, again, other = draws(1), draws(1), draws(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("rate", [1.0, -0.1, True, "0.5", None])
def test_stochastic_depth_refuses_rates_that_are_none(rate: object) -> None:
    with pytest.raises(ValueError, match=r"`rate` must be a fraction in \[0, 1\)"):
        layers.StochasticDepth(rate)


def test_layers_train_in_16_bits_and_load_again(images: np.ndarray, tmp_path: Path) -> None:
    inputs = keras.Input((6, 5, 3))
    x = layers.PointwiseConv2D(4, strides=2, use_bias=False, dtype="mixed_bfloat16", name="pointwise")(inputs)
    x = layers.StochasticDepth(0.25, seed=3, dtype="mixed_bfloat16", name="drop")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(keras.layers.Flatten()(x)))
    model.compile("sgd", "mse")
    model.fit(images, np.zeros((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    revived = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(revived(images), model(images))
    pointwise, drop = revived.get_layer("pointwise"), revived.get_layer("drop")
    assert type(pointwise) is layers.PointwiseConv2D
    assert (pointwise.filters, pointwise.strides, pointwise.use_bias) == (4, (2, 2), False)
    assert type(drop) is layers.StochasticDepth
    assert (drop.rate, drop.seed) == (0.25, 3)
    assert "kernel_size" not in pointwise.get_config()
    assert "noise_shape" not in drop.get_config()


def test_a_taken_name_is_refused() -> None:
    class PointwiseConv2D(keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match=r"zoo>PointwiseConv2D is registered already, as zoo\.layers\.pointwise_conv"):
        register(PointwiseConv2D)
    assert register(layers.StochasticDepth) is layers.StochasticDepth
