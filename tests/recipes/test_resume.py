"""A run that is killed and goes on must end with the weights of one that never was. Also a script: see `main`."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recipes.parts import runtime
from recipes.parts.stages import Stage
from zoo.errors import InputError

STAGES = (
    Stage(name="head", unfreeze="head", epochs=3, learning_rate=0.05, augment=False),
    Stage(name="views", unfreeze="last:1", epochs=6, learning_rate=0.02, patience=2),
    Stage(name="chosen", unfreeze="auto", epochs=2, learning_rate=0.01, optimizer="sgd", batch_norm="trained"),
)


def staged_run(folder, last=0, stages=STAGES):
    """A run with a cache, versions of images, dropout and an average of the weights; killed at an event, if any."""
    import keras

    from recipes.parts.activation_store import ActivationStore
    from recipes.parts.activations import FrozenLayers
    from recipes.parts.augment import PRESETS
    from recipes.parts.blocks import Block
    from recipes.parts.checkpoint import FILE, Checkpoint
    from recipes.parts.classifier import Classifier
    from recipes.parts.dataset import DataSet, Split
    from recipes.parts.mixing import Mixing
    from recipes.parts.stage_events import StageCallback
    from recipes.parts.training import StagedRun

    class Events(StageCallback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def note(self, event):
            self.seen.append(event)
            if len(self.seen) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_frozen_progress(self, done, total):
            self.note("frozen")

        def on_train_batch_end(self, batch, logs=None):
            self.note(f"batch {batch}")

        def on_epoch_end(self, epoch, logs=None):
            self.note(f"epoch {epoch}")

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    blocks = []
    for name in ("one", "two"):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        blocks.append(Block(name, tuple(f"{name}_{part}" for part in ("conv", "norm", "relu"))))
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dropout(0.3, name="head_dropout")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="head_logits")(x))
    blocks.append(Block("head", ("head_pool", "head_dropout", "head_logits")))

    def split(count, seed):
        labels = (np.arange(count) % 2).astype(np.int32)
        images = np.random.default_rng(seed).integers(0, 200, (count, 8, 8, 3), np.uint8)
        images[labels == 1, :, :, 0] += 50
        return Split(images=images, labels=labels, files=("",) * count, sha256=(str(seed),) * count)

    data = DataSet(
        classes=("a", "b"),
        train=split(40, 0),
        validation=split(16, 1),
        test=split(16, 2),
        notices=(),
        unreadable=(),
        fingerprint="made up",
    )
    folder.mkdir(exist_ok=True)
    run = StagedRun(
        Classifier(model, tuple(blocks)),
        stages,
        data,
        batch_size=16,
        augmentation=PRESETS["light"],
        seed=0,
        mixing=Mixing(mixup=0.2),
        label_smoothing=0.1,
        class_weights=np.array([0.8, 1.2], np.float32),
        average=0.9,
        callbacks=[Events()],
        frozen_layers=FrozenLayers(store=ActivationStore(folder / "cache")),
        checkpoint=folder / FILE,
        resume=Checkpoint.load(folder / FILE),
    )
    return run, model


def main(folder, last):
    """Run or go on, and print what happened and what came of it."""
    runtime.start(seed=0, deterministic=True)
    run, model = staged_run(Path(folder), int(last))
    results = run.run()
    run.interpolate()
    (events,) = run.callbacks
    weights = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in model.weights)).hexdigest()
    kept = [[result.epochs, result.best_epoch, result.validation_loss] for result in results]
    losses = [[epoch["loss"] for epoch in result.history] for result in results]
    print(json.dumps([events.seen, weights, kept, losses]))


def in_a_process(folder, last=0):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, __file__, str(folder), str(last)], capture_output=True, text=True, env=environment, timeout=300
    )


def test_killed_twice_and_gone_on_is_never_killed(tmp_path):
    whole = in_a_process(tmp_path / "whole")
    assert not whole.returncode, whole.stderr
    events, *expected = json.loads(whole.stdout)
    in_second_pass = [index for index, event in enumerate(events) if event == "frozen"][6]
    in_last_epoch = len(events) - 3
    assert events[in_last_epoch] == "batch 1"
    assert in_a_process(tmp_path / "killed", in_second_pass + 1).returncode == -signal.SIGKILL
    # What was done before is not done again: of the pass, four batches of the first version and one of the second.
    assert in_a_process(tmp_path / "killed", in_last_epoch - in_second_pass).returncode == -signal.SIGKILL
    ended = in_a_process(tmp_path / "killed")
    assert not ended.returncode, ended.stderr
    after, *found = json.loads(ended.stdout)
    assert found == expected
    assert after == ["batch 0", "batch 1", "batch 2", "epoch 1"]


def test_a_run_in_rounds_is_one_that_never_stopped(tmp_path):
    """The optimizer, the schedule of a whole stage, dropout, views and the average go on where they were."""
    stages = STAGES[:2]
    run, model = staged_run(tmp_path / "whole", stages=stages)
    expected = run.run(), [weight.numpy() for weight in model.weights]
    for until, epochs in ((2, [2]), (2, [2]), (5, [3, 2]), (None, None)):
        run, model = staged_run(tmp_path / "rounds", stages=stages)
        results = run.run(until=until)
        assert epochs in (None, [result.epochs for result in results])
        infer, data = run.whole, run.data.validation
        measured = run._measure(infer([(np.float32(data.images),)]))
        assert measured["loss"] == pytest.approx(results[-1].validation_loss, rel=1e-5), "the best weights are in it"
    found = results, [weight.numpy() for weight in model.weights]
    for one, other in zip(expected[0], found[0], strict=True):
        for epoch, again in zip(one.history, other.history, strict=True):
            assert {**epoch, "seconds": 0} == {**again, "seconds": 0}
        assert (one.best_epoch, one.validation_macro_f1) == (other.best_epoch, other.validation_macro_f1)
    for one, other in zip(expected[1], found[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    run, _ = staged_run(folder)

    def interrupt(event):
        if run.state.results and event == "epoch 0":
            raise KeyboardInterrupt

    run.callbacks[0].note = interrupt
    with pytest.raises(KeyboardInterrupt):
        run.run()
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run that Ctrl-C stopped in its second stage."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def test_a_checkpoint_holds_what_it_says(stopped):
    from recipes.parts.checkpoint import FILE, Checkpoint

    state = Checkpoint.load(stopped / FILE)
    assert (state.stage, state.epoch, state.ended) == (1, 1, False)
    assert [result.epochs for result in state.results] == [3, 1]
    assert {name.split("/")[0] for name in state.arrays} == {
        "weights",
        "head",
        "kept",
        "optimizer",
        "generators",
        "average",
    }
    assert any(name.endswith("adam/two_conv_kernel_momentum") for name in state.arrays), sorted(state.arrays)


def test_a_checkpoint_of_before_there_were_more_measures_goes_on(stopped):
    from recipes.parts.checkpoint import FILE, Checkpoint

    with np.load(stopped / FILE) as stored:
        arrays = dict(stored)
    state = json.loads(arrays["state"].tobytes())
    assert state["results"][0].pop("validation_accuracy") is not None
    assert state["results"][0].pop("validation_macro_f1") is not None
    arrays["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    np.savez(stopped / FILE, **arrays)
    first, second = Checkpoint.load(stopped / FILE).results
    assert first.validation_accuracy is first.validation_macro_f1 is None
    assert second.validation_accuracy == second.history[-1]["val_accuracy"]


def test_what_has_changed_since_is_said_in_one_line(stopped):
    from recipes.parts.checkpoint import FILE, Checkpoint

    path = stopped / FILE
    for change, message in (
        ({"fingerprint": "another"}, "The images are no longer those with which the run began"),
        ({"frozen": "another"}, "The pretrained weights are no longer those"),
        ({"arrays": {"weights/0000 other/kernel": np.zeros(2)}}, "of another model or of other stages"),
    ):
        before = path.read_bytes()
        state = Checkpoint.load(path)
        vars(state).update(change)
        state.save(path)
        with pytest.raises(InputError, match=message):
            staged_run(stopped)
        path.write_bytes(before)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_checkpoint_is_said_in_one_line(stopped, damage):
    from recipes.parts.checkpoint import FILE, Checkpoint

    (stopped / FILE).write_bytes(damage((stopped / FILE).read_bytes()))
    with pytest.raises(InputError, match="is damaged") as error:
        Checkpoint.load(stopped / FILE)
    assert "\n" not in str(error.value)


def zoo(*words, cwd, kill_after=None):
    """A command, killed after so many seconds if it is not done by then."""
    environment = {**os.environ, "ZOO_CACHE": str(cwd / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "recipes.cli", *map(str, words)],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


@pytest.mark.slow
def test_real_runs_killed_at_20_random_moments_end_alike(tmp_path):
    import keras

    flags = ("finetune", "--image-size", "32", "--epochs", "3", "3", "--augmentation", "light", "--views", "2")
    draw = random.Random(0)  # moments, not secrets
    digests, kills, seconds = [], 0, 0.0
    for number in range(100):
        cwd = tmp_path / str(number)
        cwd.mkdir()
        began = time.monotonic()
        code = zoo(*flags, "--out", cwd / "run", cwd=cwd, kill_after=draw.uniform(1, seconds) if number else None)
        seconds = seconds or time.monotonic() - began
        while code:
            kills += 1
            begun = (cwd / "run" / "config.json").exists()
            if not begun:
                shutil.rmtree(cwd / "run", ignore_errors=True)
            again = ("finetune", "--resume", cwd / "run") if begun else (*flags, "--out", cwd / "run")
            code = zoo(*again, cwd=cwd, kill_after=draw.uniform(1, seconds) if kills % 5 else None)
            assert code in (0, -signal.SIGKILL)
        model = keras.models.load_model(cwd / "run" / "model.keras", compile=False)
        digests.append(hashlib.sha256(b"".join(w.numpy().tobytes() for w in model.weights)).hexdigest())
        if kills >= 20:
            break
    assert kills >= 20
    assert set(digests) == {digests[0]}


if __name__ == "__main__":
    main(*sys.argv[1:])
