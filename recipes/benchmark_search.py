"""What a search costs here, next to KerasTuner used directly, and with and without the cache of frozen layers.

    python -m recipes.benchmark_search engine                     # architectures for digits
    python -m recipes.benchmark_search cache --data folder:PATH --backbone MobileNetV2 --weights FILE --image-size 96

`engine` searches pooling, depth and width of `vgg_tiny` on the built-in digits twice: with `keras_tuner.RandomSearch`
and a `build_model(hp)`, as its guide has it, and with `zoo search`; same space, number of trials and epochs, a process
each, in turn. `cache` runs the same trials of the space for fine-tuning with the cache, which is empty at first, and
without. What the README says comes from here.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro

from recipes.parts import runtime

VARY = ("pool", "head_pool", "depth", "width")
MODEL, SIZE, BATCH = "vgg_tiny", 24, 32


@dataclass(frozen=True, kw_only=True)
class Engine:
    """KerasTuner used directly, against `zoo search`."""

    trials: int = 30
    """Of each search."""
    epochs: int = 8
    """Of each trial."""
    rounds: int = 2
    """How often both search, in turn, each time with another seed."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Fine-tuning trials with the cache of frozen layers, against the same without."""

    data: str
    """As for `zoo search`."""
    backbone: str = "efficientnet_lite0"
    """As for `zoo search`."""
    weights: str = "imagenet"
    """As for `zoo search`."""
    image_size: int = 96
    """Pixels a side."""
    trials: int = 8
    """Of each search."""


@dataclass(frozen=True, kw_only=True)
class Usual:
    """One search with KerasTuner used directly; `engine` starts it in a process of its own."""

    trials: int
    """Of the search."""
    epochs: int
    """Of each trial."""
    seed: int
    """Of the search."""


def usual(config: Usual) -> None:
    """Search as KerasTuner's guide has it, and print the best score as JSON."""
    runtime.start(seed=0, deterministic=False)
    import keras
    import keras_tuner

    from recipes.parts.dataset import materialise
    from recipes.parts.scan import scan
    from recipes.parts.search.architecture_space import sample_depth, sample_head_pooling, sample_pooling, sample_width
    from recipes.parts.sources import open_source
    from zoo import MODELS, build_model

    data = materialise(scan(open_source("digits"), seed=config.seed), size=SIZE, resize="stretch")

    def build(hp: Any) -> keras.Model:
        spec = MODELS[MODEL]
        for sample in (sample_pooling, sample_head_pooling, sample_depth, sample_width):
            spec = sample(hp, spec)
        model = build_model(spec, input_shape=(SIZE, SIZE, 3), num_classes=10)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.05, 0.9, nesterov=True), loss=loss, metrics=["accuracy"])
        return model

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            build, objective="val_accuracy", max_trials=config.trials, seed=config.seed + 1, directory=folder
        )
        tuner.search(
            data.train.images.astype("float32"),
            data.train.labels,
            epochs=config.epochs,
            batch_size=BATCH,
            validation_data=(data.validation.images.astype("float32"), data.validation.labels),
            verbose=0,
        )
        best = tuner.oracle.get_best_trials(1)[0]
    print(json.dumps({"best": best.score, "trials": len(tuner.oracle.trials)}))


def compare_engines(config: Engine) -> None:
    """Print time and best score of both, round by round."""
    print(f"{'seed':>4} {'KerasTuner, s':>14} {'best':>7} {'zoo search, s':>14} {'best':>7} {'ratio':>6}")
    for seed in range(config.rounds):
        flags = ["--trials", str(config.trials), "--epochs", str(config.epochs), "--seed", str(seed)]
        words, direct = _timed([sys.executable, "-m", "recipes.benchmark_search", "usual", *flags])
        theirs = json.loads(words.splitlines()[-1])["best"]
        with tempfile.TemporaryDirectory() as folder:
            ours = _search(
                folder, "--engine", "random", "--vary", *VARY, "--max-trials", str(config.trials), "--epochs",
                str(config.epochs), "--seed", str(seed), "--model", MODEL, "--image-size", str(SIZE), "--batch-size",
                str(BATCH),
            )  # fmt: skip
            best = max(float(row["score"]) for row in _results(folder) if row["score"])
        print(f"{seed:4} {direct:14.1f} {theirs:7.4f} {ours:14.1f} {best:7.4f} {direct / ours:6.2f}", flush=True)


def compare_cache(config: Cache) -> None:
    """Print seconds of trials with the cache and without, head alone and blocks apart."""
    flags = [
        "--space", "finetune", "--engine", "random", "--data", config.data, "--backbone", config.backbone, "--weights",
        config.weights, "--image-size", str(config.image_size), "--max-trials", str(config.trials),
    ]  # fmt: skip
    found: dict[str, tuple[float, dict[str, dict[str, str]]]] = {}
    for name, more in (("with", ()), ("without", ("--no-cache",))):
        with tempfile.TemporaryDirectory() as folder:
            seconds = _search(folder, *flags, *more, cache=Path(folder, "cache"))
            found[name] = seconds, {row["id"]: row for row in _results(folder) if row["status"] == "done"}
    rows, without = found["with"][1], found["without"][1]
    both = sorted(rows.keys() & without.keys())
    print(f"{'trains':16} {'trials':>6} {'with, s':>9} {'without, s':>11} {'ratio':>6}")
    groups = {
        "the head alone": [trial for trial in both if rows[trial]["unfreeze"] == "0"],
        "blocks as well": [trial for trial in both if rows[trial]["unfreeze"] != "0"],
        "all": both,
    }
    for name, trials in groups.items():
        if trials:
            fast, slow = (fmean(float(table[trial]["seconds"]) for trial in trials) for table in (rows, without))
            print(f"{name:16} {len(trials):6} {fast:9.2f} {slow:11.2f} {slow / fast:6.1f}")
    whole, plain = found["with"][0], found["without"][0]
    print(f"whole searches, start-up and filling the cache included: {whole:.0f} s, {plain:.0f} s, {plain / whole:.1f}")


def _search(folder: str, *flags: str, cache: Path | None = None) -> float:
    """Seconds of a search of ours, without final runs."""
    command = [sys.executable, "-m", "recipes.cli", "search", "--out", f"{folder}/search", "--seeds", "0", *flags]
    return _timed(command, **({"ZOO_CACHE": str(cache)} if cache else {}))[1]


def _timed(command: list[str], **environment: str) -> tuple[str, float]:
    """What a command prints, and how long it takes."""
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603  # our own modules
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout, time.perf_counter() - began


def _results(folder: str) -> list[dict[str, str]]:
    with Path(folder, "search", "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Measure and print."""
    chosen = tyro.cli(
        Annotated[Engine, tyro.conf.subcommand("engine")]
        | Annotated[Cache, tyro.conf.subcommand("cache")]
        | Annotated[Usual, tyro.conf.subcommand("usual")]
    )
    if isinstance(chosen, Usual):
        usual(chosen)
    elif isinstance(chosen, Engine):
        compare_engines(chosen)
    else:
        compare_cache(chosen)


if __name__ == "__main__":
    main()
