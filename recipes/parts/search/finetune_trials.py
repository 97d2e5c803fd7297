"""Trials of ways to fine-tune a pretrained backbone."""

import gc
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from recipes.parts.activation_store import ActivationStore
from recipes.parts.activations import Activations, FrozenLayers
from recipes.parts.augment import PRESETS as AUGMENTATIONS
from recipes.parts.augment import Augmentation
from recipes.parts.checkpoint import Checkpoint
from recipes.parts.classifier import Classifier, load_network, with_head
from recipes.parts.config_file import config_to_json
from recipes.parts.listeners import WriteHistory
from recipes.parts.names import printable
from recipes.parts.run_folder import HISTORY, write_json
from recipes.parts.search.attempt import (
    OnEpoch,
    OnFilling,
    ReportEpochs,
    attempt,
    note_results,
    require_latency,
)
from recipes.parts.search.candidates import AugmentationName, FineTuning
from recipes.parts.search.exploring import explore, sampled
from recipes.parts.search.finetune_space import Pretrained
from recipes.parts.search.fixing import fix
from recipes.parts.search.job import Job
from recipes.parts.search.job_data import read_data
from recipes.parts.search.latency import latency_ms
from recipes.parts.search.lending import Lending
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.rounds import take_over, until_epoch
from recipes.parts.search.run_files import begin_run, end_run
from recipes.parts.search.shared_activations import SharedActivations, draw_candidates
from recipes.parts.search.space import Space
from recipes.parts.search.static_costs import costs
from recipes.parts.stage_events import StageCallback
from recipes.parts.stages import plan_stages
from recipes.parts.training import StagedRun
from zoo.errors import InputError

LATENCIES = "latencies.json"
"""In the folder of a search: what was measured, by cut and head pool, for all of its workers."""


