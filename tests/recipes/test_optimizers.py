"""The optimizers, weight averaging and gradient accumulation, each against its formula."""

import keras
import numpy as np
import pytest

from recipes.parts.blocks import Block
from recipes.parts.optimizers import MOMENTUM, block_factors, layer_decay_factors, make_optimizer
from recipes.parts.weight_average import WeightAverage
from zoo.surgery import split


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


RATE, DECAY = keras.optimizers.schedules.PolynomialDecay(0.1, decay_steps=12, end_learning_rate=0.01), 0.3
FACTORS = {"kernel": 0.25, "bias": 0.5, "gamma": 0.0}


def in_numpy(name, values, gradients, accumulate):
    """What the updates come to, written down from the papers."""
    values = [value.astype("f8") for value in values]
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    for update in range(len(gradients) // accumulate):
        group = gradients[update * accumulate : (update + 1) * accumulate]
        step = (update + 1) * accumulate - 1  # schedules count batches
        time = update + 1
        for index, key in enumerate(("kernel", "bias", "depthwise", "gamma")):
            rate = float(RATE(step)) * FACTORS.get(key, 1.0)
            gradient = np.mean([each[index] for each in group], axis=0)
            if values[index].ndim > 1:
                values[index] = values[index] * (1 - rate * DECAY)
            if name == "sgd":
                first[index] = MOMENTUM * first[index] - rate * gradient
                values[index] = values[index] + MOMENTUM * first[index] - rate * gradient
            else:
                first[index] = 0.9 * first[index] + 0.1 * gradient
                second[index] = 0.999 * second[index] + 0.001 * gradient**2
                mean, square = first[index] / (1 - 0.9**time), second[index] / (1 - 0.999**time)
                values[index] = values[index] - rate * mean / np.sqrt(square)
    return values


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_each_weight_has_its_own_rate_and_decay(name, accumulate):
    weights = make_weights()
    start = [weight.numpy() for weight in weights]
    optimizer = make_optimizer(
        name, weights, RATE, weight_decay=DECAY, accumulate=accumulate, rate_factors={**FACTORS, "elsewhere": 9.0}
    )
    rng = np.random.default_rng(2)
    gradients = [[rng.normal(size=weight.shape).astype("f4") for weight in weights] for _ in range(12)]
    for batch, each in enumerate(gradients):
        assert float(optimizer.learning_rate) == pytest.approx(float(RATE(batch)))  # of a factor of 1
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in each], weights)
    expected = in_numpy(name, start, gradients, accumulate)
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), value, rtol=2e-4, atol=1e-6)
    np.testing.assert_array_equal(weights[3].numpy(), start[3])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_factors_it_is_the_optimizer_of_keras(name):
    """So that what was measured with the one holds for the other."""
    own, stock = make_weights(), make_weights()
    optimizer = make_optimizer(name, own, RATE, weight_decay=DECAY)
    arguments = {"learning_rate": RATE, "weight_decay": DECAY}
    other = (
        keras.optimizers.SGD(momentum=MOMENTUM, nesterov=True, name="sgd", **arguments)
        if name == "sgd"
        else keras.optimizers.Adam(name="adam", **arguments)
    )
    other.exclude_from_weight_decay(var_list=[weight for weight in stock if len(weight.shape) < 2])
    rng = np.random.default_rng(3)
    for _ in range(5):
        gradients = [keras.ops.convert_to_tensor(rng.normal(size=weight.shape).astype("f4")) for weight in own]
        optimizer.apply(gradients, own)
        other.apply(gradients, stock)
    for one, another in zip(own, stock, strict=True):
        # TensorFlow's op for Adam takes 0.999 from 1 in float32, Keras in float64.
        tolerance = 0 if name == "sgd" else 1e-4
        np.testing.assert_allclose(one.numpy(), another.numpy(), rtol=tolerance, atol=0.1 * tolerance)
    # Paths of its state are the same in every process; by default Keras counts its optimizers.
    assert [variable.path for variable in optimizer.variables] == [variable.path for variable in other.variables]


