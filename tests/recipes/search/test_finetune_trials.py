"""Trials of fine-tuning: one network for all of them, and frozen layers that run once for all of them."""

import itertools
import json

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from recipes import finetune
from recipes.cli import main
from recipes.parts.activations import Activations
from recipes.parts.config_file import read_config
from recipes.parts.search import finetune_trials
from recipes.parts.search.candidates import FineTuning
from recipes.parts.search.job import Job
from recipes.parts.search.records import Trial
from recipes.parts.search.space import Space
from recipes.parts.search.static_costs import make_static_costs
from recipes.parts.search.trials import make_trials
from recipes.parts.stages import Stage


def sample(hp, base):
    """Two cuts, two head pools without weights and one with, the head alone or two blocks with it."""
    cut = hp.Choice("cut", ["whole", "stage2_block1"], default="whole")
    pool = hp.Choice("pool", ["avg", "max", "gem"], default="avg")
    augmentation = hp.Choice("augmentation", ["none", "light"], default="none")
    unfreeze = hp.Choice("unfreeze", ["head", "last:2", "last:9"], default="head")
    stages = [Stage(name="head", epochs=2, learning_rate=0.05, augment=unfreeze == "head")]
    if unfreeze != "head":
        stages.append(Stage(name="tuned", unfreeze=unfreeze, epochs=1, learning_rate=1e-3))
    return FineTuning(
        cut=None if cut == "whole" else cut, head_pool=pool, augmentation=augmentation, stages=tuple(stages)
    )


SPACE = Space("mine", "finetune", sample)


