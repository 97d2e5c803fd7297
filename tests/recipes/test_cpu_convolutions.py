"""Faster forms of convolutions: the same numbers as the layers that they stand for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import benchmark_steps
from recipes.parts.cpu_convolutions import depthwise_conv2d, fast_on_cpu, pointwise_conv2d


def gradients_of(function, *arguments):
    """What it says, and the gradients of a sum of that in which each number has a weight of its own."""
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        outputs = function(*arguments)
        weights = np.random.default_rng(1).normal(size=outputs.shape).astype("f4")
        loss = tf.reduce_sum(outputs * weights)
    return [outputs, *tape.gradient(loss, arguments)]


def random(*shape):
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape), tf.float32)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    window=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    strides=st.integers(1, 4),
    padding=st.sampled_from(["same", "valid"]),
    multiplier=st.integers(1, 2),
)
def test_a_depthwise_convolution_is_that_of_tensorflow(sizes, window, strides, padding, multiplier):
    if padding == "valid":
        sizes = tuple(map(max, sizes, window))
    inputs, kernel = random(2, *sizes, 3), random(*window, 3, multiplier)
    found = gradients_of(lambda x, k: depthwise_conv2d(x, k, strides=strides, padding=padding), inputs, kernel)
    stock = gradients_of(
        lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, strides, strides, 1], padding.upper()), inputs, kernel
    )
    np.testing.assert_array_equal(found[0], stock[0])
    for one, other in zip(found[1:], stock[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_a_pointwise_convolution_is_that_of_tensorflow():
    arguments = random(2, 5, 4, 3), random(1, 1, 3, 7)
    found = gradients_of(pointwise_conv2d, *arguments)
    for one, other in zip(found, gradients_of(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), *arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


class Doubling(keras.layers.Conv2D):
    """A layer of the user's own."""

    def call(self, inputs):
        return 2 * super().call(inputs)


LAYERS = {
    "pointwise": lambda: keras.layers.Conv2D(6, 1),
    "pointwise, activation": lambda: keras.layers.Conv2D(6, 1, activation="relu6", bias_initializer="normal"),
    "pointwise, no bias": lambda: keras.layers.Conv2D(6, 1, use_bias=False),
    "pointwise, strides": lambda: keras.layers.Conv2D(6, 1, strides=2),
    "pointwise, channels first": lambda: keras.layers.Conv2D(6, 1, data_format="channels_first"),
    "groups": lambda: keras.layers.Conv2D(6, 1, groups=2),
    "3 x 3": lambda: keras.layers.Conv2D(6, 3),
    "of the user": lambda: Doubling(6, 1),
    "depthwise": lambda: keras.layers.DepthwiseConv2D(5, padding="same", activation="relu", bias_initializer="normal"),
    "depthwise, larger than the image": lambda: keras.layers.DepthwiseConv2D(9, padding="same", use_bias=False),
    "depthwise, strides": lambda: keras.layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
    "depthwise, dilated": lambda: keras.layers.DepthwiseConv2D(3, dilation_rate=2),
    "a model": lambda: keras.Sequential([keras.layers.DepthwiseConv2D(5), keras.layers.Conv2D(3, 1)]),
}
FASTER = {
    "pointwise",
    "pointwise, activation",
    "pointwise, no bias",
    "depthwise",
    "depthwise, larger than the image",
    "depthwise, strides",
    "a model",
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_says_and_learns_the_same(name):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 8, 4))
    layer = LAYERS[name]()
    model = keras.Model(image, layer(image))
    variables = [weight.value for weight in model.trainable_variables]
    inputs = random(2, 6, 8, 4)
    parts = list(layer._flatten_layers())

    def run():
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            loss = tf.reduce_sum(outputs**2)
        return [outputs, *tape.gradient(loss, variables)]

    stock = run()
    with fast_on_cpu(model):
        assert any("call" in vars(part) for part in parts) == (name in FASTER)
        found = run()
    assert not any("call" in vars(part) for part in parts)
    for one, other in zip(found, stock, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-4)


def test_layers_are_as_before_after_an_error():
    image = keras.Input((6, 8, 4))
    model = keras.Model(image, keras.layers.Conv2D(6, 1)(image))
    with pytest.raises(ZeroDivisionError), fast_on_cpu(model):
        raise ZeroDivisionError
    assert "call" not in vars(model.layers[1])


def test_what_somebody_has_put_in_place_of_a_layers_call_stays():
    image = keras.Input((6, 8, 4))
    model = keras.Model(image, keras.layers.Conv2D(6, 1)(image))
    with fast_on_cpu(model):
        mine = model.layers[1].call
        with fast_on_cpu(model):
            assert model.layers[1].call is mine
        assert model.layers[1].call is mine


def test_in_mixed_precision_it_computes_as_the_layer_does():
    image = keras.Input((6, 8, 4))
    layers = [
        keras.layers.Conv2D(6, 1, dtype="mixed_bfloat16"),
        keras.layers.DepthwiseConv2D(5, dtype="mixed_bfloat16"),
    ]
    model = keras.Model(image, layers[1](layers[0](image)))
    stock = model(random(2, 6, 8, 4))
    with fast_on_cpu(model):
        found = model(random(2, 6, 8, 4))
    assert found.dtype == stock.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(found, tf.float32), tf.cast(stock, tf.float32), rtol=0.02, atol=0.02)


def test_images_of_any_size_are_taken():
    image = keras.Input((None, None, 4))
    model = keras.Model(image, keras.layers.DepthwiseConv2D(5, padding="same")(keras.layers.Conv2D(6, 1)(image)))
    stock = model(random(2, 3, 3, 4))
    with fast_on_cpu(model):
        found = tf.function(lambda images: model(images), input_signature=[tf.TensorSpec((None, None, None, 4))])(
            random(2, 3, 3, 4)
        )
    np.testing.assert_allclose(found, stock, rtol=1e-5, atol=1e-5)


def test_the_benchmark_has_a_line_for_a_network(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_steps, "STEPS", 1)
    monkeypatch.setattr(benchmark_steps, "ROUNDS", 2)
    benchmark_steps.compare("separable_vgg_nano", 32)
    line = capsys.readouterr().out.split()
    assert line[:3] == ["separable_vgg_nano", "32", "px"]
    assert float(line[-2]) > 0
