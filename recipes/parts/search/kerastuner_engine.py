"""The engine that KerasTuner's oracles make up."""

import math
from typing import Any

import keras_tuner
from keras_tuner import HyperParameters

from recipes.parts.search.bayesian_oracle import BayesianOracle
from recipes.parts.search.engine import Exhausted, Wait
from recipes.parts.search.hyperband_oracle import HyperbandOracle
from recipes.parts.search.hyperparameters import collect
from recipes.parts.search.job import EngineName
from recipes.parts.search.oracles import GridOracle, RandomOracle, Untried
from recipes.parts.search.records import Objective, sign
from zoo.errors import InputError
from zoo.registry import unknown_name

ORACLES: dict[EngineName, type[Untried]] = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "grid": GridOracle,
}


def make_oracle(
    name: EngineName, space: HyperParameters, objective: Objective, *, seed: int, max_trials: int, max_epochs: int
) -> Untried:
    """Make the oracle of an engine; see `recipes.parts.search.engine.make_engine`."""
    if name not in ORACLES:
        raise unknown_name("engine", name, ORACLES)
    if max_trials < 1:
        raise InputError(f"A search has 1 trial or more. Received: max_trials={max_trials}")
    if max_epochs < 1:
        raise InputError(f"Hyperband divides 1 epoch or more. Received: max_epochs={max_epochs}")
    arguments = {"max_epochs": max_epochs} if name == "hyperband" else {}
    oracle = ORACLES[name](
        objective=keras_tuner.Objective(objective, "max" if sign(objective) > 0 else "min"),
        hyperparameters=collect(space.space),
        seed=1,  # without one it draws from Python's own generator; ours comes next
        **arguments,
    )
    oracle.start_from(seed, max_trials)
    return oracle


class KerasTunerEngine:
    """An `Engine` over an oracle of KerasTuner.

    Args:
        name: Of the engine.
        oracle: Chooses values.
    """

    def __init__(self, name: EngineName, oracle: Untried) -> None:
        self.name = name
        self._oracle = oracle

    def suggest(self, trial_id: str) -> dict[str, Any] | Wait | Exhausted:
        """Begin a trial."""
        if trial_id in self._oracle.trials:
            raise ValueError(f"There was a trial {trial_id!r} before")
        values = self._oracle.next_values(trial_id)
        if values is None:
            return Wait() if self._oracle.ongoing_trials else Exhausted()
        self._oracle.begin(trial_id, values)
        return dict(values)

    def tell(self, trial_id: str, score: float | None) -> None:
        """End a trial."""
        self._require_running(trial_id)
        self._oracle.end(trial_id, score if score is not None and math.isfinite(score) else None)

    def take_back(self, trial_id: str) -> None:
        """End a trial that counts as none."""
        self._require_running(trial_id)
        self._oracle.take_back(trial_id)

    def state(self) -> dict[str, Any]:
        """All that the engine knows, as plain JSON."""
        return {"engine": self.name, **self._oracle.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another engine was."""
        if state["engine"] != self.name:
            raise InputError(f"This search was begun with --engine {state['engine']}. Received: --engine {self.name}")
        self._oracle.restore(state)

    def extend(self, space: HyperParameters) -> None:
        """Go on with a larger space."""
        self._oracle.extend(space)

    def _require_running(self, trial_id: str) -> None:
        if trial_id not in self._oracle.ongoing_trials:
            raise ValueError(f"No trial {trial_id!r} is running")
