"""Temperature scaling against a grid of temperatures, and what a run makes of it."""

import json
import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.parts.calibration import BOUNDS, fit_temperature
from recipes.parts.dataset import DataSet, Split
from recipes.parts.display import Display
from recipes.parts.metrics import log_softmax
from recipes.parts.outcome import conclude


def loss(logits, labels, temperature):
    return -np.mean(log_softmax(logits / temperature)[np.arange(len(labels)), labels])


def test_the_temperature_of_sampled_labels_is_found():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50_000, 4)) * 2
    labels = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)  # drawn from the softmax of the logits
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.02)
    assert fit_temperature(logits / 3, labels) == pytest.approx(1 / 3, rel=0.02)
    # Adding a number to all logits of an image changes no score.
    assert fit_temperature(3 * logits + rng.normal(size=(50_000, 1)) * 100, labels) == pytest.approx(3, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 30), scale=st.sampled_from([1e-2, 1.0, 40.0, 1e4]))
def test_no_temperature_of_a_grid_is_better(seed, count, scale):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3)) * scale
    labels = np.where(rng.random(count) < 0.7, logits.argmax(axis=1), rng.integers(0, 3, count))
    found = fit_temperature(logits, labels)
    assert loss(logits, labels, found) <= loss(logits, labels, 1.0)
    mistaken = (logits > logits[np.arange(count), labels][:, None]).any()
    if found != 1 and mistaken:
        assert BOUNDS[0] <= found <= BOUNDS[1]
        assert (
            loss(logits, labels, found) <= min(loss(logits, labels, each) for each in np.geomspace(*BOUNDS, 61)) + 1e-9
        )


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 10, 200])
def test_where_every_example_is_right_one_in_so_many_more_is_believed_to_be_wrong(scale, count):
    labels = np.arange(count) % 3
    logits = scale * (np.eye(3)[labels] + 0.1)
    found = fit_temperature(logits, labels)
    score = np.exp(log_softmax(logits / found))[0, labels[0]]
    if found != 1:
        assert score == pytest.approx((count + 1) / (count + 2))
    else:  # it was surer than that, and less sure would be worse on these
        assert score >= (count + 1) / (count + 2)


def test_what_no_temperature_changes_or_improves_is_left_alone():
    labels = np.arange(6) % 3
    assert fit_temperature(np.zeros((6, 3)), labels) == 1
    assert fit_temperature(np.zeros((0, 3)), labels[:0]) == 1
    assert fit_temperature(1e6 * np.eye(3)[labels], labels) == 1


def test_of_a_model_that_is_worse_than_chance_nothing_is_believed():
    labels = np.arange(30) % 3
    assert fit_temperature(-4 * np.eye(3)[labels], labels) == BOUNDS[1]


def test_logits_that_are_no_numbers_are_left_alone():
    assert fit_temperature(np.array([[np.nan, 1.0], [0.0, 1.0]]), np.array([0, 0])) == 1


SCALE = 0.02
"""Of logits by which the labels below are drawn, against levels of colour."""


def make_split(count, seed):
    """Images of one pixel, each class drawn by the strengths of the colours."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 1, 3), np.uint8)
    labels = np.argmax(SCALE * images[:, 0, 0] + rng.gumbel(size=(count, 3)), axis=1).astype(np.int32)
    return Split(images=images, labels=labels, files=("",) * count, sha256=("",) * count)


def test_a_run_is_calibrated_on_validation_and_measured_on_both(tmp_path, capsys):
    image = keras.Input((1, 1, 3))
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.Model(image, dense(keras.layers.Flatten()(image)))
    dense.set_weights([np.eye(3) * 5 * SCALE])
    splits = {name: make_split(600, seed) for seed, name in enumerate(("train", "validation", "test"))}
    data = DataSet(classes=("a", "b", "c"), **splits, notices=(), unreadable=(), fingerprint="")
    with Display() as display:
        conclude(tmp_path, model, data, [], title="", batch_size=64, began=time.perf_counter(), display=display)
    calibration = json.loads((tmp_path / "calibration.json").read_text())
    logits = {name: split.images[:, 0, 0] * (5 * SCALE) for name, split in splits.items()}
    temperature = fit_temperature(logits["validation"], splits["validation"].labels)
    assert temperature == pytest.approx(5, rel=0.15)
    assert calibration["temperature"] == pytest.approx(temperature)
    for name in ("validation", "test"):
        found = calibration[name]
        assert found["before"]["loss"] == pytest.approx(loss(logits[name], splits[name].labels, 1), rel=1e-5)
        assert found["after"]["loss"] == pytest.approx(loss(logits[name], splits[name].labels, temperature), rel=1e-5)
        assert found["after"]["calibration_error"] < found["before"]["calibration_error"]
    # What `metrics.json` says of the test split is what `zoo evaluate` will say.
    recorded = json.loads((tmp_path / "metrics.json").read_text())["test"]
    assert {name: recorded[name] for name in found["after"]} == found["after"]
    shown = capsys.readouterr().out
    assert f"temperature of {temperature:.3f}; calibration error: validation " in " ".join(shown.split())
