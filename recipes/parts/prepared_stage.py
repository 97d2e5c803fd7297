"""A stage made ready: frozen, cut, compiled, and timed on a few steps, before any of it runs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.activations import Activations, Request
from recipes.parts.augment import Augmentation
from recipes.parts.batches import training_batches
from recipes.parts.classifier import Classifier
from recipes.parts.cpu_convolutions import fast_on_cpu
from recipes.parts.dataset import DataSet, Split
from recipes.parts.fitting import compile_for, schedule, seconds_per_step
from recipes.parts.freezing import count, moving_weights, unfrozen
from recipes.parts.frozen_prefix import Cut, cut_behind_frozen, why_no_cut
from recipes.parts.inference import Inference
from recipes.parts.memory import held_bytes
from recipes.parts.metrics import measure
from recipes.parts.mixing import Mixing
from recipes.parts.optimizers import block_factors as factors_of_blocks
from recipes.parts.optimizers import layer_decay_factors, make_optimizer
from recipes.parts.stage_cost import Caching, choose_caching, stage_cost
from recipes.parts.stage_events import StageStart
from recipes.parts.stage_plan import StagePlan
from recipes.parts.stages import Stage
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all stages of a run share; see `recipes.parts.training.run_stages`."""

    batch_size: int
    augmentation: Augmentation
    seed: int
    mixing: Mixing
    label_smoothing: float
    class_weights: np.ndarray | None
    average: float
    accumulate: int
    whole_epochs: bool = False


