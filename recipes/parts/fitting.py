"""One stage of training as a compiled model: its optimizer, its loss, and how the learning rate goes."""

import logging
import time
from collections.abc import Sequence
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.checkpoint import generator_states
from recipes.parts.stages import Stage

ENOUGH_SECONDS = 0.1
"""Of steps, to know what one takes."""


def compile_for(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    label_smoothing: float | None,
    steps_at_once: int = 1,
) -> None:
    """Compile a model to classify; after every change of `trainable`, as without it the change is silently ignored.

    Args:
        model: What will be fitted, from images or activations to logits.
        optimizer: Built for its trainable variables.
        label_smoothing: Fraction of each label that is spread over all classes; None where labels are integers.
        steps_at_once: Steps between which Python has no say. An epoch has to hold a multiple of them.
    """
    loss: keras.losses.Loss
    if label_smoothing is None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    else:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    # On a GPU Keras would turn XLA on, which compiles each stage anew, for two batch sizes.
    model.compile(
        optimizer=optimizer, loss=loss, metrics=[accuracy], steps_per_execution=steps_at_once, jit_compile=False
    )


def fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    *,
    epochs: int,
    steps_per_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
    initial_epoch: int = 0,
) -> None:
    """Train a compiled model on batches that are shuffled already, by epoch and seed."""
    logger = tf.get_logger()
    if model.steps_per_execution > 1:
        logger.addFilter(_is_not_of_retracing)
    try:
        model.fit(
            batches,
            epochs=epochs,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
        )
    finally:
        logger.removeFilter(_is_not_of_retracing)


def _is_not_of_retracing(record: logging.LogRecord) -> bool:
    """TensorFlow takes a function that is called a few times, once an epoch, for one that is traced each time."""
    return "triggered tf.function retracing" not in record.getMessage()


def seconds_per_step(
    model: keras.Model, batches: tf.data.Dataset, changes: Sequence[keras.Variable]
) -> tuple[float, float]:
    """Time a few steps of a compiled model, and undo them.

    The step is traced here and not again by `fit`, so that of the time that this takes little is lost.

    Args:
        model: Compiled.
        batches: Of the kind that it will be fitted to.
        changes: The weights that training changes. The state of optimizer and of generators is put back as well.

    Returns:
        Seconds of the median step, of 3 or, where these take no `ENOUGH_SECONDS`, of up to 30; and, where there are as
        many, seconds between two epochs, 0 else.
    """
    states = generator_states(model)
    kept = [(variable, variable.numpy().copy()) for variable in (*changes, *model.optimizer.variables, *states)]
    clock = _Clock()
    steps_at_once = model.steps_per_execution
    try:
        fit(model, batches, epochs=10, steps_per_epoch=4 * steps_at_once, callbacks=[clock])
    finally:
        for variable, value in kept:
            variable.assign(value)
    return median(clock.seconds) / steps_at_once, median(clock.between or [0.0])


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


class _Clock(keras.callbacks.Callback):
    """What each batch took but the first of an epoch, and what passed between epochs; stops when that is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.between: list[float] = []
        self.last: float | None = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.last is not None and not batch:
            self.between.append(time.perf_counter() - self.last)
            self.last = None

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.perf_counter()
        if self.last is not None:
            self.seconds.append(now - self.last)
        self.last = now

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if sum(self.seconds) > ENOUGH_SECONDS:
            self.model.stop_training = True
