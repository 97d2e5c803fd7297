"""Training from scratch through the real command line, and what it leaves."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from recipes.cli import main
from recipes.parts import training
from recipes.parts.augment import PRESETS as AUGMENTATIONS
from recipes.parts.command_line import parse
from recipes.parts.config_file import config_to_json, read_config
from recipes.parts.freezing import digests
from recipes.parts.mixing import Mixing
from recipes.train import FOLLOWS, PRESETS, Config, check_config, choose_spec, choose_stage
from zoo import MODELS
from zoo.errors import InputError
from zoo.spec_json import from_json, to_json

FILES = {
    "calibration.json",
    "classes.json",
    "config.json",
    "history.jsonl",
    "metrics.json",
    "model.keras",
    "report.png",
    "spec.json",
    "split.jsonl",
    "versions.json",
}
EVERYTHING = (
    *("--pool", "soft", "--head-pool", "gem", "--depth", "1", "2", "1", "--width", "0.5"),
    *(
        "--optimizer",
        "adamw",
        "--label-smoothing",
        "0.1",
        "--mixup",
        "0.2",
        "--cutmix",
        "1",
        "--random-erasing",
        "0.25",
    ),
    *("--ema", "0.9", "--accumulate", "2", "--class-weights", "--horizontal-flip", "--train-images", "300"),
)


def zoo(*words, **environment):
    command = [sys.executable, "-m", "recipes.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "everything"
    done = zoo("train", "--preset", "smoke", "--epochs", "2", *EVERYTHING, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_run_with_everything_leaves_a_whole_folder(finished):
    out, done = finished
    assert done.stdout.splitlines()[-1] == str(out)
    assert done.stderr == ""
    assert {file.name for file in out.iterdir()} == FILES
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["stages"][0]["history"]) == 2
    assert metrics["stages"][0]["trainable_parameters"] < metrics["stages"][0]["parameters"]  # the statistics
    assert "300 are used" in " ".join(metrics["notices"])


def test_the_spec_that_was_trained_is_written_down(finished):
    out, _ = finished
    spec = from_json((out / "spec.json").read_text())
    assert spec == choose_spec(Config(model="vgg_nano", depth=(1, 2, 1), width=0.5, pool="soft", head_pool="gem"))
    assert read_config(Config, out / "config.json").learning_rate == 2e-3


def test_evaluate_answers_what_training_measured(finished, capsys):
    out, _ = finished
    assert main(["evaluate", str(out), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    recorded = json.loads((out / "metrics.json").read_text())["test"]
    assert measured["accuracy"] == recorded["accuracy"]
    assert measured["loss"] == pytest.approx(recorded["loss"], rel=1e-5)


@pytest.mark.slow
def test_the_same_command_gives_the_same_weights(finished, tmp_path):
    out, _ = finished
    done = zoo("train", "--config", out / "config.json", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    one, other = (keras.models.load_model(folder / "model.keras") for folder in (out, tmp_path / "again"))
    assert digests(one.weights) == digests(other.weights)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_keeps_its_policy(precision, tmp_path):
    out = tmp_path / "run"
    words = ("--preset", "smoke", "--epochs", "3", "--precision", precision, "--accumulate", "2", "--out", out)
    done = zoo("train", *words)
    assert done.returncode == 0, done.stderr
    model = keras.models.load_model(out / "model.keras")
    assert model.get_layer("stage1_block1_conv").compute_dtype == precision.removeprefix("mixed_")
    logits = model(np.zeros((1, 16, 16, 3), np.float32))
    assert logits.dtype == "float32"
    history = [json.loads(line)["loss"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert history[-1] < history[0]


def _as_json(name):
    return to_json(MODELS[name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "vgg_smal"], "vgg_small"),
        (["--model", "nowhere.json"], "nowhere.json"),
        (["--epochs", "0"], "--epochs is 1 or more"),
        (["--accumulate", "0"], "--accumulate is 1 or more"),
        (["--ema", "1"], r"--ema is in \[0, 1\)"),
        (["--label-smoothing", "1"], "--label-smoothing"),
        (["--mixup", "-1"], "--mixup is 0 or more"),
        (["--random-erasing", "2"], "--random-erasing"),
        (["--learning-rate", "0"], "learning rate"),
        (["--weight-decay", "-1"], "Weight decay"),
        (["--depth", "1", "2"], "depth"),
        (["--data", "nowhere"], "Unknown data source"),
        (["--image-size", "4"], "less than 1"),
        (["--accumulate", "1000"], "too few to make up one update"),
        (["--pool", "sofd"], "soft"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not out.exists()


def test_every_flag_of_training_reaches_it(tmp_path, monkeypatch):
    heard = {}

    def listen(classifier, stages, data, **options):
        heard.update(options, stages=stages, images=len(data.train), pools=classifier.model)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "StagedRun", listen)
    words = ["train", "--preset", "smoke", *EVERYTHING, "--batch-size", "16", "--out", str(tmp_path / "run")]
    assert main(words) == 130
    (stage,) = heard["stages"]
    assert (stage.optimizer, stage.batch_norm, stage.unfreeze) == ("adamw", "trained", "all")
    assert heard["mixing"] == Mixing(mixup=0.2, cutmix=1.0)
    assert heard["augmentation"] == replace(AUGMENTATIONS["light"], horizontal_flip=True, erase=0.25)
    assert (heard["label_smoothing"], heard["average"], heard["accumulate"]) == (0.1, 0.9, 2)
    assert (heard["batch_size"], heard["images"], heard["seed"]) == (16, 300, 0)
    assert heard["class_weights"].shape == (10,)
    assert not (tmp_path / "run").exists()


def test_another_optimizer_has_its_own_learning_rate(finished):
    out, _ = finished

    def read(*words):
        command = ["--config", str(out / "config.json"), *words]
        return parse(Config, command, prog="", description="", presets={}, follows=FOLLOWS)

    assert read().learning_rate == 2e-3
    other = read("--optimizer", "sgd")
    assert (other.learning_rate, other.weight_decay) == (None, None)
    assert read("--optimizer", "sgd", "--learning-rate", "0.3").learning_rate == 0.3


def test_a_spec_can_stand_in_the_configuration(tmp_path, monkeypatch):
    """As `zoo search` leaves it: no flags express it."""
    spec = replace(MODELS["vgg_nano"], name="found", stages=(replace(MODELS["vgg_nano"].stages[0], pool="soft"),) * 2)
    path = tmp_path / "best.json"
    path.write_text(json.dumps({**config_to_json(PRESETS["smoke"]), "spec": json.loads(to_json(spec))}))
    config = read_config(Config, path)
    check_config(config)
    assert choose_spec(config) == spec
    assert config_to_json(config)["spec"] == json.loads(to_json(spec))
    # Flags that vary a model vary this one, and another model takes its place.
    command = ["--config", str(path), "--model", "test_vgg"]
    assert choose_spec(parse(Config, command, prog="", description="", presets={}, follows=FOLLOWS)).name == "test_vgg"
    assert choose_spec(replace(config, head_pool="gem")).head.pool.name == "gem"

    written = {}

    def listen(classifier, stages, data, **options):
        written.update(json.loads((tmp_path / "run" / "config.json").read_text()), name=classifier.model.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "StagedRun", listen)
    assert main(["train", "--config", str(path), "--out", str(tmp_path / "run")]) == 130
    assert (written["name"], written["spec"]) == ("found", json.loads(to_json(spec)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"name": "x"}, "ModelSpec"), ("vgg_nano", "must be a JSON object"), ({"nam": 1}, "Did you mean name")],
)
def test_a_wrong_spec_in_a_configuration_is_told_in_one_line(tmp_path, spec, message):
    path = tmp_path / "best.json"
    path.write_text(json.dumps({"spec": spec}))
    with pytest.raises(InputError, match=f"best.json: spec: .*{message}") as error:
        read_config(Config, path)
    assert "\n" not in str(error.value)


def test_every_preset_is_sound():
    for config in PRESETS.values():
        check_config(config)
        assert config_to_json(config)


def test_the_learning_rate_of_sgd_grows_with_the_images_of_an_update():
    plain = choose_stage(Config(), epochs=1, batch_size=64)
    assert choose_stage(Config(accumulate=4), epochs=1, batch_size=64).learning_rate == 4 * plain.learning_rate
    assert choose_stage(Config(learning_rate=0.3), epochs=1, batch_size=64).learning_rate == 0.3


PLUGIN_WITH_A_LAYER = """
import keras
from keras import layers
from zoo import BLOCKS


@keras.saving.register_keras_serializable("test_train")
class Normed(layers.Layer):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.norm = layers.BatchNormalization()

    def build(self, input_shape):
        self.norm.build(input_shape)

    def call(self, inputs, training=None):
        return self.norm(inputs, training=training)


@BLOCKS.register("normed")
def normed(inputs, *, filters, strides, style, name):
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", name=f"{name}_conv")(inputs)
    return Normed(name=f"{name}_normed")(x)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("own_registries")
def test_a_run_with_layers_of_the_users_own_is_read_with_their_plugin_only(tmp_path, capsys):
    """A run folder from elsewhere must not say what is run here."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN_WITH_A_LAYER)
    spec = tmp_path / "mine.json"
    spec.write_text(_as_json("test_vgg").replace('"block": "vgg"', '"block": "normed"'))
    out = tmp_path / "run"
    words = ("--preset", "smoke", "--model", spec, "--plugin", plugin, "--train-images", "100", "--out", out)
    assert zoo("train", *words).returncode == 0
    assert main(["evaluate", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"give it again: --plugin {plugin}" in error
    assert error.count("\n") == 1
    assert main(["evaluate", str(out), "--plugin", str(plugin)]) == 0
