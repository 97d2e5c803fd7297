"""What a final run writes into its folder, so that it is the folder of a run like any other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from recipes.parts.dataset import DataSet
from recipes.parts.display import Display
from recipes.parts.outcome import conclude, write_data
from recipes.parts.run_folder import CONFIG, METRICS, versions, write_json
from recipes.parts.search.records import Outcome
from recipes.parts.stage_events import StageResult

MEASURES = ("accuracy", "loss", "macro_f1")


def begin_run(folder: Path, data: DataSet, settings: dict[str, Any]) -> None:
    """Write what is known before training.

    Args:
        folder: Of the run.
        data: Its images.
        settings: What its recipe takes as `--config`.
    """
    write_json(folder / "versions.json", versions())
    write_json(folder / CONFIG, settings)
    write_data(folder, data)


def end_run(
    folder: Path,
    model: keras.Model,
    data: DataSet,
    results: Sequence[StageResult],
    outcome: Outcome,
    *,
    title: str,
    batch_size: int,
    began: float,
) -> None:
    """Write the model and measure it, here for the only time on the test split; note down what came of it.

    Args:
        folder: Of the run.
        model: Trained.
        data: Its images.
        results: What the stages did.
        outcome: Of the run; `validation` and `test` are set, with calibrated scores, as `metrics.json` has them.
        title: For the report.
        batch_size: Images at a time.
        began: When the run began, in seconds of `time.perf_counter`.
    """
    with Display(quiet=True) as display:
        conclude(folder, model, data, results, title=title, batch_size=batch_size, began=began, display=display)
    metrics = json.loads((folder / METRICS).read_text(encoding="ascii"))
    outcome.validation, outcome.test = (
        {name: metrics[split][name] for name in MEASURES} for split in ("validation", "test")
    )
    outcome.epochs = sum(result.epochs for result in results)
