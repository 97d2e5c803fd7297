"""Run stages: freeze, compile, fit, restore the best epoch, and prove that what was frozen did not move."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.augment import Augmentation
from recipes.parts.batches import evaluation_batches, training_batches
from recipes.parts.blocks import select
from recipes.parts.callbacks import BestEpoch, StopAtBatch
from recipes.parts.classifier import Classifier
from recipes.parts.dataset import DataSet, Split
from recipes.parts.frozen_prefix import NOISE, FrozenPrefix
from recipes.parts.inference import Inference
from recipes.parts.metrics import measure
from recipes.parts.mixing import Mixing
from recipes.parts.optimizers import make_optimizer
from recipes.parts.stage_events import StageCallback, StageResult, StageStart
from recipes.parts.stages import Stage, TrainingFailed
from recipes.parts.weight_average import WeightAverage


def run_stages(
    classifier: Classifier,
    stages: Sequence[Stage],
    data: DataSet,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    mixing: Mixing | None = None,
    label_smoothing: float = 0.0,
    class_weights: np.ndarray | None = None,
    average: float = 0.0,
    accumulate: int = 1,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    memory_budget_bytes: int = 10**9,
    scratch_dir: Path | None = None,
) -> list[StageResult]:
    """Train a classifier in stages.

    For each stage the chosen blocks are unfrozen, the model is compiled again with a fresh optimizer, and at the
    end the weights with the lowest validation loss are put back, those from before the stage included. Frozen
    blocks run as in inference: their dropout and stochastic depth are off. In a stage without augmentation they
    run once, and epochs begin from what they said.

    Args:
        classifier: Model and blocks; trained in place.
        stages: In order.
        data: Training and validation images, uint8 `(n, height, width, 3)`, and integer labels.
        batch_size: Images a step.
        augmentation: What is done to training images, in stages that augment.
        seed: Decides order and augmentation of each epoch.
        mixing: How training images are mixed with each other, in stages that augment; None for not at all.
        label_smoothing: Fraction, in [0, 1), of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: Weight of each class in the loss, `(num_classes,)`; None weighs all alike.
        average: Decay of the moving average of the weights that is validated and kept in their place, see
            `recipes.parts.weight_average`; 0 for none.
        accumulate: Batches whose mean gradient makes up one update of the weights.
        callbacks: Keras callbacks for every `fit`; a `StageCallback` also hears of stages.
        memory_budget_bytes: Room for what frozen layers say of the images; more is kept in a file.
        scratch_dir: Where that file goes; by default where temporary files go.

    Returns:
        One result a stage.

    Raises:
        TrainingFailed: If the loss is no longer a finite number, or memory runs out.
        AssertionError: If a frozen weight changed.
    """
    listeners = [callback for callback in callbacks if isinstance(callback, StageCallback)]
    whole = classifier.model
    infer_whole = Inference(whole)
    steps = math.ceil(len(data.train) / batch_size)
    results: list[StageResult] = []
    epochs_done = 0
    best: float | None = None
    stop = StopAtBatch()
    with stop.listening():
        for index, stage in enumerate(stages):
            stop.raise_if_asked()
            started = time.perf_counter()
            with unfrozen(classifier, stage.unfreeze, batch_norm=stage.batch_norm) as blocks:
                start = StageStart(
                    stage=stage,
                    index=index,
                    blocks=blocks,
                    trainable_parameters=count(whole.trainable_weights),
                    parameters=count(whole.weights),
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
                moving = _moving(whole, stage)
                ids = set(map(id, moving))
                frozen_weights = [weight for weight in whole.weights if id(weight) not in ids]
                frozen_before = digests(frozen_weights)
                changes = augmentation if stage.augment else Augmentation()
                mixes = mixing if stage.augment and mixing else Mixing()
                soft = bool(label_smoothing) or not mixes.changes_nothing
                if stage.epochs and whole.trainable_weights:
                    frozen = FrozenPrefix(
                        whole,
                        (data.train, data.validation),
                        images_change=not (changes.changes_nothing and mixes.changes_nothing),
                        batch_size=batch_size,
                        memory_budget_bytes=memory_budget_bytes,
                        scratch_dir=scratch_dir,
                    )
                    for listener in listeners:
                        listener.on_frozen_layers(frozen.note)
                    train, validation = frozen.run(_tell([stop, *listeners]))
                    infer = infer_whole if frozen.suffix is whole else Inference(frozen.suffix)
                    averages = [WeightAverage(moving, average, accumulate=accumulate)] if average else []
                    _fit(
                        frozen.suffix,
                        stage,
                        training_batches(
                            train,
                            batch_size=batch_size,
                            augmentation=changes,
                            seed=seed,
                            first_epoch=epochs_done,
                            mixing=mixes,
                            num_classes=len(data.classes) if soft else None,
                            class_weights=class_weights,
                        ),
                        steps=steps,
                        label_smoothing=label_smoothing if soft else None,
                        accumulate=accumulate,
                        callbacks=[
                            stop,
                            *averages,
                            BestEpoch(
                                result,
                                stage,
                                moving,
                                _validation(infer, validation, data.classes, batch_size),
                                average=averages[0] if averages else None,
                            ),
                            *callbacks,
                        ],
                        advice=f"lower --batch-size, which is {batch_size}, or --image-size",
                    )
                if digests(frozen_weights) != frozen_before:
                    raise AssertionError(f"A frozen weight changed in stage {stage.name!r}")
            result.seconds = time.perf_counter() - started
            for listener in listeners:
                listener.on_stage_end(result)
            results.append(result)
            epochs_done += stage.epochs
            best = result.validation_loss
    return results


def _fit(
    model: keras.Model,
    stage: Stage,
    batches: tf.data.Dataset,
    *,
    steps: int,
    label_smoothing: float | None,
    accumulate: int,
    callbacks: list[keras.callbacks.Callback],
    advice: str,
) -> None:
    loss: keras.losses.Loss
    if label_smoothing is None:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    else:
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    # After every change of `trainable`: without it the change is silently ignored.
    model.compile(
        optimizer=make_optimizer(
            stage.optimizer,
            model.trainable_variables,
            schedule(stage, steps),
            weight_decay=stage.weight_decay,
            accumulate=accumulate,
        ),
        loss=loss,
        metrics=[accuracy],
        # On a GPU Keras would turn XLA on, which compiles each stage anew, for two batch sizes.
        jit_compile=False,
    )
    try:
        model.fit(
            batches,
            epochs=stage.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the batches are shuffled already, by epoch and seed
            verbose=0,
            callbacks=callbacks,
        )
    except tf.errors.ResourceExhaustedError:
        raise TrainingFailed(f"Out of memory in stage {stage.name!r}: {advice}") from None


def _moving(model: keras.Model, stage: Stage) -> list[keras.Variable]:
    """The weights that a stage changes: those that have a gradient, and the statistics of layers that train."""
    training = [layer for layer in model.layers if layer.trainable and stage.batch_norm == "trained"]
    return [*model.trainable_weights, *(weight for layer in training for weight in layer.non_trainable_weights)]


def _validation(
    infer: Inference, split: Split, classes: tuple[str, ...], batch_size: int
) -> Callable[[], dict[str, Any]]:
    batches = evaluation_batches(split, batch_size=batch_size)
    return lambda: measure(infer(batches), split.labels, classes)


def _tell(callbacks: Sequence[Any]) -> Callable[[int, int], None]:
    """One function that tells each callback how many images the frozen layers have seen."""

    def progress(done: int, total: int) -> None:
        for callback in callbacks:
            callback.on_frozen_progress(done, total)

    return progress


@contextmanager
def unfrozen(
    classifier: Classifier, unfreeze: str, *, batch_norm: Literal["frozen", "trained"] = "frozen"
) -> Iterator[tuple[str, ...]]:
    """Let some blocks train and freeze the others, as long as the context lasts.

    `base(x, training=False)` does not keep batch norm in inference mode under `fit`; only `trainable = False` on
    each BatchNormalization does. So that is what freezes it, and in fine-tuning it does so in blocks that train
    too: the statistics come from far more images than a fine-tuning set holds.

    Args:
        classifier: Model and blocks.
        unfreeze: As in `Stage.unfreeze`.
        batch_norm: As in `Stage.batch_norm`.

    Yields:
        The names of the blocks that train.
    """
    model = classifier.model
    chosen = select(classifier.blocks, unfreeze)
    training = {name for index in chosen for name in classifier.blocks[index].layers}
    quieted: list[tuple[keras.Layer, str, float]] = []
    for layer in model.layers:
        learns = layer.name in training
        layer.trainable = learns
        for part in layer._flatten_layers():  # itself, and what a layer of the user's own may hold
            if batch_norm == "frozen" and isinstance(part, keras.layers.BatchNormalization):
                part.trainable = False
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
