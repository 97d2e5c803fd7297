"""The benchmark compares like with like, and the commands run. No time is asserted."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import custom_ops
from custom_ops import benchmark, figure, ops

CASES = benchmark.cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_case_and_its_rival_compute_the_same(case):
    inputs = benchmark.inputs_for(case, (2, 8, 8, 4))
    with custom_ops.lowering("native"):  # compiled or not is no matter here
        ours, rival = case.ours(*inputs), case.rival(*inputs)
    assert ours.shape == rival.shape
    if case.operator == "stochastic":  # another draw, of the same values
        assert np.isin(rival, inputs[0]).all()
    else:
        np.testing.assert_allclose(ours, rival, rtol=1e-4, atol=1e-5)


def test_each_windowed_operator_is_measured():
    windowed = {name.removesuffix("_pool2d") for name in dir(ops) if name.endswith("_pool2d")}
    windowed -= {name for name in windowed if name.startswith(("global_", "adaptive_", "spatial_"))}
    assert {case.operator for case in CASES} == windowed


@pytest.mark.parametrize("options", [[], ["--dispatch"]])
def test_the_command_prints_and_writes(options, monkeypatch, tmp_path, capsys):
    shape = (1, 8, 8, 4)
    monkeypatch.setattr(benchmark, "SHAPES", (shape,))
    monkeypatch.setattr(benchmark, "DISPATCH_SHAPES", (shape,))
    written = tmp_path / "speed.json"
    arguments = ["benchmark", "avg", "--seconds", "0", "--json", str(written), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    benchmark.main()
    lines = json.loads(written.read_text())
    assert [line["op"] for line in lines][:2] == ["avg 2x2", "avg 3x3"]
    assert all(value > 0 for line in lines for part in ("forward", "gradient") for value in line[part].values())
    assert "avg 2x2" in capsys.readouterr().out


def test_an_operator_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "mean"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "no such operator: mean. There are: avg blur gated" in capsys.readouterr().err


def test_ratios_are_taken_round_by_round():
    assert benchmark.ratio([1, 20, 3], [1, 10, 1]) == 2


def test_the_readme_holds_the_ratios_of_every_windowed_operator():
    readme = (Path(benchmark.__file__).parent / "README.md").read_text()
    table = readme.split("## Windowed operators")[1].split("##")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:3] == "| `"]
    ratios = {row[0].strip("`"): row[-1] for row in rows}
    part = {"faster": 1.0}
    lines = [{"op": case.name, "forward": part, "gradient": part} for case in CASES if not case.inside_xla]
    for operator, windows in benchmark.readme_rows(lines).items():
        written = ratios.pop(operator)
        assert [one.split(":")[0] for one in written.split("; ")] == [one.split(":")[0] for one in windows.split("; ")]
    assert not ratios


def test_ratios_for_the_readme(tmp_path, monkeypatch, capsys):
    lines = [
        {"op": op, "forward": {"faster": forward}, "gradient": {"faster": gradient}}
        for op, forward, gradient in (
            ("max 2x2", 1.04, 2),
            ("max 2x2", 1.26, 30.4),
            ("max 3x3", 1, 1),
            ("max 2x2 in XLA", 2, 3),
        )
    ]
    written = tmp_path / "speed.json"
    written.write_text(json.dumps(lines))
    monkeypatch.setattr(sys, "argv", ["benchmark", "--readme", str(written)])
    benchmark.main()
    first, second = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["max", "2x2: 1.0–1.3 / 2–30; 3x3: 1.0 / 1.0"]
    assert second.split() == ["max", "in", "XLA", "2x2:", "2.0", "/", "3.0"]


def test_the_figure_shows_every_windowed_operator(tmp_path):
    shown = {title.split()[0].rstrip(",") for title in figure.OPERATORS}
    assert shown == {case.operator for case in CASES}
    picture = figure.with_noise(figure.own_picture(32))
    assert picture.shape == (32, 32)
    assert 0 <= picture.min() <= picture.max() <= 1
    with custom_ops.lowering("native"):
        figure.draw(picture, tmp_path / "pooling.png")
    assert figure.read_picture(tmp_path / "pooling.png", 16).shape == (16, 16)
