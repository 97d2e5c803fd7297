"""A run folder, read back: the model, its classes, and how to ask it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

import custom_ops.layers
import zoo.layers
from recipes.parts.images import Resize
from recipes.parts.names import printable
from recipes.parts.run_folder import read_run_file
from zoo import load_plugin
from zoo.errors import InputError

LAYERS = (custom_ops.layers, zoo.layers)
"""What a saved model may consist of besides Keras's own layers; importing it makes it known to Keras."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a run left."""

    folder: Path
    data: str
    """Where its images came from, as `open_source` takes it."""
    image_size: int
    """Height and width of the images it takes, pixels."""
    resize: Resize
    """How images that are not square become so."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    temperature: float
    """What logits are divided by before the softmax (Guo et al. 2017)."""
    model: keras.Model
    """From float32 pixels from 0 to 255 to logits."""


def load_run(folder: Path, *, plugins: Sequence[Path] = ()) -> FinishedRun:
    """Load a run folder; nothing else is needed, unless its model has layers of the user's own.

    Args:
        folder: What the run left.
        plugins: Python files that register such layers. The run knows which they were, but a folder that comes from
            elsewhere must not say what is run here.

    Raises:
        InputError: If it is no folder of a finished run, or damaged, or a plugin fails.
    """
    for plugin in plugins:
        load_plugin(plugin)
    config = read_run_file(folder, "config.json")
    classes = read_run_file(folder, "classes.json")
    calibration = read_run_file(folder, "calibration.json")
    noted = config.get("plugin") if isinstance(config, dict) else None
    trained_with = noted if isinstance(noted, list) else []
    try:
        run = FinishedRun(
            folder=folder,
            data=str(config["data"]),
            image_size=int(config["image_size"]),
            resize=config["resize"],
            classes=tuple(map(str, classes)),
            temperature=float(calibration["temperature"]),
            model=keras.models.load_model(folder / "model.keras", compile=False),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        again = " ".join(f"--plugin {printable(str(file))}" for file in trained_with)
        hint = f". It was trained with a plugin; give it again: {again}" if again and not plugins else ""
        raise InputError(f"The run folder {folder} is damaged: {what}{hint}") from None
    if run.model.output_shape[-1] != len(run.classes):
        raise InputError(
            f"The run folder {folder} is damaged: model.keras has {run.model.output_shape[-1]} outputs, classes.json "
            f"{len(run.classes)} names"
        )
    return run
