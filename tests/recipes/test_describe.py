"""`zoo describe`: what a network costs, in numbers that other tests check."""

import csv
import io
import json

import keras
import pytest

from recipes.cli import main
from recipes.describe import Config, run
from recipes.parts import cost_tables
from recipes.parts.networks import describe_network, known_weights
from zoo import MODELS, build_model


@pytest.mark.parametrize("columns", [80, 120])
def test_table_of_a_zoo_model(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["describe", "test_vgg", "--num-classes", "10"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    model = build_model("test_vgg", input_shape=MODELS["test_vgg"].input_shape, num_classes=10)
    names = {line.split()[0] for line in shown.splitlines() if line.startswith("  ")}
    for layer in model.layers[1:]:
        assert layer.name in names or layer.name.partition("_")[2] in names
    assert f"{model.count_params():,}: " in shown
    assert ("stride" in shown) == (columns >= cost_tables.ROOMY)
    assert "pretrained" not in shown


def test_details_of_pretrained_weights(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["describe", "efficientnet_lite0", "--image-size", "32"]) == 0
    shown = capsys.readouterr().out
    (entry,) = known_weights("efficientnet_lite0")
    for fact in (entry.file_name, entry.licence, entry.sha256, entry.origin, "0.751", entry.source.requirement):
        assert fact in shown


def test_csv_has_a_row_for_each_layer(capsys):
    assert main(["describe", "test_mobilenet_v2", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    costs = describe_network("test_mobilenet_v2")
    assert [row["layer"] for row in rows] == [layer.name for layer in costs.layers]
    assert sum(int(row["multiply_adds"]) for row in rows) == costs.total.multiply_adds
    assert sum(int(row["parameters"]) for row in rows) == costs.total.parameters
    assert sum(float(row["share_of_multiply_adds"]) for row in rows) == pytest.approx(1)
    first = costs.layers[0]
    assert rows[0]["output_shape"] == "x".join(map(str, first.output_shape))


def test_json_has_everything(capsys):
    assert main(["describe", "MobileNetV2", "--image-size", "64", "--num-classes", "10", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), classes=10)
    assert told["input_shape"] == [64, 64, 3]
    assert told["total"]["parameters"] == model.count_params()
    assert len(told["layers"]) == len(model.layers) - 1
    # The blocks by which fine-tuning unfreezes it.
    names = [stage["stage"] for stage in told["stages"]]
    assert names == ["stem", *(f"block_{number}" for number in range(17)), "top", "head"]
    head = [layer["kind"] for layer in told["layers"] if layer["stage"] == "head"]
    assert head == ["GlobalAveragePooling2D", "Dense"]
    assert [entry["num_classes"] for entry in told["weights"]] == [1000, None]
    assert told["weights"][0]["licence"]


def test_networks_are_as_they_were_designed_unless_told():
    assert run(Config(model="test_resnet")).input_shape == MODELS["test_resnet"].input_shape
    assert run(Config(model="lenet", image_size=32)).input_shape == (32, 32, MODELS["lenet"].channels)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["efficientnet_light0"], "Did you mean efficientnet_lite0"),
        (["VGG16", "--image-size", "16"], "at least 32 x 32 pixels"),
        (["VGG16", "--num-classes", "0"], "1 or more"),
        (["VGG16", "--csv", "--json"], "not both"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, capsys):
    assert main(["describe", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "text"), [(0, ""), (4_000, "0.004"), (385_187_552, "385.2"), (15_470_264_320, "15,470"), (1e6, "1.00")]
)
def test_millions(number, text):
    assert cost_tables.millions(number) == text