def make_photos(folder):
    """Photos whose class shows in their colour."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (folder / "ab"[label]).mkdir(parents=True)
        for index in range(24):
            pixels = rng.integers(0, 155, (32, 32, 3), np.uint8)
            pixels[..., label] += 100
            Image.fromarray(pixels).save(folder / "ab"[label] / f"{index}.png")
    return folder


def make_job(root, **changes):
    settings = {
        "space": "mine",
        "recipe": "finetune",
        "data": f"folder:{root / 'photos'}",
        "model": "test_mobilenet_v2",
        "weights": str(root / "pretrained.keras"),
        "image_size": 32,
        "epochs": 1,
        "final_epochs": 2,
        "num_classes": 2,
        "max_trials": 3,
        "batch_size": 8,
        "augmentation": "light",
        "views": 2,
    }
    return Job(**{**settings, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    make_photos(root / "photos")
    keras.utils.set_random_seed(0)
    zoo.build_model("test_mobilenet_v2", input_shape=(32, 32, 3), num_classes=3).save(root / "pretrained.keras")
    return root


@pytest.fixture(scope="module")
def trials(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder / "cache"))
        return make_trials(make_job(root), SPACE, folder)


@pytest.fixture
def any_latency(monkeypatch):
    """What is measured takes a third of a second, and matters to few tests."""
    monkeypatch.setattr(finetune_trials, "latency_ms", lambda model: 1.0)


class Fills:
    """How often frozen layers were told to run."""

    def __init__(self):
        self.batches = 0

    def __call__(self):
        self.batches += 1


def run(trials, folder, trial_id="0000", on_epoch=lambda *told: None, fills=None, **values):
    return trials.run(Trial(id=trial_id, values=values), folder / trial_id, on_epoch, fills or Fills())


def state(network):
    layers = network.model.layers
    return (
        [weight.numpy().tobytes() for weight in network.model.weights],
        [(layer.trainable, getattr(layer, "rate", None)) for layer in layers],
        [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers],
    )


@pytest.mark.usefixtures("any_latency")
def test_a_trial_says_what_it_did_and_puts_the_network_back(root, trials, tmp_path):
    before = state(trials.network)
    moved = []

    def look(done, total, logs):
        moved.append((done, total, state(trials.network)[0] != before[0]))

    values = {"cut": "stage2_block1", "pool": "gem", "augmentation": "light", "unfreeze": "last:2"}
    outcome = run(trials, tmp_path, on_epoch=look, **values)
    assert (outcome.status, outcome.reason, outcome.epochs, outcome.test) == ("done", "", 3, {})
    assert moved == [(1, 3, False), (2, 3, False), (3, 3, True)], "the second stage trains the network"
    assert state(trials.network) == before, "bit for bit, as is what may train, and nothing is built on it any more"
    assert run(trials, tmp_path, unfreeze="last:9").status == "failed", "there are not so many blocks"
    assert state(trials.network) == before
    candidate = FineTuning(cut="stage2_block1", head_pool="gem", stages=(Stage(name="head"),))
    assert (outcome.parameters, outcome.multiply_adds) == make_static_costs(make_job(root))(candidate)
    (tmp_path / "best.json").write_text(json.dumps(outcome.settings))
    config = read_config(finetune.Config, tmp_path / "best.json")
    finetune.check_config(config, finetune.find(config.backbone))
    assert [(stage.name, stage.unfreeze, stage.epochs, stage.augment) for stage in config.stages] == [
        ("head", "head", 2, False),
        ("tuned", "last:2", 1, True),
    ]
    assert (config.cut, config.head_pool, config.augmentation, config.views) == ("stage2_block1", "gem", "light", 2)
    assert (config.image_size, config.batch_size, config.seed) == (32, 8, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_what_the_process_did_before_does_not_matter(trials, tmp_path):
    first, _, again = (run(trials, tmp_path, unfreeze="last:2", pool=pool) for pool in ("avg", "max", "avg"))
    assert first.validation == again.validation


EVERYTHING = list(itertools.product(("whole", "stage2_block1"), ("avg", "max", "gem"), ("head", "last:2")))


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_frozen_layers_run_once_for_all_candidates(root, tmp_path, monkeypatch):
    shown = []
    fill = Activations.fill

    def counted(activations, requests, progress):
        shown.append(fill(activations, requests, progress))
        return shown[-1]

    monkeypatch.setattr(Activations, "fill", counted)
    trials = make_trials(make_job(root), SPACE, tmp_path)
    train, validation = len(trials.data.train), len(trials.data.validation)
    for augmentation, images in (("none", train + validation), ("light", 2 * train)):
        for index, (cut, pool, unfreeze) in enumerate(EVERYTHING):
            shown.clear()
            fills = Fills()
            values = {"cut": cut, "pool": pool, "unfreeze": unfreeze, "augmentation": augmentation}
            outcome = run(trials, tmp_path, fills=fills, **values)
            assert (outcome.status, outcome.reason) == ("done", "")
            assert sum(shown) == (0 if index else images), values
            assert bool(fills.batches) == (index == 0)


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_without_a_cache_it_comes_to_nearly_the_same(root, trials, tmp_path):
    kept = run(trials, tmp_path, pool="max", unfreeze="last:2")
    anew = make_trials(make_job(root, cache=False), SPACE, tmp_path)
    fills = Fills()
    outcome = run(anew, tmp_path, fills=fills, pool="max", unfreeze="last:2")
    assert outcome.validation["loss"] == pytest.approx(kept.validation["loss"], rel=1e-3)
    assert fills.batches == 0
    assert not outcome.settings["cache"]


def test_latency_is_measured_once_for_a_cut_and_a_pool(root, trials, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(trials, "folder", tmp_path)
    monkeypatch.setattr(finetune_trials, "latency_ms", lambda model: measured.append(model.name) or 3.0 + len(measured))
    found = [run(trials, tmp_path, pool=pool, unfreeze="last:9").latency_ms for pool in ("avg", "max", "avg", "max")]
    assert found == [4.0, 5.0, 4.0, 5.0]
    monkeypatch.setattr(trials, "job", make_job(root, max_latency_ms=4.5))
    assert [run(trials, tmp_path, pool=pool).status for pool in ("avg", "max")] == ["done", "over_budget"]


@pytest.mark.slow
@pytest.mark.usefixtures("any_latency")
def test_rounds_come_to_the_same_as_one(trials, tmp_path):
    values = {"pool": "max", "unfreeze": "last:2", "augmentation": "light"}
    once = run(trials, tmp_path, "once", **values)
    for trial_id, share, epochs in (("a", 9, 1), ("b", 18, 2), ("c", 27, 3)):
        outcome = run(trials, tmp_path, trial_id, **values, **{"tuner/epochs": share})
        values |= {"tuner/trial_id": trial_id}
        assert outcome.epochs == epochs
    assert outcome.validation == once.validation


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "values"), [("default", {}), ("winner", {"cut": "stage2_block1", "pool": "gem"})])
def test_a_final_run_leaves_the_folder_of_a_run(trials, tmp_path, capsys, kind, values):
    folder = tmp_path / f"{kind}-1"
    before = state(trials.network)
    outcome = trials.final(Trial(id=folder.name, values=values), folder, 1, lambda *told: None, lambda: None)
    assert (outcome.status, outcome.reason) == ("done", "")
    assert state(trials.network) == before
    assert capsys.readouterr().out == ""
    assert main(["evaluate", str(folder), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == outcome.test["accuracy"]
    assert measured["loss"] == pytest.approx(outcome.test["loss"], rel=1e-4)
    config = read_config(finetune.Config, folder / "config.json")
    names = [stage.name for stage in config.stages]
    assert names == (["head", "deeper"] if kind == "default" else ["head"])
    assert config.cut == values.get("cut")
    # Between the head alone and what came after it there is nothing where nothing came after it.
    assert not (kind == "winner" and (folder / "interpolation.json").exists())