class FinetuneTrials:
    """Put heads on one pretrained network, train them, and put it back; see `recipes.parts.search.trials.Trials`.

    Args:
        job: The search. TensorFlow has been started and plugins are loaded.
        space: What makes candidates of values.
        folder: Of the search.
    """

    def __init__(self, job: Job, space: Space, folder: Path) -> None:
        self.job = job
        self.space = space
        self.folder = folder
        self.network = load_network(job.model, image_size=job.image_size, weights=job.weights)
        self.base = Pretrained(
            name=job.model, blocks=tuple(self.network.ends), epochs=job.epochs, augmentation=job.augmentation
        )
        self.hyperparameters = fix(explore(space, self.base), job.fix)
        self.data = read_data(job, folder)
        self.lending = Lending(self.network)
        self.frozen_layers = self._frozen_layers()
        self.shared: SharedActivations | None = None
        if self.frozen_layers is not None:
            self.shared = SharedActivations(
                self.network,
                len(self.data.classes),
                Activations(
                    self.network.model,
                    self.data,
                    self.frozen_layers,
                    batch_size=job.batch_size,
                    augmentation=Augmentation(),
                    seed=job.seed,
                ),
                draw_candidates(space, self.base, self.hyperparameters),
                augmentations=self._changes,
                default=job.augmentation,
            )
        self.costs: dict[tuple[str | None, str | None], tuple[int, int]] = {}
        # What lives as long as the process need not be looked through after each trial.
        gc.collect()
        gc.freeze()

    def run(self, trial: Trial, folder: Path, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train a candidate, or go on with one; see `Trials.run`."""

        def train(outcome: Outcome) -> None:
            candidate = self._candidate(trial)
            outcome.settings = self._settings(candidate, candidate.head_pool)
            outcome.seconds = -self._fill(candidate, on_filling)
            with self.lending.lent():
                classifier = self._build(candidate, candidate.head_pool, self.job.seed, outcome)
                checkpoint, resume = take_over(trial.values, folder)
                staged = self._staged_run(
                    classifier,
                    candidate,
                    self.job.seed,
                    [ReportEpochs(candidate.stages, on_epoch, on_filling)],
                    self.frozen_layers,
                    checkpoint=checkpoint,
                    resume=resume,
                )
                note_results(outcome, staged.run(until=until_epoch(trial.values, candidate.stages)))

        return attempt(train, folder)

    def final(self, trial: Trial, folder: Path, seed: int, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train the winner, or the backbone by the default strategy, as `zoo finetune` does; see `Trials.final`."""
        default = trial.final == "default"

        def train(outcome: Outcome) -> None:
            began = time.perf_counter()
            candidate = self._default() if default else self._candidate(trial)
            head_pool = None if default else candidate.head_pool
            frozen_layers = self.frozen_layers
            if default and frozen_layers is not None:
                frozen_layers = replace(frozen_layers, views=None, shared=False)
            outcome.settings = self._settings(candidate, head_pool)
            begin_run(folder, self.data, outcome.settings)
            with self.lending.lent():
                classifier = self._build(candidate, head_pool, seed, outcome, budget=False)
                told = [ReportEpochs(candidate.stages, on_epoch, on_filling), WriteHistory(folder / HISTORY)]
                staged = self._staged_run(classifier, candidate, seed, told, frozen_layers)
                results = staged.run()
                note_results(outcome, results)
                mixed = staged.interpolate()
                if mixed is not None:
                    write_json(folder / "interpolation.json", mixed.to_json())
                names = ", ".join(stage.name for stage in candidate.stages)
                end_run(
                    folder,
                    classifier.model,
                    self.data,
                    results,
                    outcome,
                    title=f"{self.job.model}, {self.job.image_size} px, {names}, on {printable(self.job.data)}",
                    batch_size=self.job.batch_size,
                    began=began,
                )

        return attempt(train, folder)

    def _candidate(self, trial: Trial) -> FineTuning:
        candidate = sampled(self.space, self.base, trial.hyperparameters, self.hyperparameters)
        assert isinstance(candidate, FineTuning)
        return candidate

    def _default(self) -> FineTuning:
        stages = plan_stages(
            "lp_ft",
            num_blocks=len(self.network.ends),
            epochs=self.job.epochs,
            augmented=self.job.augmentation != "none",
        )
        return FineTuning(stages=stages)

    def _frozen_layers(self) -> FrozenLayers | None:
        if not self.job.cache:
            return None
        return FrozenLayers(
            store=ActivationStore(limit_bytes=int(self.job.cache_limit * 1e9)),
            memory_budget_bytes=max(0, int(self.job.memory_budget * 1e9) - self.data.bytes_in_memory),
            views=self.job.views,
            shared=True,
        )

    def _changes(self, strength: AugmentationName) -> Augmentation:
        return replace(AUGMENTATIONS[strength], horizontal_flip=self.job.horizontal_flip)

    def _fill(self, candidate: FineTuning, on_filling: OnFilling) -> float:
        """See to what many candidates read, this one among them; return the seconds that it took."""
        began = time.perf_counter()
        if self.shared is not None:
            strength = candidate.augmentation or self.job.augmentation
            try:
                self.shared.require(strength, lambda done, total: on_filling())
            except InputError as error:  # no room for what all candidates read: each sees to itself
                print(f"frozen layers do not run once for all trials: {error}", file=sys.stderr)
                self.shared = None
        return time.perf_counter() - began

    def _build(
        self, candidate: FineTuning, head_pool: str | None, seed: int, outcome: Outcome, *, budget: bool = True
    ) -> Classifier:
        """Put a head on the network, and note down what the whole costs; refuse it if that is too much."""
        keras.utils.set_random_seed(seed)
        classifier = with_head(
            self.network,
            num_classes=len(self.data.classes),
            dropout=candidate.dropout,
            cut=candidate.cut,
            head_pool=head_pool,
        )
        key = candidate.cut, head_pool
        if key not in self.costs:
            self.costs[key] = costs(classifier.model)
        outcome.parameters, outcome.multiply_adds = self.costs[key]
        outcome.latency_ms = self._latency(classifier, key)
        if budget:
            require_latency(outcome.latency_ms, self.job.max_latency_ms)
        return classifier

    def _latency(self, classifier: Classifier, key: tuple[str | None, str | None]) -> float:
        """What one image takes, measured once in a search."""
        path, name = self.folder / LATENCIES, " ".join(map(str, key))
        known: dict[str, float] = {}
        with suppress(FileNotFoundError):
            known = json.loads(path.read_text(encoding="ascii"))
        if name not in known:
            known[name] = latency_ms(classifier.model)
            write_json(path, known)
        return known[name]

    def _staged_run(
        self,
        classifier: Classifier,
        candidate: FineTuning,
        seed: int,
        callbacks: Sequence[StageCallback],
        frozen_layers: FrozenLayers | None,
        *,
        checkpoint: Path | None = None,
        resume: Checkpoint | None = None,
    ) -> StagedRun:
        return StagedRun(
            classifier,
            candidate.stages,
            self.data,
            batch_size=self.job.batch_size,
            augmentation=self._changes(candidate.augmentation or self.job.augmentation),
            seed=seed,
            label_smoothing=candidate.label_smoothing,
            callbacks=callbacks,
            whole_epochs=True,
            frozen_layers=frozen_layers,
            checkpoint=checkpoint,
            resume=resume,
        )

    def _settings(self, candidate: FineTuning, head_pool: str | None) -> dict[str, Any]:
        """The configuration with which `zoo finetune` trains the same, on the same split."""
        job = self.job
        return {
            "data": job.data,
            "backbone": job.model,
            "weights": job.weights,
            "cut": candidate.cut,
            "head_pool": head_pool,
            "plugin": [str(plugin) for plugin in job.plugin],
            "stages": [config_to_json(stage) for stage in candidate.stages],
            "image_size": job.image_size,
            "batch_size": job.batch_size,
            "resize": job.resize,
            "augmentation": candidate.augmentation or job.augmentation,
            "horizontal_flip": job.horizontal_flip,
            "dropout": candidate.dropout,
            "label_smoothing": candidate.label_smoothing,
            "bad_images": job.bad_images,
            "memory_budget": job.memory_budget,
            "cache": job.cache,
            "cache_limit": job.cache_limit,
            "views": job.views,
            "seed": job.seed,
            "deterministic": job.deterministic,
        }