class PreparedStage:
    """A stage before it runs.

    Args:
        classifier: Model and blocks.
        stage: What is to be trained.
        index: Of the stage, from 0.
        data: Images.
        training: What all stages share.
        activations: What frozen layers say, if it is kept.
        whole: Inference by the whole model.
        before: Stages that run before, as far as they are prepared.
        caching: How the stage reads its images, if that is decided already, as in a run that goes on.
        block_factors: Factors of the learning rate by the name of a block, instead of those of `stage.layer_decay`.
    """

    def __init__(
        self,
        classifier: Classifier,
        stage: Stage,
        index: int,
        data: DataSet,
        training: Training,
        *,
        activations: Activations | None,
        whole: Inference,
        before: Sequence["PreparedStage"] = (),
        caching: Caching | None = None,
        block_factors: Mapping[str, float] | None = None,
    ) -> None:
        model = classifier.model
        self.stage, self.data, self.training, self.activations = stage, data, training, activations
        self.steps = -(-len(data.train) // training.batch_size)
        self.changes = training.augmentation if stage.augment else Augmentation()
        self.mixing = training.mixing if stage.augment else Mixing()
        self.soft = bool(training.label_smoothing) or not self.mixing.changes_nothing
        self.rate_factors: dict[str, float] = {}
        if block_factors is not None:
            self.rate_factors = factors_of_blocks(classifier.blocks, model, block_factors)
        elif stage.layer_decay < 1:
            self.rate_factors = layer_decay_factors(classifier.blocks, model, stage.layer_decay)
        self.cut: Cut | None = None
        self.caching = Caching(False)
        with unfrozen(classifier, stage.unfreeze, batch_norm=stage.batch_norm) as blocks:
            self.start = StageStart(
                stage=stage,
                index=index,
                blocks=blocks,
                trainable_parameters=count(model.trainable_weights),
                parameters=count(model.weights),
                steps_per_epoch=self.steps,
            )
            self.moving = moving_weights(model, stage)
            self.trains = bool(stage.epochs and model.trainable_weights)
            cut = cut_behind_frozen(model) if self.trains else None
            self.cost = stage_cost(model, cut)
            if self.trains:
                self._choose(model, cut, before, caching)
                self._build(model, whole)
        self.seconds_per_step = self.seconds_between_epochs = self.seconds_per_validation_image = 0.0

    def _choose(
        self, model: keras.Model, cut: Cut | None, before: Sequence["PreparedStage"], caching: Caching | None
    ) -> None:
        """Decide whether frozen layers run once."""
        if cut is None:
            self.caching = Caching(False, reason=why_no_cut(model))
            return
        if self.activations is None:
            self.caching = Caching(False, reason="nothing is to be kept" if caching is None else caching.reason)
            return
        self.cut = cut
        if caching is None:
            images_change = not self.changes.changes_nothing
            caching = choose_caching(
                self.cost,
                epochs=self.stage.epochs,
                images_change=images_change,
                views=self.activations.settings.views,
                train_images=len(self.data.train),
                validation_images=len(self.data.validation),
                shared=self.activations.settings.shared
                or any(stage.caching.cached and not stage.caching.views for stage in self.unchanged_since(before)),
            )
            if caching.cached:
                self.caching = caching
                caching = self._that_fits(caching)
        self.caching = caching
        if not caching.cached:
            self.cut = None

    def _that_fits(self, caching: Caching) -> Caching:
        """The same with as many views as there is room for."""
        assert self.activations is not None
        least = 2 if self.activations.settings.views is None else caching.views
        for views in range(caching.views, min(least, caching.views) - 1, -1):
            self.caching = replace(caching, views=views)
            try:
                missing = zip(self.requests, self.activations.keys(self.requests), strict=True)
                store = self.activations.settings.store
                store.require_room(
                    sum(
                        self.activations.bytes_of(request)
                        for request, key in missing
                        if store.rows(key) < len(self.activations.splits[request.split])
                    )
                )
            except InputError as error:
                refused = str(error)
            else:
                return self.caching
        return Caching(False, reason=refused)

    def _build(self, model: keras.Model, whole: Inference) -> None:
        """Make the model that will be fitted."""
        # A model of its own, as later stages are compiled before this one runs.
        self.model = keras.Model(model.input, model.output, name=model.name) if self.cut is None else self.cut.suffix
        self.infer = whole if self.cut is None else Inference(self.cut.suffix)
        self.compile(self.stage)

    def compile(self, stage: Stage) -> None:
        """Compile it for a stage that differs in nothing but the learning rate."""
        self.stage = stage
        label_smoothing = self.training.label_smoothing if self.soft else None
        optimizer = self.optimizer(schedule(stage, self.steps))
        steps = self.steps if self.training.whole_epochs else 1
        compile_for(self.model, optimizer, label_smoothing=label_smoothing, steps_at_once=steps)

    def optimizer(self, learning_rate: keras.optimizers.schedules.LearningRateSchedule) -> keras.optimizers.Optimizer:
        """An optimizer for what trains."""
        return make_optimizer(
            self.stage.optimizer,
            self.model.trainable_variables,
            learning_rate,
            weight_decay=self.stage.weight_decay,
            accumulate=self.training.accumulate,
            rate_factors=self.rate_factors,
        )

    @property
    def requests(self) -> list[Request]:
        """The activations that it reads; none if it reads images."""
        if self.cut is None or self.activations is None:
            return []
        return self.activations.requests(self.cut, self.caching.views)

    def unchanged_since(self, before: Sequence["PreparedStage"]) -> list["PreparedStage"]:
        """Those of the stages before this one since which nothing has changed that comes before its cut."""
        if self.cut is None:
            return []
        mine = set(map(id, self.cut.prefix.weights))
        unchanged: list[PreparedStage] = []
        for stage in reversed(before):
            if mine & set(map(id, stage.moving)):
                break
            unchanged.append(stage)
        return unchanged

    def batches(self, train: Split, *, first_epoch: int) -> tf.data.Dataset:
        """Training batches of images, or of what stands in their place."""
        return training_batches(
            train,
            batch_size=self.training.batch_size,
            augmentation=Augmentation() if self.caching.cached else self.changes,
            seed=self.training.seed,
            first_epoch=first_epoch,
            mixing=self.mixing,
            num_classes=len(self.data.classes) if self.soft else None,
            class_weights=self.training.class_weights,
            views=max(1, self.caching.views) if self.caching.cached else 1,
        )

    @contextmanager
    def as_it_trains(self, classifier: Classifier) -> Iterator[None]:
        """Freeze what the stage does not train, and let the rest run as fast as it can, as long as the context lasts.

        Args:
            classifier: That of the stage.
        """
        stage = self.stage
        with unfrozen(classifier, stage.unfreeze, batch_norm=stage.batch_norm), fast_on_cpu(self.model):
            yield

    def probe(self, classifier: Classifier) -> None:
        """Time a few steps. All weights and states are as before."""
        if not self.trains:
            return
        size = self.training.batch_size
        sample = self.data.train
        if self.cut is not None:
            shape = self.cut.prefix.output.shape[1:]
            assert self.activations is not None
            dtype = np.dtype(self.activations.settings.dtype)
            sample = _sample(self.data.train, np.full((1, *shape), 0.5, dtype), self.caching.views)
        with self.as_it_trains(classifier):
            self.seconds_per_step, self.seconds_between_epochs = seconds_per_step(
                self.model, self.batches(sample, first_epoch=0), self.moving
            )
            batch = tf.ones((size, *self.model.input.shape[1:]))
            self.seconds_per_validation_image = _seconds(self.infer, batch) / size
        labels = self.data.validation.labels
        began = time.perf_counter()
        measure(np.zeros((len(labels), len(self.data.classes)), np.float32), labels, self.data.classes)
        self.seconds_between_epochs += time.perf_counter() - began

    def plan(self, seconds_per_frozen_image: float | None, fill_images: int) -> StagePlan:
        """What it will take, as far as it was timed.

        Args:
            seconds_per_frozen_image: Of the pass that fills what the stage reads; None if that was not timed.
            fill_images: How many images it will be shown before this stage.
        """
        train, validation = len(self.data.train), len(self.data.validation)
        epoch = self.seconds_per_step * self.steps + self.seconds_per_validation_image * validation
        epoch += self.seconds_between_epochs
        held = held_bytes()
        size = kept = 0
        if self.activations is not None:
            size = sum(map(self.activations.bytes_of, self.requests))
            budget = self.activations.settings.memory_budget_bytes
            for request in reversed(self.requests):  # as they are loaded
                bytes_needed = self.activations.bytes_of(request)
                kept += bytes_needed if kept + bytes_needed <= budget else 0
        fill = (seconds_per_frozen_image or 0.0) * fill_images
        uncached = epoch if self.cut is None else None
        if self.cut is not None and seconds_per_frozen_image is not None:
            uncached = epoch + seconds_per_frozen_image * (train + validation)
        return StagePlan(
            name=self.stage.name,
            blocks=self.start.blocks,
            trainable_parameters=self.start.trainable_parameters,
            parameters=self.start.parameters,
            epochs=self.stage.epochs,
            forward_multiply_adds=self.cost.prefix + self.cost.forward,
            backward_multiply_adds=self.cost.backward,
            cut=self.cut.layer if self.cut else "",
            views=self.caching.views,
            cache_bytes=size,
            place=("memory" if kept == size else "disk") if self.cut else "",
            fill_images=fill_images,
            fill_seconds=fill,
            epoch_seconds=epoch,
            epoch_seconds_uncached=uncached,
            seconds=fill + self.stage.epochs * epoch,
            peak_bytes=held + kept,
            reason=self.note,
        )

    @property
    def note(self) -> str:
        """What is done about frozen layers and why, in one line; empty if there are none."""
        if self.cut is None or self.activations is None:
            return self.caching.reason and f"frozen layers run in every epoch: {self.caching.reason}"
        size = sum(map(self.activations.bytes_of, self.requests)) / 1e6
        views = f", in {self.caching.views} versions of each image" if self.caching.views else ""
        return f"layers up to {self.cut.layer} are frozen and run once{views}: {size:,.0f} MB of activations"


def _sample(split: Split, row: np.ndarray, views: int) -> Split:
    """A split of as many examples that all look alike, and take no memory."""
    return replace(split, images=np.broadcast_to(row, (len(split) * max(1, views), *row.shape[1:])))


def _seconds(infer: Inference, batch: Any) -> float:
    """Of one batch; the first is not counted, as the network is traced for it."""
    list(infer.batches([(batch,)]))
    began = time.perf_counter()
    list(infer.batches([(batch,)] * 2))
    return (time.perf_counter() - began) / 2
