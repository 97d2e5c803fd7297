"""Run stages: freeze, compile, fit, restore the best epoch, and prove that what was frozen did not move."""

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.augment import Augmentation
from recipes.parts.batches import evaluation_batches, training_batches
from recipes.parts.blocks import select
from recipes.parts.classifier import Classifier
from recipes.parts.dataset import DataSet
from recipes.parts.inference import Inference
from recipes.parts.metrics import measure
from recipes.parts.stages import Stage, TrainingFailed

# Attributes by which layers of Keras and of keras.applications hold the strength of their noise.
NOISE = ("rate", "drop_path_rate")


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
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""


class StageCallback(keras.callbacks.Callback):
    """A Keras callback that is also told where stages begin and end."""

    def on_stage_begin(self, start: StageStart) -> None:
        """Before the stage is compiled."""

    def on_stage_end(self, result: StageResult) -> None:
        """After its best epoch has been restored."""


def run_stages(
    classifier: Classifier,
    stages: Sequence[Stage],
    data: DataSet,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    class_weights: np.ndarray | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[StageResult]:
    """Train a classifier in stages.

    For each stage the chosen blocks are unfrozen, all batch norm stays frozen, the model is compiled again with a
    fresh optimizer, and at the end the weights with the lowest validation loss are put back, those from before
    the stage included. Frozen blocks run as in inference: their dropout and stochastic depth are off.

    Args:
        classifier: Model and blocks; trained in place.
        stages: In order.
        data: Training and validation images, uint8 `(n, height, width, 3)`, and integer labels.
        batch_size: Images a step.
        augmentation: What is done to training images.
        seed: Decides order and augmentation of each epoch.
        class_weights: Weight of each class in the loss, `(num_classes,)`; None weighs all alike.
        callbacks: Keras callbacks for every `fit`; a `StageCallback` also hears of stages.

    Returns:
        One result a stage.

    Raises:
        TrainingFailed: If the loss is no longer a finite number.
        AssertionError: If a frozen weight changed.
    """
    infer = Inference(classifier.model)
    validation = evaluation_batches(data.validation, batch_size=batch_size)

    def validate() -> dict[str, Any]:
        return measure(infer(validation), data.validation.labels, data.classes)

    listeners = [callback for callback in callbacks if isinstance(callback, StageCallback)]
    results: list[StageResult] = []
    epochs_done = 0
    best: float | None = None
    for index, stage in enumerate(stages):
        started = time.perf_counter()
        with unfrozen(classifier, stage.unfreeze) as blocks:
            model = classifier.model
            steps = math.ceil(len(data.train.labels) / batch_size)
            start = StageStart(
                stage=stage,
                index=index,
                blocks=blocks,
                trainable_parameters=count(model.trainable_weights),
                parameters=count(model.weights),
                steps_per_epoch=steps,
            )
            for listener in listeners:
                listener.on_stage_begin(start)
            result = StageResult(
                name=stage.name,
                unfreeze=stage.unfreeze,
                blocks=blocks,
                trainable_parameters=start.trainable_parameters,
                parameters=start.parameters,
                validation_loss=best,
            )
            frozen_before = digests(model.non_trainable_weights)
            if stage.epochs and model.trainable_weights:
                optimizer = keras.optimizers.Adam(schedule(stage, steps))
                # TensorFlow traces a step twice that creates variables, which takes seconds.
                optimizer.build(model.trainable_variables)
                # After every change of `trainable`: without it the change is silently ignored.
                model.compile(
                    optimizer=optimizer,
                    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                    metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
                    # On a GPU Keras would turn XLA on, which compiles each stage anew, for two batch sizes.
                    jit_compile=False,
                )
                batches = training_batches(
                    data.train,
                    batch_size=batch_size,
                    augmentation=augmentation,
                    seed=seed,
                    first_epoch=epochs_done,
                    class_weights=class_weights,
                )
                stop = StopAtBatch()
                try:
                    with stop.listening():
                        model.fit(
                            batches,
                            epochs=stage.epochs,
                            steps_per_epoch=steps,
                            shuffle=False,  # the batches are shuffled already, by epoch and seed
                            verbose=0,
                            callbacks=[stop, BestEpoch(result, stage, validate), *callbacks],
                        )
                except tf.errors.ResourceExhaustedError:
                    raise TrainingFailed(
                        f"Out of memory in stage {stage.name!r}: lower --batch-size, which is {batch_size}, or "
                        "--image-size"
                    ) from None
            if digests(model.non_trainable_weights) != frozen_before:
                raise AssertionError(f"A frozen weight changed in stage {stage.name!r}")
        result.seconds = time.perf_counter() - started
        for listener in listeners:
            listener.on_stage_end(result)
        results.append(result)
        epochs_done += stage.epochs
        best = result.validation_loss
    return results


@contextmanager
def unfrozen(classifier: Classifier, unfreeze: str) -> Iterator[tuple[str, ...]]:
    """Let some blocks train and freeze the others, as long as the context lasts.

    `base(x, training=False)` does not keep batch norm in inference mode under `fit`; only `trainable = False` on
    each BatchNormalization does. So that is what freezes it, in blocks that train too: its statistics come from
    far more images than a fine-tuning set holds.

    Args:
        classifier: Model and blocks.
        unfreeze: As in `Stage.unfreeze`.

    Yields:
        The names of the blocks that train.
    """
    model = classifier.model
    chosen = select(classifier.blocks, unfreeze)
    training = {name for index in chosen for name in classifier.blocks[index].layers}
    quieted: list[tuple[keras.Layer, str, float]] = []
    for layer in model.layers:
        learns = layer.name in training
        layer.trainable = learns and not isinstance(layer, keras.layers.BatchNormalization)
        for attribute in NOISE:
            strength = getattr(layer, attribute, None)
            if not learns and isinstance(strength, float) and strength > 0:
                quieted.append((layer, attribute, strength))
                setattr(layer, attribute, 0.0)
    try:
        yield tuple(classifier.blocks[index].name for index in chosen)
    finally:
        for layer, attribute, strength in quieted:
            setattr(layer, attribute, strength)
        for layer in model.layers:
            layer.trainable = True


def schedule(stage: Stage, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up from zero, then cosine decay to zero (Loshchilov and Hutter 2017), over a whole stage."""
    steps = stage.epochs * steps_per_epoch
    warmup = min(round(stage.warmup * steps), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else stage.learning_rate,
        decay_steps=steps - warmup,
        warmup_target=stage.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def balanced_class_weights(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights that make every class count alike: n / (num_classes * images of the class).

    Args:
        labels: Integers `(n,)`.
        num_classes: How many classes there are; each must occur.

    Returns:
        float32 `(num_classes,)`; the mean over the examples is 1.
    """
    images = np.bincount(labels, minlength=num_classes)
    return (len(labels) / (num_classes * images)).astype(np.float32)


def count(weights: Sequence[keras.Variable]) -> int:
    """How many numbers some weights hold."""
    return sum(math.prod(weight.shape) for weight in weights)


def digests(weights: Sequence[keras.Variable]) -> list[str]:
    """SHA-256 of each weight's bytes."""
    return [hashlib.sha256(weight.numpy().tobytes()).hexdigest() for weight in weights]


class StopAtBatch(keras.callbacks.Callback):
    """Let Ctrl-C stop training after the batch that runs.

    Python raises KeyboardInterrupt wherever it happens to be; in a function that TensorFlow called, it is lost.
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
        if self.asked:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop if asked to."""
        if self.asked:
            raise KeyboardInterrupt


class BestEpoch(keras.callbacks.Callback):
    """Keep the trainable weights of the best epoch, stop when epochs no longer help, put the best back at the end.

    Unlike `keras.callbacks.EarlyStopping` it knows how good the weights were before the stage, so a stage can never
    leave the model worse on validation than it found it.

    Args:
        result: Where epochs are recorded.
        stage: What is being run.
        validate: Measures the model on the validation split; see `recipes.parts.metrics.measure`.
    """

    def __init__(self, result: StageResult, stage: Stage, validate: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self.result = result
        self.stage = stage
        self.validate = validate
        self.kept: list[np.ndarray] = []
        self.began = 0.0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keep the weights from before the stage."""
        self._keep()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the epoch's clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validate and record; keep the weights if they are the best so far; stop if patience is at an end."""
        logs = logs if logs is not None else {}
        measured = self.validate()
        # Written into Keras's logs, so that callbacks after this one find them where they expect them.
        logs["val_loss"], logs["val_accuracy"] = measured["loss"], measured["accuracy"]
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            raise TrainingFailed(
                f"The loss is no longer finite in stage {self.stage.name!r}, epoch {epoch + 1}: lower its learning "
                f"rate, which is {self.stage.learning_rate:g} (--learning-rate)"
            )
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["seconds"] = time.perf_counter() - self.began
        self.result.history.append(dict(logs))
        self.result.epochs = epoch + 1
        best = self.result.validation_loss
        if best is None or logs["val_loss"] < best:
            self.result.validation_loss = logs["val_loss"]
            self.result.best_epoch = epoch + 1
            self._keep()
        elif epoch + 1 - (self.result.best_epoch or 0) >= self.stage.patience:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Put the best weights back."""
        for variable, value in zip(self.model.trainable_weights, self.kept, strict=True):
            variable.assign(value)

    def _keep(self) -> None:
        self.kept = [variable.numpy().copy() for variable in self.model.trainable_weights]
