"""The main job through the real command line, and what it leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from recipes import finetune
from recipes.cli import main
from recipes.finetune import Config
from recipes.parts.config_file import config_to_json, read_config
from recipes.parts.freezing import digests
from recipes.parts.images import decode
from recipes.parts.metrics import log_softmax

FILES = {
    "calibration.json",
    "classes.json",
    "config.json",
    "history.jsonl",
    "interpolation.json",
    "metrics.json",
    "model.keras",
    "plan.json",
    "report.png",
    "split.jsonl",
    "versions.json",
}


def zoo(*words, cwd=None, **environment):
    command = [sys.executable, "-m", "recipes.cli", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def make_photos(folder, *, classes=("cat", "dog", "$ow"), images=12, size=40):
    """A folder of photos whose class shows in their colour."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            pixels = rng.integers(0, 100, (size, size + 7, 3), np.uint8)
            pixels[..., label % 3] += 120
            Image.fromarray(pixels).save(folder / name / f"{index} [bold].png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The smoke preset on the digits, run as a user runs it."""
    folder = tmp_path_factory.mktemp("smoke")
    done = zoo("finetune", "--preset", "smoke", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "run"


def test_the_run_folder_is_the_last_line_and_complete(smoke):
    done, run = smoke
    assert done.stdout.splitlines()[-1] == str(run)
    assert {path.name for path in run.iterdir()} == FILES
    assert done.stderr == "", "noise of TensorFlow reached the user"


def test_what_is_printed_before_and_during_training(smoke):
    done, _ = smoke
    assert "stage head: trains head, 12,810 of 3,425,834 parameters (0.4%)" in done.stdout
    assert "frozen weights unchanged, bit for bit" in done.stdout
    assert "image size" not in done.stdout, "the rule speaks of what it chose, and the preset chose the size"
    assert "no augmentation: it changes images below 32 px too much" in done.stdout
    assert "epoch 1/1" in done.stdout


def test_the_files_say_what_was_done(smoke):
    _, run = smoke
    config = read_config(Config, run / "config.json")
    assert (config.image_size, config.batch_size, config.augmentation) == (32, 64, "none")
    assert [stage.name for stage in config.stages] == ["head", "deeper"]
    assert json.loads((run / "classes.json").read_text()) == list("0123456789")
    assert json.loads((run / "versions.json").read_text())["keras"] == keras.__version__
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(row["stage"], row["epoch"]) for row in history] == [("head", 1), ("deeper", 1)]
    records = [json.loads(line) for line in (run / "split.jsonl").read_text().splitlines()]
    assert len(records) == 1797
    assert {row["split"] for row in records} == {"train", "validation", "test"}
    with Image.open(run / "report.png") as picture:
        assert picture.width > 1000


def test_measures_agree_with_each_other(smoke):
    _, run = smoke
    metrics = json.loads((run / "metrics.json").read_text())
    matrix = np.array(metrics["test"]["confusion_matrix"])
    assert matrix.sum() == metrics["test"]["images"]
    assert metrics["test"]["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    # Weights between two states, and the temperature, are taken only if they make it better.
    assert metrics["validation"]["loss"] <= metrics["stages"][-1]["validation_loss"] + 1e-4
    mixed = json.loads((run / "interpolation.json").read_text())["points"]
    assert mixed[0]["loss"] == pytest.approx(metrics["stages"][-1]["validation_loss"], rel=1e-4)
    assert metrics["test"]["accuracy"] > 0.5, "one epoch a stage at 32 pixels does better than chance"
    assert [stage["epochs"] for stage in metrics["stages"]] == [1, 1]


def test_evaluate_finds_the_same_numbers_again(smoke, capsys):
    _, run = smoke
    assert main(["evaluate", str(run), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    then = json.loads((run / "metrics.json").read_text())["test"]
    assert again["confusion_matrix"] == then["confusion_matrix"]
    assert again["loss"] == pytest.approx(then["loss"], rel=1e-4)


def test_the_model_loads_without_our_packages_and_predict_says_what_it_says(smoke, tmp_path, capsys):
    _, run = smoke
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 30), np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(rng.integers(0, 256, (9, 90, 4), np.uint8)).save(tmp_path / "wide.webp")
    files = [str(tmp_path / "grey.png"), str(tmp_path / "wide.webp")]
    assert main(["predict", str(run), *files, "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in predicted] == files
    for row in predicted:
        assert row["scores"] == sorted(row["scores"], reverse=True)
        assert sum(row["scores"]) == pytest.approx(1, abs=1e-6)

    images = np.stack([decode(Path(file).read_bytes(), size=32, resize="stretch") for file in files])
    np.save(tmp_path / "images.npy", images.astype(np.float32))
    code = (
        "import sys, numpy as np, keras\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))\n"
        "assert not {'zoo', 'recipes', 'custom_ops'} & set(sys.modules)\n"
    )
    paths = [run / "model.keras", tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, capture_output=True, cwd=tmp_path)
    temperature = json.loads((run / "calibration.json").read_text())["temperature"]
    scores = np.exp(log_softmax(np.load(tmp_path / "logits.npy") / temperature))
    for row, expected in zip(predicted, scores, strict=True):
        by_class = dict(zip(row["classes"], row["scores"], strict=True))
        np.testing.assert_allclose([by_class[name] for name in "0123456789"], expected, atol=1e-5)


def test_predict_answers_for_what_can_be_read_and_names_the_rest(smoke, tmp_path):
    _, run = smoke
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad\x1b[2J.png").write_bytes(b"nothing")
    done = zoo("predict", run, "good.png", "bad\x1b[2J.png", "none.png", "--top", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "good.png" in done.stdout
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "not a JPEG, PNG, BMP, GIF or WebP image" in errors[0]
    assert "none.png" in errors[1]
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_folder_of_photos_twice_gives_the_same_weights_bit_for_bit(photos, tmp_path):
    """Two processes, augmentation, dropout, a copied script, and a configuration file that goes round."""
    assert main(["copy", "finetune", str(tmp_path / "mine.py")]) == 0
    words = ["--data", f"folder:{photos}", "--image-size", "32", "--epochs", "1", "--strategy", "full"]
    changes = ["--horizontal-flip", "--class-weights", "--out", "first"]
    command = [sys.executable, "mine.py", *words, *changes]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    second = zoo("finetune", "--config", "first/config.json", "--out", "second", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    models = [keras.models.load_model(tmp_path / run / "model.keras") for run in ("first", "second")]
    assert digests(models[0].weights) == digests(models[1].weights)
    assert (tmp_path / "first/config.json").read_text() == (tmp_path / "second/config.json").read_text()
    assert json.loads((tmp_path / "first/classes.json").read_text()) == ["$ow", "cat", "dog"]


def test_zero_trains_nothing_and_still_classifies(photos, tmp_path):
    run = tmp_path / "run"
    words = ["--data", f"folder:{photos}", "--image-size", "32", "--strategy", "zero", "--no-deterministic"]
    assert main(["finetune", *words, "--out", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["stages"] == []
    assert metrics["test"]["accuracy"] == 1.0, "colours are easy to tell apart"
    fresh = keras.models.load_model(run / "model.keras")
    pretrained = finetune_backbone()
    for layer in pretrained.layers:
        for ours, theirs in zip(fresh.get_layer(layer.name).weights, layer.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_a_head_behind_a_block_is_served_like_any_other(photos, tmp_path, capsys):
    zoo_model("test_mobilenet_v2").save(tmp_path / "weights.keras")
    run = tmp_path / "run"
    words = ["--backbone", "test_mobilenet_v2", "--weights", str(tmp_path / "weights.keras"), "--image-size", "32"]
    words += ["--data", f"folder:{photos}", "--strategy", "zero", "--cut", "stage2_block1", "--head-pool", "gem"]
    assert main(["finetune", *words, "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] > 0
    image = next(photos.glob("cat/*.png"))
    assert main(["predict", str(run), str(image), "--json"]) == 0
    model = keras.models.load_model(run / "model.keras")
    assert type(model.get_layer("head_pool")).__name__ == "GlobalGemPooling2D"
    assert not any(layer.name.startswith(("stage2_block2", "head_conv")) for layer in model.layers)
    assert read_config(Config, run / "config.json").cut == "stage2_block1"


def zoo_model(name):
    from zoo import build_model

    return build_model(name, input_shape=(32, 32, 3), num_classes=2)


def finetune_backbone():
    from zoo import build_model

    return build_model("efficientnet_lite0", input_shape=(32, 32, 3), num_classes=None, weights="imagenet")


def bad_input(tmp_path, photos, name):
    """Words that are wrong in one way, and what the error must say."""
    folder = tmp_path / name
    if name == "no such folder":
        return ["--data", f"folder:{folder}"], "does not exist"
    if name == "no images":
        folder.mkdir()
        return ["--data", f"folder:{folder}"], "No images"
    if name == "single class":
        return ["--data", f"folder:{make_photos(folder, classes=('only',), images=4)}"], "only one class"
    if name == "class with one image":
        make_photos(folder, images=4)
        make_photos(folder, classes=("lone",), images=1)
        return ["--data", f"folder:{folder}"], r"lone \(1\)"
    if name == "nothing can be decoded":
        for class_name in ("a", "b"):
            (folder / class_name).mkdir(parents=True)
            for index in range(3):
                (folder / class_name / f"{index}.jpg").write_bytes(b"\xff\xd8\xffnothing")
        return ["--data", f"folder:{folder}"], "no images to train on"
    if name == "bad image is fatal":
        make_photos(folder)
        (folder / "cat" / "bad.png").write_bytes(b"nothing")
        return ["--data", f"folder:{folder}", "--bad-images", "error"], r"bad\.png"
    if name == "unknown source":
        return ["--data", "flowers"], "digits, folder:PATH, idx:PATH, tfds:NAME"
    if name == "folder without its prefix":
        return ["--data", str(photos)], "folder:"
    if name == "unknown backbone":
        return ["--backbone", "mobilenetv2"], "Did you mean MobileNetV2"
    if name == "unknown strategy":
        return ["--strategy", "linear-probe"], "Did you mean linear_probe"
    if name == "image too small":
        (tmp_path / "some.h5").touch()
        return ["--backbone", "Xception", "--weights", str(tmp_path / "some.h5"), "--image-size", "70"], "71 pixels"
    if name == "no weights":
        return ["--weights", "none"], "learns nothing"
    if name == "weights missing":
        return ["--weights", str(folder)], "no file"
    if name == "weights that do not fit":
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(tmp_path / "other.weights.h5")
        return ["--data", f"folder:{photos}", "--weights", str(tmp_path / "other.weights.h5")], r"other\.weights\.h5"
    if name == "wrong number of epochs":
        return ["--data", f"folder:{photos}", "--epochs", "1", "2", "3"], "2 stages"
    if name == "unknown block":
        config = {"stages": [{"name": "one", "unfreeze": "from:stage9"}], "data": f"folder:{photos}", "image_size": 32}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return ["--config", str(tmp_path / "config.json")], "Unknown block 'stage9'"
    if name == "backbone without weights":
        return ["--backbone", "efficientnet_lite4"], "no pretrained weights"
    if name == "batch of nothing":
        return ["--batch-size", "0"], "1 image or more"
    if name == "negative seed":
        return ["--seed", "-1"], "0 or more"
    if name == "dropout of everything":
        return ["--dropout", "1.0"], r"\[0, 1\)"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        "no such folder",
        "no images",
        "single class",
        "class with one image",
        "nothing can be decoded",
        "bad image is fatal",
        "unknown source",
        "folder without its prefix",
        "unknown backbone",
        "unknown strategy",
        "image too small",
        "no weights",
        "weights missing",
        "weights that do not fit",
        "wrong number of epochs",
        "unknown block",
        "backbone without weights",
        "batch of nothing",
        "negative seed",
        "dropout of everything",
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(name, tmp_path, photos, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, message = bad_input(tmp_path, photos, name)
    assert main(["finetune", "--no-deterministic", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_a_run_folder_that_is_taken_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["finetune", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["none"], "not the folder of a run that could go on"), (["none", "--seed", "1"], "nothing else goes with it")],
)
def test_what_cannot_go_on_is_said_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", "--resume", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_space_for_the_run_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    assert main(["finetune", "--out", str(tmp_path / "run")]) == 2
    assert "No space" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_what_is_no_run_is_said_in_one_line(command, tmp_path, capsys):
    words = [command, str(tmp_path)] + (["image.png"] if command == "predict" else [])
    assert main(words) == 2
    assert "not the folder of a finished run" in capsys.readouterr().err


def test_what_ctrl_c_stops_goes_on(photos, tmp_path, capsys):
    command = [sys.executable, "-m", "recipes.cli", "finetune", "--data", f"folder:{photos}", "--image-size", "32"]
    process = subprocess.Popen(
        [*command, "--strategy", "linear_probe", "--epochs", "5000", "--learning-rate", "1e-5", "--out", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run = tmp_path / "run"
    history = run / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (history.exists() and history.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    # As long as it is under way, no other process takes it up.
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "still under way" in capsys.readouterr().err
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted"
    assert "Traceback" not in error
    assert output.splitlines()[-1].endswith(f"go on with: zoo finetune --resume {run}")
    before = len(history.read_text().splitlines())

    # What is still to come can be changed.
    config = json.loads((run / "config.json").read_text())
    config["stages"][0]["epochs"] = before + 2
    (run / "config.json").write_text(json.dumps(config))
    assert main(["finetune", "--resume", str(run)]) == 0
    epochs = [json.loads(line)["epoch"] for line in history.read_text().splitlines()]
    assert epochs == list(range(1, before + 3))
    assert {path.name for path in run.iterdir()} == FILES - {"interpolation.json"}
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_plan_leaves_nothing(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--data", f"folder:{photos}", "--image-size", "32", "--strategy", "linear_probe", "--plan"]
    assert main(["finetune", *words]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"run once, up to +│ head_pool", shown)
    assert re.search(r"all stages: .* with all epochs", shown)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_one_line_and_keeps_what_was(photos, tmp_path, capsys):
    config = {
        "data": f"folder:{photos}",
        "image_size": 32,
        "stages": [
            {"name": "head", "unfreeze": "head", "epochs": 1},
            {"name": "too fast", "unfreeze": "head", "epochs": 1, "learning_rate": 1e38, "optimizer": "sgd"},
        ],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = ["--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "run")]
    assert main(["finetune", "--no-deterministic", *words]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(
        r"stopped: The loss is no longer finite in stage 'too fast', (step \d+ of epoch 1|.*): "
        r"lower its learning rate, which is 1e\+38 .*\n",
        captured.err,
    )
    assert captured.out.splitlines()[-1].endswith(f"zoo finetune --resume {tmp_path / 'run'}")
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_blocks_and_rates_are_measured(photos, tmp_path):
    run = tmp_path / "run"
    words = ["--data", f"folder:{photos}", "--image-size", "32", "--strategy", "auto", "--find-learning-rate"]
    assert main(["finetune", *words, "--epochs", "1", "--out", str(run)]) == 0
    measured = json.loads((run / "importance.json").read_text())
    (chosen,) = [
        stage for stage in json.loads((run / "metrics.json").read_text())["stages"] if stage["name"] == "chosen"
    ]
    assert chosen["unfreeze"] == measured["choice"]["unfreeze"]
    assert set(chosen["blocks"]) == set(measured["choice"]["factors"])
    for name in ("importance", "learning_rate-head", "learning_rate-chosen"):
        with Image.open(run / f"{name}.png") as picture:
            assert picture.width > 300
    rates = [json.loads((run / f"learning_rate-{name}.json").read_text())["suggestion"] for name in ("head", "chosen")]
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert len(rates) == len(history) == 2


def test_the_python_entry_returns_the_run_folder(photos, tmp_path):
    config = Config(
        data=f"folder:{photos}",
        image_size=32,
        strategy="linear_probe",
        epochs=(0,),
        deterministic=False,
        out=tmp_path / "run",
    )
    assert finetune.run(config) == tmp_path / "run"
    assert config_to_json(read_config(Config, tmp_path / "run" / "config.json"))["stages"][0]["epochs"] == 0
    assert (tmp_path / "run" / "history.jsonl").read_text() == ""
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["stages"][0]["validation_loss"] is None


@pytest.mark.usefixtures("own_registries")
def test_a_plugin_brings_a_backbone_of_ones_own(tmp_path, capsys):
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import dataclasses\n"
        "from zoo import MODELS\n"
        "MODELS.add('finetune_plugin_net', dataclasses.replace(MODELS['vgg_nano'], name='finetune_plugin_net'))\n"
    )
    words = ["finetune", "--backbone", "finetune_plugin_net", "--weights", str(tmp_path / "none.keras")]
    assert main(words) == 2
    assert "Unknown backbone" in capsys.readouterr().err
    assert main([*words, "--plugin", str(plugin)]) == 2
    assert "There is no file" in capsys.readouterr().err
