"""`zoo list`: which models there are."""

import csv
import io
import json
import subprocess
import sys

import pytest

import zoo
from recipes.cli import main
from recipes.list_models import Config, run
from zoo import InputError


def test_every_model_is_listed_in_order_with_what_is_known():
    rows = run(Config())
    assert [row["name"] for row in rows] == zoo.list_models()
    lite = next(row for row in rows if row["name"] == "efficientnet_lite0")
    assert lite == {
        "name": "efficientnet_lite0",
        "family": "efficientnet_lite",
        "parameters": 4_694_024,
        "multiply_adds": 385_187_552,
        "image_size": 224,
        "channels": 3,
        "weights": ("imagenet",),
        "top1": 0.751,
        "licence": "Apache-2.0",
    }


def test_filters_are_all_applied():
    family = [row["name"] for row in run(Config(family="efficientnet_lite"))]
    assert family == ["test_efficientnet_lite", *(f"efficientnet_lite{number}" for number in range(5))]
    names = [row["name"] for row in run(Config(family="efficientnet_lite", max_params=6_150_168, pretrained=True))]
    assert names == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert all(row["weights"] for row in run(Config(pretrained=True)))
    assert run(Config(max_params=0)) == []


def test_the_number_of_classes_counts():
    (lite,) = [row for row in run(Config(num_classes=10)) if row["name"] == "efficientnet_lite0"]
    assert lite["parameters"] == 4_694_024 - 990 * 1281


def test_a_model_that_nobody_measured_is_listed(monkeypatch):
    monkeypatch.setattr("recipes.list_models.figures", lambda name: None)
    rows = run(Config(family="efficientnet_lite"))
    assert {row["parameters"] for row in rows} == {None}
    assert run(Config(family="efficientnet_lite", max_params=10**9)) == []
    assert main(["list", "--family", "efficientnet_lite"]) == 0


@pytest.mark.parametrize("columns", ["80", "120"])
def test_table(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in zoo.list_models():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert len(line) <= int(columns)
    assert "4,694,024" in next(line for line in lines if line.startswith("efficientnet_lite0"))
    assert "keras.applications" in lines[-1]


def test_nothing_fits(capsys):
    assert main(["list", "--max-params", "1"]) == 0
    assert capsys.readouterr().out == "no model fits\n"
    assert main(["list", "--max-params", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["list", "--max-params", "1", "--csv"]) == 0
    assert capsys.readouterr().out == ""


def test_for_programs(capsys):
    assert main(["list", "--json", "--pretrained"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main(["list", "--csv", "--pretrained"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in table] == [row["name"] for row in rows]
    assert table[0]["parameters"] == str(rows[0]["parameters"])
    assert table[0]["weights"] == "imagenet"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--family", "efficientnet_light"], "Did you mean efficientnet_lite"),
        (["--num-classes", "0"], "1 or more"),
        (["--csv", "--json"], "not both"),
    ],
)
def test_bad_input_is_one_line_and_code_2(words, message, capsys):
    assert main(["list", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_errors_are_input_errors():
    with pytest.raises(InputError, match="Unknown family"):
        run(Config(family="vg"))


def test_it_does_not_start_tensorflow():
    code = (
        "import sys\n"
        "from recipes.cli import main\n"
        "assert main(['list']) == 0\n"
        "loaded = {'tensorflow', 'keras', 'numpy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
