"""The search for a learning rate, against gradient descent in plain NumPy, and that it leaves no trace."""

import json
import math

import keras
import numpy as np
import pytest
from PIL import Image

from recipes.parts.learning_rate_finder import LearningRateCurve, draw_learning_rates, find_learning_rate
from recipes.parts.optimizers import make_optimizer
from recipes.parts.stages import TrainingFailed
from zoo.errors import InputError

STEPS, LOW, HIGH = 60, 1e-4, 1e2


def gradient_descent(rate):
    return keras.optimizers.SGD(rate)


def linear_model():
    features = keras.Input((3,))
    model = keras.Model(features, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(features))
    model.compile("adam", keras.losses.MeanSquaredError())
    return model


def problem(noise=0.0):
    """Batches of a linear regression; and the rate above which plain gradient descent diverges."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(16, 3)).astype("f4")
    targets = (features @ np.array([[1.0], [-2.0], [0.5]]) + noise * rng.normal(size=(16, 1))).astype("f4")
    return [(features, targets)] * STEPS, float(1 / np.linalg.eigvalsh(features.T @ features / 16).max())


def test_losses_are_those_of_gradient_descent_whose_rate_rises():
    batches, limit = problem(noise=0.5)
    curve = find_learning_rate(linear_model(), batches, gradient_descent, steps=STEPS, low=LOW, high=HIGH)
    weights, average = np.zeros((3, 1)), 0.0
    for step, (rate, loss, smoothed) in enumerate(zip(curve.rates, curve.losses, curve.smoothed, strict=True)):
        features, targets = batches[step]
        rest = features @ weights - targets
        assert rate == pytest.approx(LOW * (HIGH / LOW) ** (step / (STEPS - 1)))
        assert loss == pytest.approx(np.mean(rest**2), rel=1e-2)
        average = 0.9 * average + 0.1 * np.mean(rest**2)
        assert smoothed == pytest.approx(average / (1 - 0.9 ** (step + 1)), rel=1e-2)
        weights -= rate * 2 * features.T @ rest / 16
    assert curve.diverged
    assert len(curve.losses) < STEPS
    # It breaks away above the rate at which theory says so, and the suggestion is one that trains.
    assert curve.smoothed[-1] > 4 * min(curve.smoothed) >= curve.smoothed[-2]
    assert limit < curve.rates[-1] < 10 * limit
    assert curve.suggestion == curve.rates[-1] / 10


def noisy_model():
    keras.utils.set_random_seed(0)
    features = keras.Input((3,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(4)(features))
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(features, keras.layers.Dense(2)(x))
    model.compile(
        make_optimizer("adamw", model.trainable_variables, keras.optimizers.schedules.CosineDecay(0.1, 100)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def test_no_trace_is_left():
    rng = np.random.default_rng(0)
    features, labels, weights = rng.normal(size=(12, 3)).astype("f4"), np.arange(12) % 2, np.ones(12, "f4")
    model = noisy_model()
    state = [*model.variables, *model.optimizer.variables]
    assert any("seed" in variable.path for variable in state)
    before = [variable.numpy().tobytes() for variable in state]
    batches = [(features[:8], labels[:8], weights[:8]), (features[8:], labels[8:], weights[8:])] * 5
    curve = find_learning_rate(
        model, batches, lambda rate: make_optimizer("adamw", model.trainable_variables, rate), steps=10, low=0.1
    )
    assert len(set(curve.losses)) == len(curve.losses) > 1  # it has trained
    assert [variable.numpy().tobytes() for variable in state] == before


def test_weights_come_back_after_an_interruption():
    model = noisy_model()
    before = [weight.numpy() for weight in model.weights]

    def batches():
        yield np.ones((4, 3), "f4"), np.zeros(4, "i4")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(
            model, batches(), lambda rate: make_optimizer("sgd", model.trainable_variables, rate), low=1.0, high=2.0
        )
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_a_loss_that_bears_every_rate_is_said_so_and_drawn(tmp_path):
    batches, limit = problem()
    curve = find_learning_rate(linear_model(), batches, gradient_descent, steps=STEPS, low=LOW, high=limit / 2)
    assert not curve.diverged
    assert len(curve.rates) == STEPS
    assert curve.suggestion == pytest.approx(limit / 20)
    json.dumps(curve.to_json(), allow_nan=False)
    draw_learning_rates(tmp_path / "learning_rate.png", curve, title="a $stage")
    with Image.open(tmp_path / "learning_rate.png") as figure:
        assert figure.width > 400


def test_jumps_of_a_loss_that_is_next_to_nothing_do_not_count():
    batches, limit = problem()
    model = linear_model()
    model.layers[-1].kernel.assign([[1.0], [-2.0], [0.5]])  # the solution
    shifted = [(x, y + (0.2 if step % 9 == 8 else 0)) for step, (x, y) in enumerate(batches)]
    curve = find_learning_rate(model, shifted, gradient_descent, steps=STEPS, low=LOW, high=limit / 2)
    assert max(curve.smoothed) > 100 * min(curve.smoothed)
    assert not curve.diverged


def test_a_loss_that_is_no_number_has_broken_away():
    batches, _ = problem()
    curve = find_learning_rate(
        linear_model(), [*batches[:5], (np.full_like(batches[0][0], np.nan), batches[0][1])], gradient_descent
    )
    assert curve.diverged
    assert len(curve.losses) == 5
    json.dumps(curve.to_json(), allow_nan=False)


def test_a_model_that_is_broken_already():
    model = linear_model()
    model.layers[-1].kernel.assign(np.full((3, 1), np.nan))
    with pytest.raises(TrainingFailed, match="before anything has been trained"):
        find_learning_rate(model, problem()[0], gradient_descent)


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"low": 0.0}, {"low": 1.0, "high": 0.1}, {"high": math.inf}])
def test_a_search_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match="2 steps or more"):
        find_learning_rate(linear_model(), [], gradient_descent, **wrong)


@pytest.mark.parametrize(
    ("steps", "diverged", "found"),
    [(50, True, True), (50, False, False), (3, True, False)],
)
def test_a_loss_that_never_breaks_away_or_does_so_at_once_suggests_nothing(steps, diverged, found):
    rates = tuple(np.geomspace(1e-6, 1, steps).tolist())
    curve = LearningRateCurve(rates=rates, losses=rates, smoothed=rates, suggestion=0.1, diverged=diverged)
    assert curve.found is found
    assert curve.to_json()["found"] is found
