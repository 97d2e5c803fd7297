"""`zoo benchmark-export`: what it refuses, how it measures and what it shows."""

import json
import subprocess
import sys

import numpy as np
import pytest

from recipes import benchmark_export
from recipes.cli import main
from recipes.parts.export_candidates import OURS, STOCK, Candidate, check_answers
from recipes.parts.failure import Failed
from recipes.parts.serving_speed import measure_candidates, settled


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give run folders, or a network with --backbone"),
        (["RUN", "--backbone", "MobileNetV2"], "Give run folders, or a network with --backbone"),
        (["RUN", "--threads", "0"], "--threads is above 0"),
        (["RUN", "--seconds", "-1"], "--seconds is above 0"),
        (["--backbone", "MobileNetV2", "--image-size", "0"], "--image-size is above 0"),
        (["--backbone", "MobileNetV2", "--num-classes", "0"], "--num-classes is above 0"),
        (["--backbone", "MobileNetV9"], "Did you mean"),
        (["--backbone", "MobileNetV2", "--weights", "nothing.h5"], "There is no file 'nothing.h5'"),
    ],
)
def test_what_it_refuses(words, message, capsys):
    assert main(["benchmark-export", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def candidate(name, answer, prepare=lambda pixels: pixels):
    return Candidate(name=name, prepare=prepare, ask=lambda pixels: {"logits": answer(pixels)})


def means(pixels):
    return pixels.mean(axis=(1, 2))


def test_all_have_to_answer_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    ours, near = candidate(OURS, means), candidate("near", lambda pixels: means(pixels) * (1 + 5e-5))
    assert check_answers([ours], pixels) == 0
    assert check_answers([ours, near], pixels) == pytest.approx(5e-5)
    for wrong in (lambda pixels: means(pixels) * (1 + 2e-4), lambda pixels: means(pixels) * np.nan):
        with pytest.raises(Failed, match="wrong answers otherwise"):
            check_answers([ours, near, candidate("wrong", wrong)], pixels)


def test_only_the_second_of_two_calls_counts_and_all_take_turns(monkeypatch):
    called = []
    clock = iter(np.arange(0, 1000, 0.001))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    times = settled([lambda: called.append("a"), lambda: called.append("b")], 0)
    assert [len(each) for each in times] == [5, 5]
    assert called[-20:] == ["a", "a", "b", "b"] * 5


def test_what_is_measured():
    given = []

    def ask(pixels):
        given.append(pixels.shape)
        return {"logits": means(pixels)}

    prepared = candidate(OURS, ask, prepare=lambda pixels: pixels[..., :2])
    found = measure_candidates([prepared, candidate(STOCK, means)], size=6, batch_size=4, seconds=0.01)
    assert set(given) == {(4, 6, 6, 2)}
    assert list(found) == [OURS, STOCK]
    assert found[STOCK]["times_stock"] == 1
    for each in found.values():
        assert each["fastest"] <= each["milliseconds"] <= each["slowest"]
        assert each["images_per_second"] == pytest.approx(4000 / each["milliseconds"])


def test_what_it_shows(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    alone = {"milliseconds": 2.5, "fastest": 2.25, "slowest": 3.125}
    row = {**alone, "images_per_second": 400.4, "times_stock": 1.456}
    benchmark_export.show(
        {
            "model": "mine",
            "image_size": 64,
            "classes": 10,
            "threads": 2,
            "difference": 3e-7,
            "batches": {each: {OURS: row, STOCK: {**row, "times_stock": 1.0}} for each in benchmark_export.BATCH_SIZES},
            "parts": {**dict.fromkeys(("decode", "resize", "decode and resize", "network"), alone), "kilobytes": 48.6},
            "missing": {"LiteRT": "pip install it"},
        }
    )
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "mine, 64 pixels, 10 classes, 2 threads, float32"
    assert f"{OURS} 400 400 400 2.50 2.25 to 3.12 1.46" in lines
    assert "LiteRT: pip install it" in lines


@pytest.mark.slow
def test_the_real_command():
    words = ["--backbone", "efficientnet_lite0", "--image-size", "32", "--num-classes", "7", "--seconds", "0.1"]
    command = [sys.executable, "-m", "recipes.cli", "benchmark-export", *words, "--threads", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    assert (found["image_size"], found["classes"], found["threads"]) == (32, 7, 1)
    names = set(found["batches"]["32"])
    assert {OURS, STOCK} <= names
    assert names | set(found["missing"]) == {OURS, STOCK, "LiteRT", "ONNX Runtime", "OpenVINO"}
    assert all("pip install" in why for why in found["missing"].values())
    assert found["parts"]["decode"]["milliseconds"] > 0