def test_state_put_into_a_new_optimizer_by_path_goes_on_bit_for_bit():
    rng = np.random.default_rng(4)
    gradients = [[rng.normal(size=weight.shape).astype("f4") for weight in make_weights()] for _ in range(6)]

    def train(weights, optimizer, batches):
        for each in batches:
            optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in each], weights)

    def make(weights):
        return make_optimizer("adamw", weights, RATE, weight_decay=DECAY, accumulate=2, rate_factors=FACTORS)

    whole, broken, resumed = make_weights(), make_weights(), make_weights()
    train(whole, make(whole), gradients)
    before = make(broken)
    train(broken, before, gradients[:3])
    state = {variable.path: variable.numpy().copy() for variable in before.variables}
    assert len(state) == len(before.variables)
    after = make(resumed)
    for weight, other in zip(resumed, broken, strict=True):
        weight.assign(other)
    for variable in after.variables:
        variable.assign(state[variable.path])
    train(resumed, after, gradients[3:])
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_factors_hold_under_mixed_precision_in_fit():
    """Keras wraps the optimizer in one that scales the loss."""
    keras.utils.set_random_seed(0)
    policy = keras.DTypePolicy("mixed_float16")
    features = keras.Input((3,))
    hidden = keras.layers.Dense(4, dtype=policy, name="a")(features)
    model = keras.Model(features, keras.layers.Dense(2, dtype=policy, name="b")(hidden))
    start = {weight.path: weight.numpy() for weight in model.weights}
    images, labels = np.random.default_rng(0).normal(size=(8, 3)).astype("f4"), np.arange(8) % 2
    moved = []
    for factors in (None, {"a/kernel": 0.5}):
        for weight in model.weights:
            weight.assign(start[weight.path])
        optimizer = make_optimizer("sgd", model.trainable_variables, constant(1.0), rate_factors=factors)
        scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
        model.compile(scaled, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images, labels, batch_size=8, epochs=1, verbose=0)
        moved.append({weight.path: weight.numpy() - start[weight.path] for weight in model.weights})
    assert np.abs(moved[0]["a/kernel"]).max() > 0
    np.testing.assert_allclose(moved[1]["a/kernel"], 0.5 * moved[0]["a/kernel"], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(moved[1]["b/kernel"], moved[0]["b/kernel"])


def test_rates_fall_from_the_head_to_the_stem():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="stem_conv")(image)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.Conv2D(4, 3, name="deep_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head_logits")(x))
    blocks = (
        Block("stem", ("stem_conv", "stem_norm")),
        Block("deep", ("deep_conv",)),
        Block("head", ("head_pool", "head_logits")),
    )
    found = layer_decay_factors(blocks, model, 0.5)
    assert found.keys() == {weight.path for weight in model.weights}
    assert {path: factor for path, factor in found.items() if path.endswith("kernel")} == {
        "stem_conv/kernel": 0.25,
        "deep_conv/kernel": 0.5,
        "head_logits/kernel": 1.0,
    }
    assert found["stem_norm/gamma"] == 0.25
    assert set(layer_decay_factors(blocks, model, 1.0).values()) == {1.0}
    chosen = block_factors(blocks, model, {"deep": 0.3})
    assert {path for path, factor in chosen.items() if factor != 1} == {"deep_conv/kernel", "deep_conv/bias"}


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


def test_the_average_of_a_suffix_is_that_of_the_whole_model():
    """Training on activations averages the same weights, and gives them to the whole model."""
    images, labels = np.random.default_rng(0).normal(size=(12, 4, 4, 3)).astype("f4"), np.arange(12) % 2
    averages = []
    for on_activations in (False, True):
        keras.utils.set_random_seed(0)
        image = keras.Input((4, 4, 3))
        x = keras.layers.Conv2D(4, 3, name="frozen", trainable=False)(image)
        x = keras.layers.BatchNormalization(name="norm")(x)
        model = keras.Model(image, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(x)))
        prefix, suffix = split(model, "frozen")
        trained, inputs = (suffix, prefix(images).numpy()) if on_activations else (model, images)
        average = WeightAverage([*suffix.trainable_weights, *suffix.get_layer("norm").non_trainable_weights], 0.9)
        trained.compile(
            make_optimizer("sgd", trained.trainable_variables, constant(0.1)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        trained.fit(inputs, labels, batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=[average])
        own = model.get_weights()
        with average.in_place():
            averages.append(model.get_weights())
        assert not np.allclose(averages[-1][2], own[2])
    for one, other in zip(*averages, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
