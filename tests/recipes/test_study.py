"""A study through the real command line: what it finds, and that it can be stopped and gone on with."""

import csv
import json

import keras
import pytest

from recipes import study
from recipes.cli import main
from recipes.parts import training
from recipes.parts.stages import TrainingFailed
from recipes.parts.study_tables import read_results, summarise
from recipes.parts.training import run_stages
from zoo.errors import InputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "study"
    words = ["--preset", "smoke", "--train-images", "100", "--pools", "max", "soft", "--seeds", "0", "1"]
    assert main(["study", *words, "--out", str(out)]) == 0
    return out, words


def test_every_pool_and_seed_is_trained_once(finished):
    out, _ = finished
    results = read_results(out / "results.jsonl")
    assert [(row["pool"], row["seed"]) for row in results] == [("max", 0), ("soft", 0), ("max", 1), ("soft", 1)]
    with (out / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pool"] for row in rows] == ["max", "soft"]
    own = [row["accuracy"] for row in results if row["pool"] == "soft"]
    assert [float(rows[1][f"accuracy_{end}"]) for end in ("lowest", "mean", "highest")] == pytest.approx(
        [min(own), sum(own) / 2, max(own)]
    )
    assert (out / "table.md").read_text().count("\n") == 4
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_study_goes_on_and_ends_with_the_same_results(finished, tmp_path):
    out, words = finished
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("study.json", "versions.json"):
        (copy / name).write_bytes((out / name).read_bytes())
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    # Killed while it wrote the last line.
    (copy / "results.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    assert main(["study", *words, "--out", str(copy)]) == 0

    def plain(folder):
        return [{**row, "seconds": 0} for row in read_results(folder / "results.jsonl")]

    assert plain(copy) == plain(out)


def test_another_study_is_not_written_over(finished, capsys):
    out, words = finished
    before = (out / "results.jsonl").read_bytes()
    assert main(["study", *words, "--epochs", "2", "--out", str(out)]) == 2
    assert "changed since: epochs." in capsys.readouterr().err
    assert (out / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pools", "max", "max"], "each once"),
        (["--models", "vgg_nanoo"], "vgg_nano"),
        (["--pools", "maxx"], "max"),
        (["--epochs", "0"], "--epochs is 1 or more"),
        (["--image-size", "0"], "--image-size is 1 or more"),
        (["--seeds", "-1"], "A seed is 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(words, message, tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["study", "--preset", "smoke", *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("line", [b'{"mod', b"[1]", b'{"model": 1}', b"\xff", b"7"])
def test_a_damaged_line_is_told(tmp_path, line):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"model": "m", "pool": "max", "seed": 0, "failed": ""}\n' + line + b"\n")
    with pytest.raises(InputError, match="is damaged"):
        read_results(path)


@pytest.mark.slow
def test_ctrl_c_loses_nothing_and_more_seeds_may_follow(tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    words = ["study", "--preset", "smoke", "--train-images", "100", "--pools", "max", "--out", str(out)]
    append = study.append_line

    def stop_after(path, row):
        append(path, row)
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "append_line", stop_after)
    assert main(words) == 130
    monkeypatch.undo()
    assert main([*words, "--seeds", "0", "1"]) == 0
    assert "1 network trained already, 1 to go" in capsys.readouterr().out
    assert [row["seed"] for row in read_results(out / "results.jsonl")] == [0, 1]


@pytest.mark.slow
def test_a_network_that_diverges_does_not_end_the_study(tmp_path, monkeypatch):
    out = tmp_path / "study"

    def diverge(classifier, *arguments, **options):
        if any(isinstance(layer, keras.layers.AveragePooling2D) for layer in classifier.model.layers):
            raise TrainingFailed("The loss is no longer finite")
        return run_stages(classifier, *arguments, **options)

    monkeypatch.setattr(training, "run_stages", diverge)
    assert main(["study", "--preset", "smoke", "--train-images", "100", "--out", str(out)]) == 0
    failed = [row["pool"] for row in read_results(out / "results.jsonl") if "failed" in row]
    assert failed == ["avg"]
    assert "avg" not in (out / "table.md").read_text()


def test_rows_stand_in_the_order_that_was_asked_for():
    results = [
        {"model": "m", "pool": pool, "seed": 0, "parameters": 1, "multiply_adds": 2, "seconds": 3.0, "accuracy": 0.5}
        for pool in ("b", "a")
    ]
    rows = summarise(results, models=("m", "n"), pools=("a", "b", "c"))
    assert [row["pool"] for row in rows] == ["a", "b"]
    assert json.dumps(rows)
