"""Callbacks that every stage trains with: keep the best epoch, and stop where asked to."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import keras
import numpy as np

from recipes.parts.stage_events import StageCallback, StageResult
from recipes.parts.stages import Stage, TrainingFailed
from recipes.parts.weight_average import WeightAverage


class StopAtBatch(StageCallback):
    """Let Ctrl-C stop training after the batch that runs.

    Python raises KeyboardInterrupt wherever it happens to be; in a function that TensorFlow called, or one that tidies
    up after an object that is gone, it is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of Ctrl-C instead of raising, as long as the context lasts; a second one raises at once."""
        if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def note(number: int, frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        self.raise_if_asked()

    def raise_if_asked(self) -> None:
        """Stop if asked to."""
        if self.asked:
            raise KeyboardInterrupt

    def on_frozen_progress(self, done: int, total: int) -> None:
        """Stop if asked to."""
        self.raise_if_asked()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop if asked to."""
        self.raise_if_asked()


class BestEpoch(keras.callbacks.Callback):
    """Keep the weights of the best epoch, stop when epochs no longer help, put the best back at the end.

    Unlike `keras.callbacks.EarlyStopping` it knows how good the weights were before the stage, so a stage can never
    leave the model worse on validation than it found it.

    Args:
        result: Where epochs are recorded.
        stage: What is being run.
        weights: What the stage changes.
        validate: Measures the model on the validation split; see `recipes.parts.metrics.measure`.
        average: What is measured and kept instead of the weights themselves, if anything.
    """

    def __init__(
        self,
        result: StageResult,
        stage: Stage,
        weights: Sequence[keras.Variable],
        validate: Callable[[], dict[str, Any]],
        *,
        average: WeightAverage | None = None,
    ) -> None:
        super().__init__()
        self.result = result
        self.stage = stage
        self.weights = weights
        self.validate = validate
        self.average = average
        self.kept: list[np.ndarray] = []
        self.began = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keep the weights from before the stage, unless it goes on."""
        if not self.kept:
            self._keep()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop at a loss that is no number any more."""
        if not math.isfinite((logs or {})["loss"]):
            raise self._diverged(f"step {batch + 1} of epoch {self.result.epochs + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate and record; keep the weights if they are the best so far; stop if patience is at an end."""
        with self.average.in_place() if self.average else nullcontext():
            self._compare(epoch, logs if logs is not None else {})

    def _compare(self, epoch: int, logs: dict[str, float]) -> None:
        measured = self.validate()
        # Written into Keras's logs, so that callbacks after this one find them where they expect them.
        logs["val_loss"], logs["val_accuracy"] = measured["loss"], measured["accuracy"]
        if not math.isfinite(logs["val_loss"]):
            raise self._diverged(f"epoch {epoch + 1}, on validation images")
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["seconds"] = time.perf_counter() - self.began
        self.result.history.append(dict(logs))
        self.result.epochs = epoch + 1
        best = self.result.validation_loss
        if best is None or logs["val_loss"] < best:
            self.result.validation_loss = logs["val_loss"]
            self.result.validation_accuracy = logs["val_accuracy"]
            self.result.validation_macro_f1 = measured["macro_f1"]
            self.result.best_epoch = epoch + 1
            self._keep()
        elif epoch + 1 - (self.result.best_epoch or 0) >= self.stage.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the best weights back."""
        for variable, value in zip(self.weights, self.kept, strict=True):
            variable.assign(value)

    def _diverged(self, where: str) -> TrainingFailed:
        return TrainingFailed(
            f"The loss is no longer finite in stage {self.stage.name!r}, {where}: lower its learning rate, which is "
            f"{self.stage.learning_rate:g} (--learning-rate, or config.json for --resume)"
        )

    def _keep(self) -> None:
        self.kept = [variable.numpy().copy() for variable in self.weights]


class AtEpochEnd(keras.callbacks.Callback):
    """Keep the state of a run at the border of each epoch.

    Args:
        save: Is told whether the stage takes no more epochs.
        epochs: The most that it takes, of which this `fit` may run only some.
    """

    def __init__(self, save: Callable[[bool], None], *, epochs: int) -> None:
        super().__init__()
        self.save = save
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save."""
        self.save(self.model.stop_training or epoch + 1 == self.epochs)
