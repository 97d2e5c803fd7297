"""The optimizers, weight averaging and gradient accumulation, each against its formula."""

import keras
import numpy as np
import pytest

from recipes.parts.optimizers import MOMENTUM, make_optimizer
from recipes.parts.weight_average import WeightAverage


def constant(rate):
    return keras.optimizers.schedules.CosineDecay(rate, decay_steps=10**9)


def make_weights():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4), "bias": (4,), "depthwise": (3, 3, 5, 1), "gamma": (5,)}
    return [keras.Variable(rng.normal(size=shape).astype("f4"), name=name) for name, shape in shapes.items()]


def test_weight_decay_takes_kernels_and_leaves_biases_and_norms():
    for name in ("sgd", "adamw"):
        weights = make_weights()
        before = [weight.numpy() for weight in weights]
        optimizer = make_optimizer(name, weights, constant(0.1), weight_decay=0.5)
        optimizer.apply([keras.ops.zeros_like(weight) for weight in weights], weights)
        for weight, start in zip(weights, before, strict=True):
            kept = 1 - 0.1 * 0.5 if start.ndim > 1 else 1.0
            np.testing.assert_allclose(weight.numpy(), kept * start, rtol=1e-6)


def test_sgd_has_nesterov_momentum():
    (weight,) = weights = make_weights()[:1]
    value, velocity = weight.numpy().astype("f8"), 0.0
    optimizer = make_optimizer("sgd", weights, constant(0.1))
    for step in range(5):
        gradient = np.full(value.shape, np.sin(step + 1))
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], weights)
        velocity = MOMENTUM * velocity - 0.1 * gradient
        value += MOMENTUM * velocity - 0.1 * gradient
    np.testing.assert_allclose(weight.numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_accumulated_gradients_are_one_large_batch(name):
    small, large = make_weights(), make_weights()
    accumulating = make_optimizer(name, small, constant(0.1), weight_decay=0.1, accumulate=3)
    plain = make_optimizer(name, large, constant(0.1), weight_decay=0.1)
    rng = np.random.default_rng(1)
    for _ in range(4):
        parts = [[rng.normal(size=weight.shape).astype("f4") for weight in small] for _ in range(3)]
        for part in parts:
            accumulating.apply([keras.ops.convert_to_tensor(gradient) for gradient in part], small)
        means = [np.mean(gradients, axis=0) for gradients in zip(*parts, strict=True)]
        plain.apply([keras.ops.convert_to_tensor(gradient) for gradient in means], large)
        for one, other in zip(small, large, strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_of_weights_is_the_formula(accumulate):
    weights = make_weights()
    average = WeightAverage(weights, 0.5, accumulate=accumulate)
    expected = [weight.numpy().astype("f8") for weight in weights]
    update = 0
    for batch in range(8):
        if (batch + 1) % accumulate == 0:
            for weight in weights:
                weight.assign_add(keras.ops.full(weight.shape, 0.25 * (batch + 1)))
            decay = min(0.5, (1 + update) / (10 + update))
            expected = [decay * old + (1 - decay) * new.numpy() for old, new in zip(expected, weights, strict=True)]
            update += 1
        average.on_train_batch_end(batch)
    own = [weight.numpy() for weight in weights]
    with average.in_place():
        for weight, value in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight.numpy(), value, rtol=1e-5)
    for weight, value in zip(weights, own, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
