"""Trials from scratch: alike in every process, gone on with in rounds, and never the end of the process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from recipes import train
from recipes.cli import main
from recipes.parts.config_file import read_config
from recipes.parts.search import train_trials
from recipes.parts.search.candidates import Architecture
from recipes.parts.search.job import Job
from recipes.parts.search.records import Trial
from recipes.parts.search.space import Space
from recipes.parts.search.static_costs import make_static_costs
from recipes.parts.search.trials import make_trials
from zoo import BLOCKS, vary


def sample(hp, base):
    """A space in which things can go wrong."""
    goes = hp.Choice("goes", ["well", "wrong", "unbuilt", "astray"], default="well")
    rate = {"astray": 1e30}.get(goes, hp.Choice("rate", [0.05, 0.1], default=0.05))
    spec = vary(base, pool=hp.Choice("pool", ["max", "soft"], default="max"), head_pool=None)
    block = {"wrong": "failing", "unbuilt": "unknown"}.get(goes)
    if block:
        spec = replace(spec, stages=tuple(replace(stage, block=block) for stage in spec.stages))
    mixup = hp.Choice("mixup", [0.0, 0.2], default=0.0)
    return Architecture(spec=spec, learning_rate=rate, mixup=mixup, random_erasing=0.25, augmentation="medium")


SPACE = Space("mine", "train", sample)


def failing(inputs, *, filters, strides, style, name):
    """A block of a user who is not there yet."""
    raise RuntimeError("not so\nfast")


def make_photos(folder):
    """Photos whose class shows in their colour, not too clearly."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / "ab"[label]).mkdir(parents=True)
        for index in range(24):
            pixels = rng.integers(0, 215, (16, 16, 3), np.uint8)
            pixels[..., label] += 20
            Image.fromarray(pixels).save(folder / "ab"[label] / f"{index}.png")
    return folder


def make_job(photos, **changes):
    settings = {
        "space": "mine",
        "recipe": "train",
        "data": f"folder:{photos}",
        "model": "test_vgg",
        "image_size": 16,
        "horizontal_flip": True,
        "epochs": 3,
        "final_epochs": 2,
        "num_classes": 2,
        "max_trials": 3,
        "batch_size": 8,
        "augmentation": "light",
        "views": 2,
    }
    return Job(**{**settings, **changes})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos") / "all")


@pytest.fixture(scope="module")
def trials(photos, tmp_path_factory):
    return make_trials(make_job(photos), SPACE, tmp_path_factory.mktemp("session"))


class Told:
    """What a trial tells."""

    def __init__(self):
        self.epochs = []

    def __call__(self, done, total, logs):
        self.epochs.append((done, total, logs["val_loss"]))


def run(trials, folder, trial_id="0000", told=None, **values):
    return trials.run(Trial(id=trial_id, values=values), folder / trial_id, told or Told(), lambda: None)


@pytest.fixture
def any_latency(monkeypatch):
    """What is measured takes a third of a second, and matters to few tests."""
    monkeypatch.setattr(train_trials, "latency_ms", lambda model: 1.0)


def test_a_trial_says_what_it_did(trials, photos, tmp_path, monkeypatch):
    # There is nothing to be seen of the test split.
    monkeypatch.setattr(trials, "data", replace(trials.data, test=None))
    told = Told()
    outcome = run(trials, tmp_path, told=told, pool="soft", mixup=0.2)
    assert (outcome.status, outcome.reason, outcome.epochs, outcome.test) == ("done", "", 3, {})
    assert [epoch[:2] for epoch in told.epochs] == [(1, 3), (2, 3), (3, 3)]
    assert outcome.validation["loss"] == min(loss for _, _, loss in told.epochs)
    assert 0 <= outcome.validation["macro_f1"] <= outcome.validation["accuracy"] <= 1
    candidate = sample_with(pool="soft", mixup=0.2)
    assert (outcome.parameters, outcome.multiply_adds) == make_static_costs(make_job(photos))(candidate)
    assert outcome.latency_ms > 0
    assert outcome.seconds > 0
    (tmp_path / "best.json").write_text(json.dumps(outcome.settings))
    config = read_config(train.Config, tmp_path / "best.json")
    train.check_config(config)
    assert train.choose_spec(config) == candidate.spec
    assert None not in (config.epochs, config.image_size, config.batch_size, config.augmentation)
    stage = train.choose_stage(config, epochs=config.epochs, batch_size=config.batch_size)
    assert (stage.learning_rate, stage.weight_decay, stage.epochs) == (0.05, 0.005, 3)
    assert (config.mixup, config.random_erasing, config.augmentation) == (0.2, 0.25, "medium")
    assert (config.horizontal_flip, config.seed) == (True, 0)


