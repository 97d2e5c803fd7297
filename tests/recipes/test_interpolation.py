"""Weights between two states of a model, and the statistics of batch norm that belong to them."""

import json

import keras
import numpy as np
import pytest

from recipes.parts.display import Display
from recipes.parts.interpolation import BatchNormStatistics, interpolate, interpolation_table


def make_model():
    keras.utils.set_random_seed(0)
    features = keras.Input((3,))
    x = keras.layers.Dense(4, name="first")(features)
    x = keras.layers.BatchNormalization(momentum=0.7, name="first_norm")(x)
    x = keras.layers.Dense(4, activation="relu", name="second")(x)
    x = keras.layers.BatchNormalization(name="second_norm")(x)
    return keras.Model(features, keras.layers.Dense(2, name="logits")(x))


def values(model):
    return {weight.path: weight.numpy().copy() for weight in model.weights}


def shifted(before, by):
    return {path: value + np.float32(by) for path, value in before.items()}


def put(model, state):
    for weight in model.weights:
        weight.assign(state[weight.path])


def distance_to(model, state):
    """A measure that is lowest where the weights are those of a state."""
    return lambda: {"loss": sum(np.sum((state[w.path] - w.numpy()) ** 2) for w in model.weights), "accuracy": 0.5}


def test_the_best_mix_is_kept_and_is_the_formula():
    model = make_model()
    before = values(model)
    tuned = shifted(before, 1.0)
    put(model, tuned)
    found = interpolate(model, before, distance_to(model, shifted(before, 0.69)))
    assert found.kept == pytest.approx(0.3)
    assert [point.alpha for point in found.points] == pytest.approx(np.arange(11) / 10)
    losses = [point.loss for point in found.points]
    assert min(losses) == losses[3]
    for weight in model.weights:
        expected = 0.3 * before[weight.path] + 0.7 * tuned[weight.path]
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert found.to_json()["points"][3] == {"alpha": 0.3, "loss": losses[3], "accuracy": 0.5}


@pytest.mark.parametrize(
    "measured", [lambda _: 1.0, lambda number: 1.0 + number, lambda number: np.nan if number else 1.0]
)
def test_the_tuned_weights_are_kept_bit_for_bit_unless_a_mix_is_better(measured):
    model = make_model()
    before = values(model)
    tuned = {path: np.where(value == 0, -0.0, value + 1).astype("f4") for path, value in before.items()}
    put(model, tuned)
    numbers = iter(range(11))
    found = interpolate(model, before, lambda: {"loss": measured(next(numbers)), "accuracy": 0.0})
    assert found.kept == 0
    json.dumps(found.to_json(), allow_nan=False)
    for weight in model.weights:
        assert weight.numpy().tobytes() == tuned[weight.path].tobytes()


def test_only_what_moved_is_mixed_and_the_state_before_may_win():
    model = make_model()
    start = values(model)
    before = {path: value for path, value in start.items() if path.startswith("logits")}
    put(model, shifted(start, 1.0))
    found = interpolate(model, before, distance_to(model, start), alphas=(0.5, 1.0))
    assert found.kept == 1
    assert [point.alpha for point in found.points] == [0, 0.5, 1]
    for weight in model.weights:
        expected = start[weight.path] + (0 if weight.path in before else np.float32(1))
        np.testing.assert_array_equal(weight.numpy(), expected)


def test_after_an_error_the_tuned_weights_are_back():
    model = make_model()
    before = values(model)
    tuned = shifted(before, 1.0)
    put(model, tuned)
    calls = iter(range(11))

    def validate():
        if next(calls) == 5:
            raise KeyboardInterrupt
        return {"loss": 1.0, "accuracy": 0.0}

    with pytest.raises(KeyboardInterrupt):
        interpolate(model, before, validate)
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), tuned[weight.path])


