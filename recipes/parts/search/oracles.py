"""KerasTuner's oracles for random search and for grids, and what all of ours have in common.

KerasTuner's own write files, print, lock, and raise when three trials fail in a row. Here only `populate_space` is
called, which chooses the values of a trial; `recipes.parts.search.kerastuner_engine` does the rest.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import keras_tuner
from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import HyperParameter
from keras_tuner.engine.trial import Trial, TrialStatus

from recipes.parts.search.hyperparameters import Value, all_values, collect, combinations, complete

OWN = "tuner/"
"""How the names of values begin that an oracle adds to those of the space."""

TAKEN_BACK = "TAKEN_BACK"
"""Status of a trial that was over a budget."""

MOST_LEFT = 10_000
"""Combinations to choose from where random draws find only what was tried before."""

NONE_NOW = {"status": TrialStatus.STOPPED, "values": None}


class Untried(keras_tuner.Oracle):
    """An oracle that never gives values twice, gives all there are, and can be put back to where it was.

    Mixed into those of KerasTuner, whose trials it holds.
    """

    max_trials: int

    def start_from(self, seed: int, max_trials: int) -> None:
        """Set what KerasTuner's constructors do not take: 0 is no seed to them, and neighbours draw the same."""
        self.seed = seed
        self._seed_state = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:6])
        self.max_trials = max_trials
        self.taken_back: list[dict[str, Value]] = []

    @property
    def spent(self) -> bool:
        """Whether as many trials have begun as may."""
        return sum(trial.status != TAKEN_BACK for trial in self.trials.values()) >= self.max_trials

    def next_values(self, trial_id: str) -> dict[str, Any] | None:
        """The values of a trial to begin; None if there is none to begin now."""
        if self.spent:
            return None
        values: dict[str, Any] | None = self.populate_space(trial_id)["values"]
        return values

    def begin(self, trial_id: str, values: dict[str, Any]) -> None:
        """Note that a trial runs."""
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = dict(values)
        trial = Trial(hyperparameters, trial_id, TrialStatus.RUNNING)
        self.trials[trial_id] = self.ongoing_trials[trial_id] = trial
        self._remember(values)

    def end(self, trial_id: str, score: float | None) -> None:
        """Note what came of a running trial."""
        trial = self.ongoing_trials.pop(trial_id)
        trial.score = score
        trial.status = TrialStatus.FAILED if score is None else TrialStatus.COMPLETED

    def take_back(self, trial_id: str) -> None:
        """Forget a running trial, but for its values."""
        trial = self.ongoing_trials.pop(trial_id)
        del self.trials[trial_id]
        self.taken_back.append(without_own(trial.hyperparameters.values))

    def state(self) -> dict[str, Any]:
        """All that decides what comes next, as plain JSON."""
        return {
            "seed_state": self._seed_state,
            "trials": [
                {
                    "id": trial.trial_id,
                    "values": dict(trial.hyperparameters.values),
                    "status": trial.status,
                    "score": trial.score,
                }
                for trial in self.trials.values()
            ],
            "taken_back": [dict(values) for values in self.taken_back],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as the oracle was that gave a state."""
        self.trials.clear()
        self.ongoing_trials.clear()
        self._seed_state = state["seed_state"]
        self.taken_back = [dict(values) for values in state["taken_back"]]
        for each in state["trials"]:
            self.begin(each["id"], each["values"])
            if each["status"] != TrialStatus.RUNNING:
                self.end(each["id"], each["score"])
                self.trials[each["id"]].status = each["status"]
        self._remember_all()

    def extend(self, space: HyperParameters) -> None:
        """Search a larger space; trials so far had the defaults of what is new."""
        self.hyperparameters = collect(space.space)
        for trial in self.trials.values():
            values = trial.hyperparameters.values
            own = {name: value for name, value in values.items() if name.startswith(OWN)}
            trial.hyperparameters = self.hyperparameters.copy()
            trial.hyperparameters.values = {**complete(space, values), **own}
        self.taken_back = [complete(space, values) for values in self.taken_back]
        self._remember_all()

    def _remember_all(self) -> None:
        self._tried_so_far.clear()
        for trial in self.trials.values():
            self._remember(trial.hyperparameters.values)
        for values in self.taken_back:
            self._remember(values)

    def _remember(self, values: Mapping[str, Value]) -> None:
        self._tried_so_far.add(self._compute_values_hash(values))

    def _compute_values_hash(self, values: Mapping[str, Value]) -> str:
        """The same for a later round of the same hyperparameters."""
        hashed: str = super()._compute_values_hash(without_own(values))
        return hashed

    def _random_values(self) -> dict[str, Value] | None:
        """Draw values that are untried; None if there are none left."""
        # KerasTuner gives up after 20 draws of what was tried.
        values: dict[str, Value] | None = super()._random_values()
        if values is not None:
            return values
        generator = random.Random(self._seed_state)  # noqa: S311 - a search needs no secrets
        self._seed_state += 1

        def values_of(hyperparameter: HyperParameter) -> Iterable[Value]:
            known = all_values(hyperparameter)
            return [hyperparameter.prob_to_value(generator.random())] if known is None else known

        untried = (each for each in combinations(self.hyperparameters, values_of) if not self._duplicate(each))
        left = list(islice(untried, MOST_LEFT))
        return generator.choice(left) if left else None


def without_own(values: Mapping[str, Value]) -> dict[str, Value]:
    """Values of the space's hyperparameters only."""
    return {name: value for name, value in values.items() if not name.startswith(OWN)}


class RandomOracle(Untried, keras_tuner.oracles.RandomSearchOracle):
    """Values drawn at random."""


class GridOracle(Untried, keras_tuner.oracles.GridSearchOracle):
    """All combinations of values, in KerasTuner's order: defaults first, the last hyperparameter changing fastest.

    KerasTuner's own keeps a chain of trials, since its space may grow with each of them, loses it when it is saved
    (keras-tuner#1055), and cannot do without a trial that was taken back. Ours is known beforehand and needs no more
    than a place in the row.
    """

    position = 0
    """Combinations that have been passed."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next combination that is untried."""
        for values in islice(combinations(self.hyperparameters), self.position, None):
            self.position += 1
            if not self._duplicate(values):
                return {"status": TrialStatus.RUNNING, "values": values}
        return NONE_NOW

    def extend(self, space: HyperParameters) -> None:
        super().extend(space)
        self.position = 0  # and pass again what was tried

    def state(self) -> dict[str, Any]:
        return {**super().state(), "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.position = state["position"]
