"""What does a finished run say of these images?

    zoo predict runs/finetune-20260101T120000 photo.jpg other.png
    zoo predict RUN photo.jpg --json

Works from the run folder alone: images are decoded and resized as in training, and scores carry the run's calibration.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipes.parts import runtime
from recipes.parts.command_line import BAD_INPUT, OK, guarded
from recipes.parts.display import Display, complain
from recipes.parts.names import printable
from zoo.errors import InputError

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to classify, with what."""

    run: tyro.conf.Positional[Path]
    """A run folder: the last line that `zoo finetune` or `zoo train` printed."""
    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files: JPEG, PNG, BMP, GIF or WebP."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if the model has any. May be given several times."""
    json: bool = False
    """Print a JSON list of objects with `file`, `classes` and `scores`, all classes unless --top is given."""
    top: int | None = None
    """How many classes to show of each image, the likeliest first; 3 in the table by default."""


def run(config: Config) -> tuple[list[dict[str, Any]], list[str]]:
    """Classify image files.

    Args:
        config: What to classify, with what.

    Returns:
        For every image that can be read, in order, a dict of `file`, `classes` (the likeliest first) and `scores`
        (their probabilities); and a line for every image that cannot.

    Raises:
        InputError: If the run folder is no good, or no image is given.
    """
    if not config.images:
        raise InputError("Give one image file or more after the run folder")
    if config.top is not None and config.top < 1:
        raise InputError(f"--top is 1 or more. Received: {config.top}")
    runtime.start(seed=0, deterministic=False)

    import numpy as np
    import tensorflow as tf

    from recipes.parts.finished_run import load_run
    from recipes.parts.image_file import load_image
    from recipes.parts.inference import Inference
    from recipes.parts.metrics import log_softmax

    finished = load_run(config.run, plugins=config.plugin)
    infer = Inference(finished.model)
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []

    def read(path: Path) -> tf.Tensor | None:
        try:
            return load_image(path, size=finished.image_size, resize=finished.resize)
        except InputError as error:
            unreadable.append(str(error))
            return None

    with Display(quiet=config.json) as display, display.working("classifying images") as progress:
        for start in range(0, len(config.images), BATCH):
            with runtime.native_stderr_held_back():
                pixels = [(path, read(path)) for path in config.images[start : start + BATCH]]
            readable = [(path, image) for path, image in pixels if image is not None]
            progress(min(start + BATCH, len(config.images)), len(config.images))
            if not readable:
                continue
            logits = infer([(tf.cast(tf.stack([image for _, image in readable]), tf.float32),)])
            for (path, _), scores in zip(readable, np.exp(log_softmax(logits / finished.temperature)), strict=True):
                order = np.argsort(-scores, kind="stable")[: config.top]
                results.append(
                    {
                        "file": str(path),
                        "classes": [finished.classes[index] for index in order],
                        "scores": [float(scores[index]) for index in order],
                    }
                )
    return results, unreadable


def show(results: Sequence[dict[str, Any]], top: int) -> None:
    """Print a table with one image a row."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("file", overflow="fold")
    for rank in range(1, min(top, max(len(row["classes"]) for row in results)) + 1):
        table.add_column("class" if rank == 1 else f"{rank}.")
        table.add_column("score", justify="right")
    for row in results:
        cells = [Text(printable(row["file"]))]
        for name, score in list(zip(row["classes"], row["scores"], strict=True))[:top]:
            cells += [Text(printable(name)), Text(f"{score:.3f}")]
        table.add_row(*cells)
    Console(highlight=False).print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""
    code = OK

    def job() -> None:
        nonlocal code
        config = tyro.cli(Config, args=arguments, prog="zoo predict", description=__doc__)
        results, unreadable = run(config)
        if config.json:
            print(json.dumps(results, indent=1))
        elif results:
            show(results, config.top or 3)
        for line in unreadable:
            complain(f"error: {line}")
            code = BAD_INPUT

    return guarded(job) or code


if __name__ == "__main__":
    sys.exit(main())