def batches():
    rng = np.random.default_rng(0)
    return [(rng.normal(2.0, 3.0, size=(count, 3)).astype("f4"), np.zeros(count)) for count in (8, 8, 3)]


def in_numpy(model):
    """The statistics of both norms: the mean over all images of what their batch says."""
    state = values(model)
    found = {name: np.zeros((2, 4)) for name in ("first_norm", "second_norm")}
    for images, _ in batches():
        x = images.astype("f8")
        for dense, norm in (("first", "first_norm"), ("second", "second_norm")):
            x = x @ state[f"{dense}/kernel"] + state[f"{dense}/bias"]
            x = np.maximum(x, 0) if dense == "second" else x
            mean, variance = x.mean(axis=0), x.var(axis=0)
            found[norm] += len(x) / 19 * np.stack([mean, variance])
            x = (x - mean) / np.sqrt(variance + 1e-3) * state[f"{norm}/gamma"] + state[f"{norm}/beta"]
    return found


def test_statistics_are_the_mean_of_what_batches_say():
    model = make_model()
    before = values(model)
    estimate = BatchNormStatistics(model, batches())
    for _ in range(2):  # old statistics do not matter
        estimate()
        for name, expected in in_numpy(model).items():
            norm = model.get_layer(name)
            found = [norm.moving_mean.numpy(), norm.moving_variance.numpy()]
            np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert [layer.momentum for layer in model.layers if hasattr(layer, "momentum")] == [0.7, 0.99]
    after = values(model)
    assert all(np.array_equal(before[path], after[path]) for path in before if "moving" not in path)


def test_frozen_statistics_are_left_alone():
    model = make_model()
    model.get_layer("first_norm").trainable = False
    before = values(model)
    BatchNormStatistics(model, batches())()
    after = values(model)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {"second_norm/moving_mean", "second_norm/moving_variance"}


def test_a_mix_is_validated_and_kept_with_its_own_statistics():
    model = make_model()
    before = values(model)
    tuned = {path: value**2 if "kernel" in path else value for path, value in before.items()}
    put(model, tuned)
    losses = iter([5.0, 4.0, 1.0, 3.0, 4.0])
    seen = []

    def validate():
        seen.append(model.get_layer("second_norm").moving_mean.numpy().copy())
        return {"loss": next(losses), "accuracy": 0.0}

    found = interpolate(
        model, before, validate, alphas=(0.2, 0.4, 0.6, 1.0), reestimate=BatchNormStatistics(model, batches())
    )
    assert found.kept == 0.4
    np.testing.assert_allclose(model.get_layer("second_norm").moving_mean, in_numpy(model)["second_norm"][0], rtol=1e-4)
    np.testing.assert_array_equal(model.get_layer("second_norm").moving_mean, seen[2])
    assert not np.allclose(seen[3], seen[2])
    # At the ends they are those of the weights themselves.
    np.testing.assert_array_equal(seen[0], tuned["second_norm/moving_mean"])
    np.testing.assert_array_equal(seen[4], before["second_norm/moving_mean"])


def test_what_is_known_of_the_tuned_weights_is_not_measured_again():
    model = make_model()
    losses = iter([2.0, 3.0])
    found = interpolate(
        model,
        values(model),
        lambda: {"loss": next(losses), "accuracy": 0.5},
        alphas=(0.5, 1.0),
        of_tuned={"loss": 2.5, "accuracy": 0.25},
    )
    assert [(point.loss, point.accuracy) for point in found.points] == [(2.5, 0.25), (2.0, 0.5), (3.0, 0.5)]
    assert found.kept == 0.5
    assert next(losses, None) is None


def test_the_table_marks_what_was_kept(capsys):
    model = make_model()
    before = values(model)
    put(model, shifted(before, 1.0))
    found = interpolate(model, before, distance_to(model, shifted(before, 0.5)), alphas=(0.5, 1.0))
    with Display() as display:
        display.show(interpolation_table(found))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "kept" in line] == ["50%"]
