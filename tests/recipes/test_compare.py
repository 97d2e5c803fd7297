"""`zoo compare`: networks, depths and kinds of layer."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from recipes import compare
from recipes.cli import main
from recipes.parts import layer_kinds
from zoo.cost.describe import describe
from zoo.cost.figures import figures

SIZES = layer_kinds.Sizes(height=5, width=4, channels=3, filters=8, kernel_size=3)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_models_stand_side_by_side(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["compare", "test_separable_vgg", "efficientnet_lite0", "--num-classes", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    small = next(line.split() for line in lines if line.startswith("test_separable_vgg"))
    assert f"{figures('test_separable_vgg').parameters(10):,}" in small
    lite = next(line.split() for line in lines if line.startswith("efficientnet_lite0"))
    assert {"224", "383.9", "851", "32", "7x7x1280", "0.751"} <= set(lite)


def test_models_for_programs(capsys):
    assert main(["compare", "test_vgg", "test_resnet", "--image-size", "48", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == ["test_vgg", "test_resnet"]
    assert all(row["input_shape"][:2] == [48, 48] and row["depth"] is None for row in rows)


def test_depths_as_table_and_figure(tmp_path, capsys):
    path = tmp_path / "sweep.png"
    assert main(["compare", "test_vgg", "test_resnet", "--depths", "2", "1", "--figure", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == f"figure: {path}"
    assert [line.split()[1] for line in shown.splitlines() if line.startswith("test_vgg")] == ["1", "2"]
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.png"]


def test_depth_costs(tmp_path):
    config = compare.Config(models=("test_vgg",), depths=(1, 2, 3), figure=tmp_path / "a.png", json=True)
    rows = compare.run(config)
    for name in ("parameters", "multiply_adds", "receptive_field", "activation_bytes"):
        values = [row[name] for row in rows]
        assert values == sorted(values)
        assert len(set(values)) == 3


def value(formula):
    """The number that a formula comes to."""
    sizes = {"H": SIZES.height, "W": SIZES.width, "C": SIZES.channels, "N": SIZES.filters, "k²": SIZES.kernel_size**2}
    for letter, size in sizes.items():
        formula = formula.replace(letter, f"*{size}")
    return eval(re.sub(r"(?<!\d)\*", "", formula.replace("·", "").replace("(", "*(")))


@pytest.mark.parametrize("kind", layer_kinds.kinds(SIZES), ids=lambda kind: kind.name)
def test_formulas_are_what_the_layers_cost(kind):
    total = describe(layer_kinds.layer(kind.name, SIZES)).total
    assert total.parameters == kind.parameters == value(kind.parameters_formula)
    assert total.multiply_adds == kind.multiply_adds == value(kind.multiply_adds_formula)


def test_layers_are_measured(capsys, monkeypatch):
    monkeypatch.setattr(compare, "SECONDS", 0.0)
    words = ["compare", "--layers", "--height", "6", "--width", "5", "--channels", "4", "--filters", "8"]
    assert main([*words, "--batch-size", "2", "--json"]) == 0
    rows = {row["layer"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {kind.name for kind in layer_kinds.kinds(SIZES)}
    assert all(row["milliseconds"] > 0 and row["time"] > 0 for row in rows.values())
    assert rows["separable"]["cost"] == pytest.approx(1 / 8 + 1 / 9)
    assert rows["convolution"]["time"] == 1


@pytest.mark.parametrize("columns", ["80", "120"])
def test_layers_as_a_table(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(compare, "SECONDS", 0.0)
    monkeypatch.setattr(layer_kinds, "MOST_BYTES", 10_000)
    assert main(["compare", "--layers", "--height", "6", "--width", "5", "--channels", "4", "--filters", "8"]) == 0
    shown = capsys.readouterr().out
    assert "separable / convolution = 1/N + 1/k² = 1/8 + 1/9 = 0.236 of the multiply-adds" in shown
    assert "dense: too large to measure" in shown
    assert "HW(k²C+CN)" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give the models to compare"),
        (["mobilnet_v2"], "Did you mean"),
        (["MobileNetV2", "--depths", "2"], "The depth of MobileNetV2 cannot be changed"),
        (["test_vgg", "--depths", "0"], "1 or more"),
        (["test_vgg", "--depths", "1", "--figure", "no/such/folder/a.png"], "folder that exists"),
        (["test_vgg", "--depths", "1", "--figure", "a.pdf"], ".png"),
        (["test_vgg", "--layers"], "Leave out models"),
        (["--layers", "--kernel-size", "0"], "--kernel-size is 1 or more"),
        (["--layers", "--batch-size", "0"], "--batch-size is 1 or more"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, capsys):
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
