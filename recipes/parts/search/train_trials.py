"""Trials of networks that are trained from scratch."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from recipes.parts.augment import PRESETS as AUGMENTATIONS
from recipes.parts.checkpoint import Checkpoint
from recipes.parts.classifier import Classifier, build_untrained
from recipes.parts.from_scratch import training_stage
from recipes.parts.listeners import WriteHistory
from recipes.parts.mixing import Mixing
from recipes.parts.names import printable
from recipes.parts.networks import find_spec
from recipes.parts.run_folder import HISTORY, complete_or_absent
from recipes.parts.search.attempt import (
    OnEpoch,
    OnFilling,
    ReportEpochs,
    attempt,
    note_results,
    require_latency,
)
from recipes.parts.search.candidates import Architecture
from recipes.parts.search.exploring import explore, sampled
from recipes.parts.search.fixing import fix
from recipes.parts.search.job import Job
from recipes.parts.search.job_data import read_data
from recipes.parts.search.latency import latency_ms
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.rounds import take_over, until_epoch
from recipes.parts.search.run_files import begin_run, end_run
from recipes.parts.search.space import Space
from recipes.parts.search.static_costs import costs
from recipes.parts.stage_events import StageCallback
from recipes.parts.stages import Stage
from recipes.parts.training import StagedRun
from zoo.spec_json import to_json


class TrainTrials:
    """Build a network from its spec, train it, and forget it; see `recipes.parts.search.trials.Trials`.

    Args:
        job: The search. TensorFlow has been started and plugins are loaded.
        space: What makes candidates of values.
        folder: Of the search.
    """

    def __init__(self, job: Job, space: Space, folder: Path) -> None:
        self.job = job
        self.space = space
        self.base = find_spec(job.model)
        self.hyperparameters = fix(explore(space, self.base), job.fix)
        self.data = read_data(job, folder)

    def run(self, trial: Trial, folder: Path, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train a candidate, or go on with one; see `Trials.run`."""

        def train(outcome: Outcome) -> None:
            candidate = self._candidate(trial)
            stages = [self._stage(candidate, self.job.epochs)]
            outcome.settings = self._settings(candidate, stages[0])
            classifier = self._build(candidate, self.job.seed, outcome)
            checkpoint, resume = take_over(trial.values, folder)
            staged = self._staged_run(
                classifier,
                candidate,
                stages,
                self.job.seed,
                [ReportEpochs(stages, on_epoch, on_filling)],
                checkpoint=checkpoint,
                resume=resume,
            )
            note_results(outcome, staged.run(until=until_epoch(trial.values, stages)))

        return attempt(train, folder)

    def final(self, trial: Trial, folder: Path, seed: int, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train the winner or the base model on the full budget; see `Trials.final`."""

        def train(outcome: Outcome) -> None:
            began = time.perf_counter()
            candidate = Architecture(spec=self.base) if trial.final == "default" else self._candidate(trial)
            stages = [self._stage(candidate, self.job.final_epochs)]
            outcome.settings = self._settings(candidate, stages[0])
            begin_run(folder, self.data, outcome.settings)
            with complete_or_absent(folder / "spec.json") as beside:
                beside.write_text(to_json(candidate.spec) + "\n", encoding="utf-8")
            classifier = self._build(candidate, seed, outcome, budget=False)
            told = [ReportEpochs(stages, on_epoch, on_filling), WriteHistory(folder / HISTORY)]
            results = self._staged_run(classifier, candidate, stages, seed, told).run()
            note_results(outcome, results)
            end_run(
                folder,
                classifier.model,
                self.data,
                results,
                outcome,
                title=f"{candidate.spec.name}, {self.job.image_size} px, from scratch, on {printable(self.job.data)}",
                batch_size=self.job.batch_size,
                began=began,
            )

        return attempt(train, folder)

    def _candidate(self, trial: Trial) -> Architecture:
        candidate = sampled(self.space, self.base, trial.hyperparameters, self.hyperparameters)
        assert isinstance(candidate, Architecture)
        return candidate

    def _stage(self, candidate: Architecture, epochs: int) -> Stage:
        return training_stage(
            epochs=epochs,
            images=self.job.batch_size,
            optimizer=candidate.optimizer,
            learning_rate=candidate.learning_rate,
            weight_decay=candidate.weight_decay,
        )

    def _build(self, candidate: Architecture, seed: int, outcome: Outcome, *, budget: bool = True) -> Classifier:
        """Build a network, and note down what it costs; refuse it if that is too much."""
        keras.utils.set_random_seed(seed)
        classifier = build_untrained(candidate.spec, image_size=self.job.image_size, num_classes=len(self.data.classes))
        outcome.parameters, outcome.multiply_adds = costs(classifier.model)
        outcome.latency_ms = latency_ms(classifier.model)
        if budget:
            require_latency(outcome.latency_ms, self.job.max_latency_ms)
        return classifier

    def _staged_run(
        self,
        classifier: Classifier,
        candidate: Architecture,
        stages: Sequence[Stage],
        seed: int,
        callbacks: Sequence[StageCallback],
        *,
        checkpoint: Path | None = None,
        resume: Checkpoint | None = None,
    ) -> StagedRun:
        augmentation = AUGMENTATIONS[candidate.augmentation or self.job.augmentation]
        return StagedRun(
            classifier,
            stages,
            self.data,
            batch_size=self.job.batch_size,
            augmentation=replace(
                augmentation, horizontal_flip=self.job.horizontal_flip, erase=candidate.random_erasing
            ),
            seed=seed,
            mixing=Mixing(mixup=candidate.mixup),
            label_smoothing=candidate.label_smoothing,
            callbacks=callbacks,
            whole_epochs=True,
            checkpoint=checkpoint,
            resume=resume,
        )

    def _settings(self, candidate: Architecture, stage: Stage) -> dict[str, Any]:
        """The configuration with which `zoo train` trains the same, on the same split."""
        job = self.job
        return {
            "data": job.data,
            "model": candidate.spec.name,
            "spec": json.loads(to_json(candidate.spec)),
            "plugin": [str(plugin) for plugin in job.plugin],
            "epochs": stage.epochs,
            "optimizer": stage.optimizer,
            "learning_rate": stage.learning_rate,
            "weight_decay": stage.weight_decay,
            "warmup": stage.warmup,
            "label_smoothing": candidate.label_smoothing,
            "mixup": candidate.mixup,
            "random_erasing": candidate.random_erasing,
            "augmentation": candidate.augmentation or job.augmentation,
            "horizontal_flip": job.horizontal_flip,
            "image_size": job.image_size,
            "batch_size": job.batch_size,
            "resize": job.resize,
            "bad_images": job.bad_images,
            "memory_budget": job.memory_budget,
            "seed": job.seed,
            "deterministic": job.deterministic,
        }
