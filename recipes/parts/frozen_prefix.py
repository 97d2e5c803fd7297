"""Frozen layers say the same of the same image in every epoch: let them say it once, and train the rest on that."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from recipes.parts.array_store import allocate
from recipes.parts.batches import evaluation_batches
from recipes.parts.dataset import Split
from recipes.parts.inference import Inference
from zoo.errors import InputError
from zoo.graph import Graph
from zoo.surgery import split

# Attributes by which layers of Keras and of keras.applications hold the strength of their noise.
NOISE = ("rate", "drop_path_rate")


@dataclass(frozen=True)
class Cut:
    """A model in two parts, which share its layers."""

    layer: str
    """The name of the last layer of the first part."""
    prefix: keras.Model
    """From images to activations. Nothing in it trains, and it draws no random numbers."""
    suffix: keras.Model
    """From activations to what the model gives."""


def cut_behind_frozen(model: keras.Model) -> Cut | None:
    """Cut a model at the last place before anything that trains.

    Args:
        model: Functional, with `trainable` set as for the stage to come.

    Returns:
        The parts, or None if nothing trains, or no layer with weights comes before the last place where a single
        tensor crosses and nothing before it trains.
    """
    graph = Graph(model)
    place, worth_it = None, False
    for segment in graph.segments():
        operations = [graph.operations[index] for index in segment]
        if any(_varies(operation) for operation in operations):
            break
        place = operations[-1]
        worth_it = worth_it or any(getattr(operation, "weights", None) for operation in operations)
    if place is None or place is graph.operations[-1] or not worth_it:
        return None
    return Cut(place.name, *split(model, place.name))


class FrozenPrefix:
    """The frozen part of a stage, if there is one that has to run only once.

    Args:
        model: With `trainable` set as for the stage.
        splits: What it will be shown, again and again.
        images_change: Whether training images are augmented or mixed, so that they are others in each epoch.
        batch_size: Images at a time. Outputs depend on it in their last bits: with the batch size of the training,
            training on them gives the same weights as training through the frozen layers.
        memory_budget_bytes: Activations that do not fit in here are kept in a file.
        scratch_dir: Where that file goes.

    Attributes:
        note: One line that says what is done about the frozen layers and why; empty if there are none.
    """

    def __init__(
        self,
        model: keras.Model,
        splits: tuple[Split, ...],
        *,
        images_change: bool,
        batch_size: int,
        memory_budget_bytes: int,
        scratch_dir: Path | None,
    ) -> None:
        self.suffix = model
        self.splits = splits
        self.batch_size = batch_size
        self.cut = cut_behind_frozen(model)
        self.note = ""
        if self.cut is None:
            return
        if images_change:
            self.note = "frozen layers run in every epoch, as augmentation changes the images"
            self.cut = None
            return
        shape = self.cut.prefix.output.shape[1:]
        images = sum(map(len, splits))
        try:
            self.stored = allocate(
                (images, *shape),
                np.float32,
                what="activations",
                memory_budget_bytes=memory_budget_bytes,
                scratch_dir=scratch_dir,
            )
        except InputError as error:
            self.note = f"frozen layers run in every epoch: {error}"
            self.cut = None
            return
        place = "in a file" if isinstance(self.stored, np.memmap) else "in memory"
        self.note = (
            f"layers up to {self.cut.layer} are frozen and run once: {images * math.prod(shape) * 4 / 1e6:,.0f} MB "
            f"of activations, kept {place}"
        )
        self.suffix = self.cut.suffix

    def run(self, progress: Callable[[int, int], None]) -> tuple[Split, ...]:
        """The splits with float32 activations `(n, ...)` in place of their images, if frozen layers run only once.

        Args:
            progress: Is told how many images are done, and how many there are.
        """
        if self.cut is None:
            return self.splits
        infer = Inference(self.cut.prefix)
        begin = 0
        answers = []
        for images in self.splits:
            rows = self.stored[begin : begin + len(images)]
            done = 0
            for outputs in infer.batches(evaluation_batches(images, batch_size=self.batch_size)):
                rows[done : done + len(outputs)] = outputs
                done += len(outputs)
                progress(begin + done, len(self.stored))
            answers.append(replace(images, images=rows))
            begin += len(images)
        return tuple(answers)


def _varies(operation: keras.Operation) -> bool:
    """Whether an operation may answer otherwise in the next step."""
    if not isinstance(operation, keras.Layer):
        return False
    strengths = [getattr(operation, attribute, None) for attribute in NOISE]
    noisy = any(isinstance(strength, float) and strength > 0 for strength in strengths)
    counts = isinstance(operation, keras.layers.BatchNormalization) and operation.trainable
    return noisy or counts or bool(operation.trainable_weights)