def sample_with(**values):
    import keras_tuner

    from zoo import MODELS

    hp = keras_tuner.HyperParameters()
    hp.values = values
    return sample(hp, MODELS["test_vgg"])


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_what_the_process_did_before_does_not_matter(trials, tmp_path):
    first, other, again = (run(trials, tmp_path, str(n), pool=pool) for n, pool in enumerate(("max", "soft", "max")))
    assert first.validation == again.validation
    assert first.validation["loss"] != other.validation["loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_rounds_come_to_the_same_as_one(trials, tmp_path):
    """Optimizer, learning rate and the order of images go on where they were."""
    whole, told = Told(), Told()
    once = run(trials, tmp_path, "once", whole, mixup=0.2)
    first = run(trials, tmp_path, "first", told, mixup=0.2, **{"tuner/epochs": 9})
    assert first.epochs == 1
    # A round that adds no epoch hands on what it was given.
    kept = {"mixup": 0.2, "tuner/epochs": 9, "tuner/trial_id": "first"}
    assert run(trials, tmp_path, "second", told, **kept).validation == first.validation
    kept |= {"tuner/epochs": 27, "tuner/trial_id": "second"}
    assert run(trials, tmp_path, "third", told, **kept).validation == once.validation
    assert told.epochs == whole.epochs


def test_a_candidate_that_is_too_slow_is_not_trained(photos, trials, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "job", make_job(photos, max_latency_ms=1e-6))
    told = Told()
    outcome = run(trials, tmp_path, told=told)
    assert (outcome.status, outcome.epochs, told.epochs) == ("over_budget", 0, [])
    assert "--max-latency-ms allows 1e-06" in outcome.reason
    assert outcome.parameters > 0


@pytest.mark.parametrize(
    ("goes", "reason", "traced"),
    [
        ("wrong", "RuntimeError: not so fast", True),
        ("unbuilt", "Unknown block 'unknown'", False),
        pytest.param("astray", "no longer finite", False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("own_registries", "any_latency")
def test_whatever_fails_is_told_in_one_line_and_the_next_trial_runs(trials, tmp_path, goes, reason, traced):
    BLOCKS.add("failing", failing)
    outcome = run(trials, tmp_path, goes=goes)
    assert outcome.status == "failed"
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert (tmp_path / "0000" / "traceback.txt").exists() == traced
    if traced:
        assert "in failing" in (tmp_path / "0000" / "traceback.txt").read_text()


def test_memory_that_runs_out_is_a_failure_of_the_trial(trials, tmp_path, monkeypatch):
    import tensorflow as tf

    def full(*arguments, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "a page of text")

    monkeypatch.setattr(train_trials, "build_untrained", full)
    outcome = run(trials, tmp_path)
    assert (outcome.status, outcome.reason) == ("failed", "out of memory")


@pytest.mark.slow
def test_a_trial_can_be_interrupted(trials, tmp_path):
    def stop(done, total, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trials, tmp_path, told=stop)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "values"), [("default", {}), ("winner", {"pool": "soft"})])
def test_a_final_run_leaves_the_folder_of_a_run(trials, tmp_path, capsys, kind, values):
    folder = tmp_path / f"{kind}-1"
    told = Told()
    outcome = trials.final(Trial(id=folder.name, values=values), folder, 1, told, lambda: None)
    assert (outcome.status, outcome.reason, outcome.epochs) == ("done", "", 2)
    assert capsys.readouterr().out == ""
    assert main(["evaluate", str(folder), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == outcome.test["accuracy"]
    assert measured["loss"] == pytest.approx(outcome.test["loss"], rel=1e-5)
    config = read_config(train.Config, folder / "config.json")
    assert config.seed == 0, "the seed of the search, from which the split follows"
    assert config.augmentation == ("light" if kind == "default" else "medium")
    pooling = keras.models.load_model(folder / "model.keras").get_layer("stage1_pool")
    assert type(pooling).__name__ == ("MaxPooling2D" if kind == "default" else "SoftPooling2D")
    assert {path.name for path in folder.iterdir()} >= {"spec.json", "history.jsonl", "report.png", "versions.json"}


def scores(photos, folder, *trial_ids):
    """Of trials that run in this process one after the other; also a script, see below."""
    trials = make_trials(make_job(photos), SPACE, Path(folder))
    pools = {"a": "max", "b": "soft"}
    return [run(trials, Path(folder), each, pool=pools[each]).validation for each in trial_ids]


@pytest.mark.slow
def test_a_fresh_process_comes_to_the_same(photos, tmp_path):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[3])}
    found = []
    for name, order in (("one", "a"), ("two", "ba")):
        (tmp_path / name).mkdir()
        command = [sys.executable, __file__, str(photos), str(tmp_path / name), *order]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert not done.returncode, done.stderr
        found.append(json.loads(done.stdout)[-1])
    assert found[0] == found[1]


if __name__ == "__main__":
    from recipes.parts import runtime

    runtime.start(seed=7, deterministic=True)
    print(json.dumps(scores(*sys.argv[1:])))
