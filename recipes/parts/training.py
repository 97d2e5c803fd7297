"""Run stages: freeze, compile, fit, restore the best epoch, and prove that what was frozen did not move."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.activations import Activations, FrozenLayers, Request
from recipes.parts.augment import Augmentation
from recipes.parts.batches import evaluation_batches, training_batches
from recipes.parts.callbacks import AtEpochEnd, BestEpoch, StopAtBatch
from recipes.parts.checkpoint import Checkpoint, assign, numbered, values
from recipes.parts.classifier import Classifier
from recipes.parts.dataset import DataSet, Split
from recipes.parts.failure import Failed
from recipes.parts.fitting import fit
from recipes.parts.freezing import digests, unfrozen
from recipes.parts.importance import choose_blocks, measure_importance
from recipes.parts.inference import Inference
from recipes.parts.interpolation import BatchNormStatistics, Interpolation, interpolate
from recipes.parts.learning_rate_finder import find_learning_rate
from recipes.parts.metrics import measure
from recipes.parts.mixing import Mixing
from recipes.parts.peak_memory import PeakMemory
from recipes.parts.prepared_stage import PreparedStage, Training
from recipes.parts.run_state import RunState
from recipes.parts.stage_cost import Caching
from recipes.parts.stage_events import StageCallback, StageResult
from recipes.parts.stage_plan import StagePlan
from recipes.parts.stages import Stage, TrainingFailed
from recipes.parts.weight_average import WeightAverage
from zoo.errors import InputError

T = TypeVar("T")

HELD_BYTES = 2**25
"""What the validation split may take as tensors, which then are made once and not in every epoch."""
FLOAT_BYTES = 4

SHARES = (0.1, 0.3, 0.5)
"""Of the weights from before fine-tuning, that `StagedRun.interpolate` tries."""


def run_stages(classifier: Classifier, stages: Sequence[Stage], data: DataSet, **settings: Any) -> list[StageResult]:
    """Train a classifier in stages: `StagedRun(classifier, stages, data, **settings).run()`."""
    return StagedRun(classifier, stages, data, **settings).run()


class StagedRun:
    """Stages of training, one after the other.

    For each stage the chosen blocks are unfrozen, the model is compiled with a fresh optimizer, and at the end the
    weights with the lowest validation loss are put back, those from before the stage included. Frozen blocks run as in
    inference: their dropout and stochastic depth are off. Where they reach from the input to some cut they run once,
    and epochs begin from what they said.

    Args:
        classifier: Model and blocks; trained in place.
        stages: In order.
        data: Training and validation images, uint8 `(n, height, width, 3)`, and integer labels.
        batch_size: Images a step.
        augmentation: What is done to training images, in stages that augment.
        seed: Decides order and augmentation of each epoch.
        mixing: How training images, or activations in their place, are mixed with each other, in stages that augment;
            None for not at all.
        label_smoothing: Fraction, in [0, 1), of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: Weight of each class in the loss, `(num_classes,)`; None weighs all alike.
        average: Decay of the moving average of the weights that is validated and kept in their place, see
            `recipes.parts.weight_average`; 0 for none.
        accumulate: Batches whose mean gradient makes up one update of the weights.
        callbacks: Keras callbacks for every `fit`; a `StageCallback` also hears of stages.
        whole_epochs: Whether TensorFlow runs all steps of an epoch by itself, which saves about 2 ms each. Weights are
            the same bit for bit; but callbacks hear of an epoch's last batch only, and Ctrl-C waits for it. An average
            of the weights, which looks at every batch, does without.
        find_rates: Whether to look for the learning rate of each stage before it begins, see
            `recipes.parts.learning_rate_finder`, instead of taking the one that it names.
        frozen_layers: How to keep what frozen layers say; None lets them run in every epoch.
        checkpoint: The file in which the state is kept at the border of each epoch; None keeps none.
        resume: The state from which to go on, of a run with the same arguments.
    """

    def __init__(
        self,
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
        whole_epochs: bool = False,
        find_rates: bool = False,
        frozen_layers: FrozenLayers | None = None,
        checkpoint: Path | None = None,
        resume: Checkpoint | None = None,
    ) -> None:
        self.classifier = classifier
        self.data = data
        self.find_rates = find_rates
        self.training = Training(
            batch_size=batch_size,
            augmentation=augmentation,
            seed=seed,
            mixing=mixing or Mixing(),
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            average=average,
            accumulate=accumulate,
            whole_epochs=whole_epochs and not average,
        )
        self.callbacks = callbacks
        self.listeners = [callback for callback in callbacks if isinstance(callback, StageCallback)]
        self.activations = None
        if frozen_layers is not None:
            self.activations = Activations(
                classifier.model, data, frozen_layers, batch_size=batch_size, augmentation=augmentation, seed=seed
            )
        self.whole = Inference(classifier.model)
        self.memory = PeakMemory()
        self.stop = StopAtBatch()
        self.prepared: dict[int, PreparedStage] = {}
        self.state = RunState(classifier.model, stages, data.fingerprint, checkpoint)
        self.resumed = resume
        if resume is not None:
            self.state.restore(resume, rates_were_found=find_rates)

    # Before the run

    def plan(self) -> list[StagePlan]:
        """Make all stages ready, time a few steps of each, and tell what they will take.

        Nothing that is trained changes, and `run` goes on from here without doing it again.

        Returns:
            One plan for each stage that is still to come.

        Raises:
            TrainingFailed: If memory runs out already here.
        """
        plans = []
        coming = range(len(self.state.results), len(self.state.stages))
        with self.stop.listening():
            for index in coming:
                self.stop.raise_if_asked()
                prepared = self._prepare(index)
                try:
                    prepared.probe(self.classifier)
                except tf.errors.ResourceExhaustedError:
                    raise self._out_of_memory(prepared.stage) from None
            planned: dict[Any, Request] = {}
            for index in coming:
                fresh = [request for request in self._requests(index) if request.name not in planned]
                planned |= {request.name: request for request in fresh}
                moving = set(map(id, self.prepared[index].moving))
                planned = {
                    name: request
                    for name, request in planned.items()
                    if not moving & set(map(id, request.cut.prefix.weights))
                }
                images, seconds = 0, None
                if self.activations is not None and fresh:
                    images = self.activations.missing_rows(fresh)
                    seconds = self.activations.seconds_per_image(fresh) if images else None
                plans.append(self.prepared[index].plan(seconds, images))
        return plans

    def _prepare(self, index: int) -> PreparedStage:
        if index not in self.prepared:
            stage = self.state.stages[index]
            self.prepared[index] = PreparedStage(
                self.classifier,
                # What it will train is chosen when it begins; more than all it cannot be.
                replace(stage, unfreeze="all") if stage.unfreeze == "auto" else stage,
                index,
                self.data,
                self.training,
                activations=self.activations,
                whole=self.whole,
                before=[self.prepared[number] for number in sorted(self.prepared) if number < index],
                caching=self.state.decided.get(index),
                block_factors=self.state.block_factors.get(index),
            )
            self.state.decided[index] = self.prepared[index].caching
        return self.prepared[index]

    def _requests(self, index: int) -> list[Request]:
        """What to compute before a stage: what it reads, and what later ones read if nothing changes it until then."""
        stage = self.prepared[index]
        wanted = {request.images for request in stage.requests}
        requests = {request.name: request for request in stage.requests}
        for number in range(index + 1, len(self.state.stages)):
            later = self.prepared[number]
            if stage in later.unchanged_since([self.prepared[between] for between in range(index, number)]):
                requests |= {request.name: request for request in later.requests if request.images in wanted}
        return list(requests.values())

    # The run

    def run(self, *, until: int | None = None) -> list[StageResult]:
        """Train.

        Args:
            until: Stop when so many epochs of all stages have been run, those of a stage that patience ended earlier
                counted as if it had run them all; None runs all stages to their end. Learning rates go on along whole
                stages all the same. Another `StagedRun` with the same arguments and the checkpoint of this one goes on
                from there, to the same weights as if nothing had been between.

        Returns:
            One result a stage, the one that was stopped included. The best weights so far are in the model.

        Raises:
            TrainingFailed: If the loss is no longer a finite number, or memory runs out.
            AssertionError: If a frozen weight changed.
        """
        with self.stop.listening():
            for index in range(len(self.state.results), len(self.state.stages)):
                self.stop.raise_if_asked()
                most = self.state.stages[index].epochs
                left = most if until is None else until - self.state.epochs_before(index)
                if left <= 0 < most:
                    break
                # All that are to come, since what they read may be computed on the way.
                for number in range(index, len(self.state.stages)):
                    self._prepare(number)
                result, ended = self._run_stage(index, min(left, most))
                if not ended:
                    return [*self.state.results, result]
        return self.state.results

    def _run_stage(self, index: int, until: int) -> tuple[StageResult, bool]:
        """Run a stage until so many of its epochs are done; return what it did, and whether that is all."""
        # What is kept of it, if an epoch was done before the run was interrupted.
        kept = self.resumed if self.resumed and self.resumed.epoch and self.resumed.stage == index else None
        began = time.perf_counter() - (kept.seconds if kept else 0.0)
        if self.state.stages[index].unfreeze == "auto":
            self._choose_blocks(index)
        self.memory = PeakMemory()
        self.memory.sample()
        prepared = self._prepare(index)
        for listener in self.listeners:
            listener.on_stage_begin(prepared.start)
        self.state.begin(index, prepared.moving)
        result = kept.results[index] if kept is not None else self._new_result(prepared)
        ended = True
        moving = set(map(id, prepared.moving))
        frozen_weights = [weight for weight in self.classifier.model.weights if id(weight) not in moving]
        frozen_before = digests(frozen_weights)
        if prepared.trains:
            train, validation = self._read(prepared, result)
            prepared = self._prepare(index)  # another one, if there was no room
            with prepared.as_it_trains(self.classifier):
                if self.find_rates and kept is None:
                    self._find_rate(prepared, train)
                ended = self._fit(prepared, train, validation, result, kept, began, until)
        if digests(frozen_weights) != frozen_before:
            raise AssertionError(f"A frozen weight changed in stage {prepared.stage.name!r}")
        result.seconds = time.perf_counter() - began
        result.peak_bytes = max(result.peak_bytes, self.memory.bytes)
        for listener in self.listeners:
            listener.on_stage_end(result)
        if self.activations is not None:
            later = [stage for number, stage in self.prepared.items() if number > index]
            coming = {request.name for stage in later for request in stage.requests}
            self.activations.forget([request for request in prepared.requests if request.name not in coming])
            self.activations.weights_have_changed()
        if ended:
            self.state.end(result, prepared.moving)
        del self.prepared[index]  # with the state of its optimizer
        return result, ended

    def _new_result(self, prepared: PreparedStage) -> StageResult:
        """What is known of a stage before its first epoch."""
        before = self.state.results[-1] if self.state.results else None
        return StageResult(
            name=prepared.stage.name,
            unfreeze=prepared.stage.unfreeze,
            blocks=prepared.start.blocks,
            trainable_parameters=prepared.start.trainable_parameters,
            parameters=prepared.start.parameters,
            validation_loss=before.validation_loss if before else None,
            validation_accuracy=before.validation_accuracy if before else None,
            validation_macro_f1=before.validation_macro_f1 if before else None,
        )

    def _choose_blocks(self, index: int) -> None:
        """Measure what an `auto` stage will train, and how fast."""
        stage = self.state.stages[index]
        sample = training_batches(
            self.data.train,
            batch_size=self.training.batch_size,
            # A trained head makes few mistakes on images as they are, and these few would decide.
            augmentation=self.training.augmentation if stage.augment else Augmentation(),
            seed=self.training.seed,
            first_epoch=self.state.epochs_before(index),
        )
        importance = measure_importance(self.classifier, self._until_stopped(sample), batch_norm=stage.batch_norm)
        choice = choose_blocks(importance)
        self.state.stages[index] = replace(stage, unfreeze=choice.unfreeze)
        self.state.block_factors[index] = choice.factors
        self._forget(index)
        for listener in self.listeners:
            listener.on_blocks_chosen(stage, importance, choice)

    def _forget(self, index: int) -> None:
        """Prepare a stage anew when it is asked for again."""
        self.prepared.pop(index, None)
        self.state.decided.pop(index, None)

    def _find_rate(self, prepared: PreparedStage, train: Split) -> None:
        """Look for the stage's learning rate, and compile it with that."""
        index = prepared.start.index
        batches = self._until_stopped(prepared.batches(train, first_epoch=self.state.epochs_before(index)))
        curve = find_learning_rate(prepared.model, batches, prepared.optimizer)
        stage = prepared.stage
        if curve.found:
            stage = replace(stage, learning_rate=curve.suggestion)
            self.state.stages[index] = stage
            prepared.compile(stage)
        for listener in self.listeners:
            listener.on_learning_rate_found(stage, curve)

    def _read(self, prepared: PreparedStage, result: StageResult) -> tuple[Split, Split]:
        """The splits, with what frozen layers say of them in place of images where they run once."""
        index = prepared.start.index
        if prepared.requests and self.activations is not None:
            for listener in self.listeners:
                listener.on_frozen_layers(prepared.note)
            began = time.perf_counter()
            try:
                train, validation = self._fill(prepared, result)
                result.fill_seconds += time.perf_counter() - began
                return train, validation
            except InputError as error:  # there is no room any more
                self._forget(index)
                self.state.decided[index] = Caching(False, reason=str(error))
                prepared = self._prepare(index)
        for listener in self.listeners:
            listener.on_frozen_layers(prepared.note)
        return self.data.train, self.data.validation

    def _fill(self, prepared: PreparedStage, result: StageResult) -> tuple[Split, Split]:
        """Let frozen layers run once, for later stages too if there is room for that, and read what they said."""
        assert self.activations is not None
        try:
            result.fill_images += self.activations.fill(self._requests(prepared.start.index), self._tell)
            return self.activations.load(prepared.requests)
        except (InputError, Failed):  # no room for all, or another process has cleared some of it just now
            result.fill_images += self.activations.fill(prepared.requests, self._tell)
            return self.activations.load(prepared.requests)

    def _until_stopped(self, batches: Iterable[T]) -> Iterator[T]:
        """Batches, unless Ctrl-C was pressed."""
        for batch in batches:
            self.stop.raise_if_asked()
            yield batch

    def _tell(self, done: int, total: int) -> None:
        self.memory.sample()
        for listener in (self.stop, *self.listeners):
            listener.on_frozen_progress(done, total)

    def _fit(
        self,
        prepared: PreparedStage,
        train: Split,
        validation: Split,
        result: StageResult,
        kept: Checkpoint | None,
        began: float,
        until: int,
    ) -> bool:
        """Train until so many epochs are done; return whether the stage takes no more."""
        stage, index = prepared.stage, prepared.start.index
        average = None
        if self.training.average:
            average = WeightAverage(
                prepared.moving, self.training.average, accumulate=self.training.accumulate, batches=self.state.averaged
            )
        batches: Iterable[tuple[tf.Tensor, ...]]
        batches = evaluation_batches(validation, batch_size=self.training.batch_size)
        if FLOAT_BYTES * math.prod(validation.images.shape) <= HELD_BYTES:
            batches = list(batches)
        best = BestEpoch(
            result,
            stage,
            prepared.moving,
            lambda: self._measure(prepared.infer(self._until_stopped(batches))),
            average=average,
        )
        if kept is not None:
            assign(prepared.model.optimizer.variables, kept.take("optimizer"))
            best.kept = list(kept.take("kept").values())
            if average is not None:
                average.set_values(list(kept.take("average").values()))

        def save(ended: bool) -> None:
            arrays = {
                "optimizer": values(prepared.model.optimizer.variables),
                "kept": numbered(best.kept),
                "average": numbered(average.values() if average else []),
            }
            self.state.averaged = average.batches if average else 0
            seconds = time.perf_counter() - began
            results = [*self.state.results, result]
            self.state.save(
                stage=index, results=results, epoch=result.epochs, ended=ended, seconds=seconds, arrays=arrays
            )

        if kept is not None and (kept.ended or result.epochs >= until):
            best.on_train_end()
            return kept.ended
        try:
            fit(
                prepared.model,
                prepared.batches(train, first_epoch=self.state.epochs_before(index) + result.epochs),
                epochs=until,
                initial_epoch=result.epochs,
                steps_per_epoch=prepared.steps,
                callbacks=[
                    self.stop,
                    *([average] if average else []),
                    best,
                    *([AtEpochEnd(save, epochs=stage.epochs)] if self.state.path else []),
                    self.memory,
                    *self.callbacks,
                ],
            )
        except tf.errors.ResourceExhaustedError:
            raise self._out_of_memory(stage) from None
        self.state.averaged = average.batches if average else 0
        return bool(prepared.model.stop_training) or result.epochs == stage.epochs

    def _measure(self, logits: np.ndarray) -> dict[str, Any]:
        """How good the answers to the validation images are."""
        self.memory.sample()
        if not np.isfinite(logits).all():
            return {"loss": math.nan, "accuracy": math.nan}
        return measure(logits, self.data.validation.labels, self.data.classes)

    def _out_of_memory(self, stage: Stage) -> TrainingFailed:
        return TrainingFailed(
            f"Out of memory in stage {stage.name!r}: lower --batch-size, which is {self.training.batch_size}, "
            "or --image-size"
        )

    # After it

    def interpolate(self) -> Interpolation | None:
        """Try the weights between those at the end of the first stage, if it trained the head alone, and those now.

        Returns:
            What was found, and kept if it is better on validation; None if there is nothing between.
        """
        tuned = [result for result in self.state.results[1:] if result.best_epoch]
        if not tuned or self.state.stages[0].unfreeze != "head":
            return None
        before = {**self.state.loaded, **self.state.head}
        batches = evaluation_batches(self.data.validation, batch_size=self.training.batch_size)
        known = None
        if self.activations is None or self.activations.settings.dtype == "float32":  # and not of rounded activations
            last = self.state.results[-1]
            known = {"loss": last.validation_loss, "accuracy": last.validation_accuracy}

        def validate() -> dict[str, Any]:
            return self._measure(self.whole(self._until_stopped(batches)))

        counted = [stage for stage in self.state.stages[1:] if stage.batch_norm == "trained"]
        try_shares = partial(interpolate, self.classifier.model, before, validate, alphas=SHARES, of_tuned=known)
        with self.stop.listening():
            if not counted:
                return try_shares()
            with unfrozen(self.classifier, counted[-1].unfreeze, batch_norm="trained"):
                train = evaluation_batches(self.data.train, batch_size=self.training.batch_size)
                return try_shares(reestimate=BatchNormStatistics(self.classifier.model, train))
