"""How good is a finished run?

    zoo evaluate runs/finetune-20260101T120000                   # on its own test split
    zoo evaluate RUN --data folder:PATH/moved-photos             # the same, if the images are elsewhere now
    zoo evaluate RUN --data folder:PATH/new-photos               # on other images

Works from the run folder alone: images are decoded and resized as in training, and scores carry the run's calibration.

The run's own test images are found again by content and class, whatever their files are called. With `--data`, all
images of the test split given there count, or all images if there is none, except those whose content the run trained
or validated on. A notice says how many were left out.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from zoo.errors import InputError

if TYPE_CHECKING:
    from recipes.parts.finished_run import FinishedRun
    from recipes.parts.sources import Source


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure, on what."""

    run: tyro.conf.Positional[Path]
    """A run folder: the last line that `zoo finetune` or `zoo train` printed."""
    data: str | None = None
    """What else to measure on, or where the run's images are now: `digits`, `folder:PATH`, `idx:PATH` or
    `tfds:NAME`."""
    batch_size: int = 32
    """Images a step."""
    bad_images: Literal["skip", "error"] = "skip"
    """What to do about files that cannot be decoded: list and skip them, or stop."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if the model has any. May be given several times."""
    json: bool = False
    """Print the measures as JSON, in the form that `metrics.json` has for a split, with `notices` added."""


def run(config: Config) -> dict[str, Any]:
    """Measure a finished run.

    Args:
        config: What to measure, on what.

    Returns:
        `accuracy`, `macro_f1`, `loss`, `calibration_error`, `images`, `per_class` and `confusion_matrix`, see
        `recipes.parts.metrics.measure`; and `notices`, a list of lines on what to know about the images.

    Raises:
        InputError: If the run folder or the images are no good.
    """
    runtime.start(seed=0, deterministic=False)
    from recipes.parts.batches import evaluation_batches
    from recipes.parts.dataset import materialise
    from recipes.parts.finished_run import load_run
    from recipes.parts.inference import Inference
    from recipes.parts.metrics import class_table, measure, metrics_table
    from recipes.parts.recorded import read_split, scan_recorded, scan_unseen

    finished = load_run(config.run, plugins=config.plugin)
    with Display(quiet=config.json) as display:
        source = _open(config, finished)
        records = read_split(config.run / "split.jsonl")
        with display.working("reading images") as progress:
            options: dict[str, Any] = {"bad_images": config.bad_images, "progress": progress}
            if config.data is None:
                found = scan_recorded(source, records, finished.classes, splits=["test"], **options)
            else:
                found = scan_unseen(source, records, finished.classes, **options)
        with display.working("decoding images") as progress, runtime.native_stderr_held_back():
            data = materialise(found, size=finished.image_size, resize=finished.resize, progress=progress)
        for notice in data.notices:
            display.say(f"  {notice}")
        logits = Inference(finished.model)(evaluation_batches(data.test, batch_size=config.batch_size))
        measured = measure(logits, data.test.labels, finished.classes, temperature=finished.temperature)
        display.show(class_table(measured))
        display.say()
        display.show(metrics_table({"test": measured}))
    return {**measured, "notices": list(data.notices)}


def _open(config: Config, finished: "FinishedRun") -> "Source":
    from recipes.parts.sources import open_source

    try:
        return open_source(config.data or finished.data, for_training=False)
    except InputError as error:
        if config.data is not None:
            raise
        raise InputError(
            f"{error}. If the images of the run are elsewhere now, give their place with --data"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(Config, args=arguments, prog="zoo evaluate", description=__doc__)
        measured = run(config)
        if config.json:
            print(json.dumps(measured, indent=1))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
