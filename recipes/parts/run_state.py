"""What a staged run has done so far: what it decided, what has moved, and how that is kept and found again."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from recipes.parts.checkpoint import Checkpoint, assign, generator_states, paths, values
from recipes.parts.freezing import digests
from recipes.parts.stage_cost import Caching
from recipes.parts.stage_events import StageResult
from recipes.parts.stages import Stage
from zoo.errors import InputError


class RunState:
    """Where a staged run stands.

    Args:
        model: That is trained.
        stages: In order.
        fingerprint: Of the data.
        path: The file in which the state is kept; None keeps none.

    Attributes:
        stages: With what was measured for them: the blocks of `auto`, and learning rates.
        results: Of the stages that are done.
        decided: By its index, how each stage reads its images; once decided, a run stays with it.
        block_factors: By the index of an `auto` stage and the name of a block, the factor of its learning rate.
        averaged: Batches that the average of the weights has seen.
        head: By their paths, the weights that the first stage trained, as it left them.
        loaded: By their paths, the other weights that have moved, as they were before.
    """

    def __init__(self, model: keras.Model, stages: Sequence[Stage], fingerprint: str, path: Path | None) -> None:
        self.model = model
        self.stages = list(stages)
        self.fingerprint = fingerprint
        self.path = path
        self.results: list[StageResult] = []
        self.decided: dict[int, Caching] = {}
        self.block_factors: dict[int, dict[str, float]] = {}
        self.averaged = 0
        self.head: dict[str, np.ndarray] = {}
        self.loaded: dict[str, np.ndarray] = {}
        self._moved: dict[str, keras.Variable] = {}
        self._frozen: str | None = None

    def epochs_before(self, index: int) -> int:
        """The most epochs of all stages before one."""
        return sum(stage.epochs for stage in self.stages[:index])

    def begin(self, index: int, moving: Sequence[keras.Variable]) -> None:
        """A stage begins that changes some weights."""
        if index:
            for weight in moving:
                self.loaded.setdefault(weight.path, weight.numpy().copy())
        known = set(map(id, (*self._moved.values(), *moving)))
        self._set_moved({name: weight for name, weight in self._named().items() if id(weight) in known})

    def end(self, result: StageResult, moving: Sequence[keras.Variable]) -> None:
        """It is done."""
        if not self.results:
            self.head = {weight.path: weight.numpy().copy() for weight in moving}
        self.results.append(result)
        self.save(stage=len(self.results), results=self.results)

    def save(
        self,
        *,
        stage: int,
        results: Sequence[StageResult],
        epoch: int = 0,
        ended: bool = False,
        seconds: float = 0.0,
        arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Keep it, with what the stage that runs adds; arguments as of `Checkpoint`, `arrays` by what they are."""
        if self.path is None:
            return
        checkpoint = Checkpoint(
            stage=stage,
            epoch=epoch,
            ended=ended,
            seconds=seconds,
            results=list(results),
            caching={str(index): asdict(caching) for index, caching in self.decided.items()},
            frozen=self._hash_of_frozen(),
            fingerprint=self.fingerprint,
            averaged=self.averaged,
            stages=[asdict(each) for each in self.stages],
            block_factors={str(index): factors for index, factors in self.block_factors.items()},
        )
        checkpoint.put("weights", {name: weight.numpy() for name, weight in self._moved.items()})
        checkpoint.put("generators", values(generator_states(self.model)))
        checkpoint.put("head", self.head)
        for what, named in (arrays or {}).items():
            checkpoint.put(what, named)
        checkpoint.save(self.path)

    def restore(self, kept: Checkpoint, *, rates_were_found: bool) -> None:
        """Go back to where a run stood.

        Args:
            kept: Its state.
            rates_were_found: Whether learning rates were measured, so that those of its stages count.

        Raises:
            InputError: If images, weights or stages are others.
        """
        kept.require_data(self.fingerprint)
        named, stored = self._named(), kept.take("weights")
        odd = sorted(
            name for name, value in stored.items() if name not in named or tuple(named[name].shape) != value.shape
        )
        begun = kept.stage + bool(kept.epoch)
        if odd or len(kept.results) != begun or begun > len(self.stages):
            raise InputError(f"The checkpoint is of another model or of other stages: {', '.join(odd[:3])}")
        self.loaded = {named[name].path: named[name].numpy().copy() for name in stored}
        for name, value in stored.items():
            named[name].assign(value)
        self._set_moved({name: named[name] for name in stored})
        if kept.frozen != self._hash_of_frozen():
            raise InputError(
                "The pretrained weights are no longer those with which the run began: put them back, or start another "
                "run"
            )
        assign(generator_states(self.model), kept.take("generators"))
        self.results = kept.results[: kept.stage]
        self.decided = {int(index): Caching(**caching) for index, caching in kept.caching.items()}
        self.block_factors = {int(index): factors for index, factors in kept.block_factors.items()}
        self.averaged = kept.averaged
        self.head = kept.take("head")
        # Those that are to come may have been changed by hand; what was measured stays.
        for index, measured in enumerate(kept.stages[:begun]):
            stage = self.stages[index]
            self.stages[index] = replace(
                stage,
                unfreeze=measured["unfreeze"] if stage.unfreeze == "auto" else stage.unfreeze,
                learning_rate=measured["learning_rate"] if rates_were_found else stage.learning_rate,
            )

    def _named(self) -> dict[str, keras.Variable]:
        return dict(zip(paths(self.model.weights), self.model.weights, strict=True))

    def _set_moved(self, moved: dict[str, keras.Variable]) -> None:
        """Note which weights have moved."""
        self._moved = moved
        self._frozen = None

    def _hash_of_frozen(self) -> str:
        """A hash of the others: taken once, as they do not change and a network can be large."""
        if self._frozen is None:
            ids = set(map(id, self._moved.values()))
            others = [weight for weight in self.model.weights if id(weight) not in ids]
            self._frozen = hashlib.sha256("".join(digests(others)).encode()).hexdigest()
        return self._frozen
