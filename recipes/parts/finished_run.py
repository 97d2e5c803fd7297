"""A run folder, read back: the model, its classes, and how to ask it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from recipes.parts.run_folder import read_run_file
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What a run left."""

    folder: Path
    config: dict[str, Any]
    classes: tuple[str, ...]
    temperature: float
    """What logits are divided by before the softmax (Guo et al. 2017)."""
    model: keras.Model

    @property
    def image_size(self) -> int:
        """Height and width of the images it takes, pixels."""
        return int(self.config["image_size"])


def load_run(folder: Path) -> FinishedRun:
    """Load a run folder; nothing else is needed.

    Raises:
        InputError: If it is no folder of a finished run, or damaged.
    """
    config = read_run_file(folder, "config.json")
    classes = tuple(read_run_file(folder, "classes.json"))
    temperature = read_run_file(folder, "calibration.json")["temperature"]
    path = folder / "model.keras"
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"Cannot load {path}: {str(error).splitlines()[0]}") from None
    if model.output_shape[-1] != len(classes):
        raise InputError(f"{path} has {model.output_shape[-1]} outputs, but classes.json has {len(classes)} names")
    return FinishedRun(folder=folder, config=config, classes=classes, temperature=temperature, model=model)
