"""What a staged run tells of itself: a stage begins, a stage is done."""

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import keras

from recipes.parts.stages import Stage

if TYPE_CHECKING:
    from recipes.parts.importance import Choice, Importance
    from recipes.parts.learning_rate_finder import LearningRateCurve


@dataclass(frozen=True, kw_only=True)
class StageStart:
    """What is about to be trained."""

    stage: Stage
    index: int
    blocks: tuple[str, ...]
    """Names of the blocks that train, input side first."""
    trainable_parameters: int
    parameters: int
    steps_per_epoch: int


@dataclass(kw_only=True)
class StageResult:
    """What a stage did."""

    name: str
    unfreeze: str
    blocks: tuple[str, ...]
    trainable_parameters: int
    parameters: int
    epochs: int = 0
    """Epochs that ran."""
    best_epoch: int | None = None
    """The epoch, counted from 1, whose weights were kept; None if no epoch beat the weights before the stage."""
    validation_loss: float | None = None
    """Of the weights that were kept; None if nothing has been validated yet."""
    validation_accuracy: float | None = None
    """Of the same weights."""
    validation_macro_f1: float | None = None
    """Of the same weights."""
    seconds: float = 0.0
    fill_images: int = 0
    """Images, each version counted, that frozen layers were shown before the first epoch."""
    fill_seconds: float = 0.0
    """That this took."""
    peak_bytes: int = 0
    """The most memory that the process alone held."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""

    @property
    def epoch_seconds(self) -> float:
        """Of the median epoch, validation included; 0 if none ran."""
        return median([epoch["seconds"] for epoch in self.history]) if self.history else 0.0


class StageCallback(keras.callbacks.Callback):
    """A Keras callback that is also told where stages begin and end."""

    def on_stage_begin(self, start: StageStart) -> None:
        """Before the stage is compiled."""

    def on_blocks_chosen(self, stage: Stage, importance: "Importance", choice: "Choice") -> None:
        """Before a stage begins that chooses what it trains."""

    def on_learning_rate_found(self, stage: Stage, curve: "LearningRateCurve") -> None:
        """Before the first epoch of a stage whose learning rate was looked for."""

    def on_frozen_layers(self, note: str) -> None:
        """Before the first epoch: what is done about frozen layers, in one line; empty if there are none."""

    def on_frozen_progress(self, done: int, total: int) -> None:
        """Frozen layers have seen `done` of `total` images."""

    def on_stage_end(self, result: StageResult) -> None:
        """After its best epoch has been restored."""
