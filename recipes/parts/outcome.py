"""What a run writes into its folder: the images it used, the model it made, and how good that is."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from recipes.parts.batches import evaluation_batches
from recipes.parts.calibration import calibration_json, describe_calibration, fit_temperature
from recipes.parts.dataset import DataSet
from recipes.parts.display import Display, duration
from recipes.parts.inference import Inference
from recipes.parts.metrics import measure, metrics_table
from recipes.parts.names import printable
from recipes.parts.recorded import write_split
from recipes.parts.report import draw_report
from recipes.parts.run_folder import complete_or_absent, write_json
from recipes.parts.stage_events import StageResult


def write_data(folder: Path, data: DataSet) -> None:
    """Write `classes.json`, `split.jsonl` and, where files were skipped, `unreadable.json`.

    Args:
        folder: Of the run.
        data: Its images.
    """
    write_json(folder / "classes.json", list(data.classes))
    with complete_or_absent(folder / "split.jsonl") as beside:
        write_split(beside, data)
    if data.unreadable:
        write_json(folder / "unreadable.json", [asdict(file) for file in data.unreadable])


def conclude(
    folder: Path,
    model: keras.Model,
    data: DataSet,
    results: Sequence[StageResult],
    *,
    title: str,
    batch_size: int,
    began: float,
    display: Display,
    infer: Inference | None = None,
) -> None:
    """Save a trained model, measure it, and show how good it is.

    The temperature of the scores is fitted on the validation split. The test split is measured here, once; no weight
    and no choice of an epoch or temperature may rest on it.

    Args:
        folder: Of the run. `model.keras`, `calibration.json`, `report.png` and `metrics.json` are written into it.
        model: From images to logits.
        data: What it was trained on.
        results: What the stages did.
        title: What was run, in one line, for the report.
        batch_size: Images at a time.
        began: When the run began, in seconds of `time.perf_counter`.
        display: Where to show the measures.
        infer: Inference by the model, where there is one that is traced already.
    """
    with complete_or_absent(folder / "model.keras") as beside:
        # A model that was never compiled: the optimizer's state would make the file up to three times as large.
        keras.Model(model.input, model.output, name=model.name).save(beside)
    splits = {"validation": data.validation, "test": data.test}
    infer = infer or Inference(model)
    logits = {name: infer(evaluation_batches(split, batch_size=batch_size)) for name, split in splits.items()}

    def measures(temperature: float) -> dict[str, dict[str, Any]]:
        return {
            name: measure(logits[name], split.labels, data.classes, temperature=temperature)
            for name, split in splits.items()
        }

    temperature = fit_temperature(logits["validation"], data.validation.labels)
    measured = measures(temperature)
    calibration = calibration_json(temperature, before=measures(1.0), after=measured)
    write_json(folder / "calibration.json", calibration)
    stages = [asdict(result) for result in results]
    seconds = time.perf_counter() - began
    metrics: dict[str, Any] = {**measured, "stages": stages, "seconds": seconds, "notices": data.notices}
    test = measured["test"]
    draw_report(
        folder / "report.png",
        title=title,
        subtitle=f"test accuracy {test['accuracy']:.4f}, macro F1 {test['macro_f1']:.4f}",
        stages=stages,
        metrics=test,
        classes=data.classes,
        images=data.test.images,
        labels=data.test.labels,
        logits=logits["test"],
        temperature=temperature,
        notices=data.notices,
    )
    write_json(folder / "metrics.json", metrics)
    display.show(metrics_table(measured))
    display.say(describe_calibration(calibration))
    shown = printable(str(folder))
    display.say(f"done in {duration(seconds)}; see {shown}/report.png, try `zoo predict {shown} IMAGE`")
