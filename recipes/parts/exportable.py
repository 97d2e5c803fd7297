"""What can be exported: a finished run, or a classifier from a `.keras` file, of which less is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.parts.export_images import ExportImages, draw_records
from recipes.parts.finished_run import FinishedRun, load_run
from recipes.parts.images import Resize
from recipes.parts.inference import Inference
from recipes.parts.keras_file import load_keras_file
from recipes.parts.metrics import measure
from recipes.parts.names import listed, printable
from recipes.parts.ordered import Progress
from recipes.parts.recorded import SplitRecord, read_split
from recipes.parts.run_folder import read_run_file
from recipes.parts.sources import open_source
from zoo.errors import InputError
from zoo.graph import as_functional


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """A classifier, and what is known of it."""

    finished: FinishedRun
    """The model and how to ask it. `data` is where its images are now, empty if that is not known."""
    history: dict[str, Any] | None
    """Of a run, see `read_history`; None of a `.keras` file."""
    records: tuple[SplitRecord, ...]
    """Of a run, which images it used. Of a `.keras` file, into which splits the given images are put, if there are
    any; which of them it was trained on is not known."""


def load(
    path: Path,
    *,
    classes: Path | None,
    resize: Resize | None,
    data: str | None,
    plugins: Sequence[Path],
    progress: Progress | None = None,
) -> Exportable:
    """Load what is to be exported.

    Args:
        path: Of a run folder or a `.keras` file.
        classes: For a `.keras` file, the file with the names of its classes.
        resize: For a `.keras` file, how images that are not square become so.
        data: Where the images of the run are now, or images for a `.keras` file.
        plugins: Python files that register layers of the model.
        progress: Is told of every file of `data`, for a `.keras` file.

    Raises:
        InputError: If it cannot be loaded, or the arguments are not those of what it is.
    """
    if not path.exists():
        raise InputError(f"No such run folder or .keras file: {printable(str(path))}")
    if path.is_dir():
        if classes is not None or resize is not None:
            raise InputError("--classes and --resize are of a .keras file; a run folder knows its own")
        finished = load_run(path, plugins=plugins)
        if data is not None:
            open_source(data, for_training=False)
            finished = replace(finished, data=data)
        return Exportable(finished=finished, history=read_history(path), records=read_split(path / "split.jsonl"))
    if classes is None:
        raise InputError(
            f"{printable(str(path))} is no run folder: of a .keras file, give the names of the classes with --classes"
        )
    finished = load_keras_file(path, classes=classes, resize=resize or "stretch", data=data, plugins=plugins)
    records = () if data is None else draw_records(data, progress=progress)
    unknown = sorted({record.class_name for record in records} - set(finished.classes))
    if unknown:
        raise InputError(
            f"{printable(finished.data)} has classes that {printable(str(classes))} does not name: {listed(unknown)}"
        )
    return Exportable(finished=finished, history=None, records=records)


def read_history(run: Path) -> dict[str, Any]:
    """Read what a run tells of itself: its `config`, `metrics` and `versions`.

    Args:
        run: Its folder.

    Raises:
        InputError: If a file is missing or damaged.
    """
    history = {name: read_run_file(run, f"{name}.json") for name in ("config", "metrics", "versions")}
    missing = [name for name in ("validation", "test", "stages", "notices") if name not in history["metrics"]]
    if missing:
        raise InputError(f"The run folder {printable(str(run))} is damaged: metrics.json has no {listed(missing)}")
    return history


def measure_on_test(finished: FinishedRun, images: ExportImages) -> dict[str, Any] | None:
    """What the trained model makes of its test images, see `recipes.parts.metrics.measure`; None if there are none."""
    if not len(images.test):
        return None
    batches = ((tf.cast(images.test[start : start + 32], tf.float32),) for start in range(0, len(images.test), 32))
    logits = Inference(as_functional(finished.model))(batches).astype(np.float32)
    return measure(logits, images.labels, finished.classes, temperature=finished.temperature)
