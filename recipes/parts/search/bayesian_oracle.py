"""KerasTuner's Bayesian optimization, quick enough for trials of seconds, and never the same values twice."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Choice, Fixed, HyperParameter
from keras_tuner.engine.trial import TrialStatus
from sklearn.exceptions import ConvergenceWarning

from recipes.parts.search.hyperparameters import Value, is_active
from recipes.parts.search.oracles import Untried

CANDIDATES = 1_000
"""Points drawn anywhere in the space, among which the most promising one is looked for."""
NEIGHBOURS = 100
"""Points drawn near each of the best trials."""
BEST = 5
"""Trials in whose neighbourhood it is looked for as well."""
RESTARTS = 3
"""Of the search for the scale of the kernel, from random values."""
APART = math.sqrt(1 / 8)
"""Along its own axis each: so two values of a choice are 1/2 apart, half as far as the ends of a range. That did best
among 0.35, 0.7 and one axis for all of them."""
MOST_LOST = 50
"""Candidates that failed or were over a budget, the last ones, from which the model learns where not to look."""


class BayesianOracle(Untried, keras_tuner.oracles.BayesianOptimizationOracle):
    """A Gaussian process over what is known, and the candidate with the best upper confidence bound.

    Process, kernel and bound are KerasTuner's. Other than its own:

    - The bound is computed for `CANDIDATES` points and some near the best trials, at once, as the values that would be
      tried, instead of following its slope from 50 points, which takes longer than a short trial and ends between the
      values of a choice as often as not, where it was before.
    - Each value of a choice without an order is an axis of its own: no two are closer to each other than others.
    - The process is fitted before it is asked what running trials will come to.
    - What failed or was over a budget counts as the worst score so far, so that its neighbourhood is left alone.
    - A third of all trials at most is drawn at random to begin with, and else one for each hyperparameter, 5 or more;
      KerasTuner draws three for each.
    """

    def start_from(self, seed: int, max_trials: int) -> None:
        super().start_from(seed, max_trials)
        dimensions = len(self._nonfixed_space())
        self.num_initial_points = min(max(5, dimensions), max(2, max_trials // 3))

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the most promising values; random ones as long as too little is known."""
        completed = sum(trial.status == TrialStatus.COMPLETED for trial in self.trials.values())
        values = self._most_promising() if completed >= self.num_initial_points else None
        if values is None:
            random_trial: dict[str, Any] = self._random_populate_space()
            return random_trial
        return {"status": TrialStatus.RUNNING, "values": values}

    def _most_promising(self) -> dict[str, Value] | None:
        """The untried values whose score may be best; None if all those that were drawn have been tried."""
        generator = np.random.default_rng(self._seed_state)
        self._seed_state += 1
        known, scores = self._known()
        best = [known[index] for index in np.argsort(scores, kind="stable")[:BEST]]
        drawn = self._draw(generator, np.array([self._point_of(values) for values in best]))
        candidates = {self._compute_values_hash(values): values for values in map(self._values_at, drawn)}
        untried = [values for key, values in candidates.items() if key not in self._tried_so_far]
        if not untried:
            return None
        with warnings.catch_warnings():
            # That the scale which fits best is the largest or smallest it may be: there is nothing to do about it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process = self._fit(self._features(known), scores)
        mean, deviation = process.predict(self._features(untried), return_std=True)
        return untried[int(np.argmin(mean - self.beta * deviation))]

    def _known(self) -> tuple[list[Mapping[str, Value]], np.ndarray]:
        """The values of trials that have ended, and their scores, of which less is better."""
        sign = -1 if self.objective.direction == "max" else 1
        completed = [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]
        failed = [trial.hyperparameters.values for trial in self.trials.values() if trial.status == TrialStatus.FAILED]
        scores = [sign * trial.score for trial in completed]
        lost = [*failed, *self.taken_back][-MOST_LOST:]
        values = [*(trial.hyperparameters.values for trial in completed), *lost]
        return values, np.array(scores + [max(scores)] * len(lost))

    def _fit(self, features: np.ndarray, scores: np.ndarray) -> Any:
        # The kernel has one parameter, for which KerasTuner's 20 restarts find nothing new.
        process = self._make_gpr().set_params(n_restarts_optimizer=RESTARTS).fit(features, scores)
        if self.ongoing_trials:
            # A pessimistic guess keeps others away from where a trial runs.
            running = self._features([trial.hyperparameters.values for trial in self.ongoing_trials.values()])
            mean, deviation = process.predict(running, return_std=True)
            process.set_params(kernel=process.kernel_, optimizer=None)
            process.fit(np.concatenate([features, running]), np.concatenate([scores, mean + deviation]))
        return process

    def _draw(self, generator: np.random.Generator, best: np.ndarray) -> list[list[float]]:
        """Points anywhere, and points that differ from a good one a little in all axes, and in about two much."""
        dimensions = best.shape[1]
        anywhere = generator.random((CANDIDATES, dimensions))
        near = np.repeat(best, NEIGHBOURS, axis=0) + generator.normal(0, 0.05, (len(best) * NEIGHBOURS, dimensions))
        elsewhere = generator.random(near.shape)
        near = np.where(generator.random(near.shape) < 2 / dimensions, elsewhere, near)
        drawn: list[list[float]] = np.concatenate([anywhere, near]).clip(0, np.nextafter(1, 0)).tolist()
        return drawn

    def _values_at(self, point: Sequence[float]) -> dict[str, Value]:
        """The values of the active hyperparameters at a point of the unit cube."""
        values: dict[str, Value] = {}
        axes = iter(point)
        for each in self.hyperparameters.space:
            place = 0.5 if isinstance(each, Fixed) else next(axes)
            if is_active(each, values):
                values[each.name] = each.prob_to_value(place)
        return values

    def _point_of(self, values: Mapping[str, Value]) -> list[float]:
        """Where in the unit cube some values are."""
        return [each.value_to_prob(value) for each, value in self._all_values(values)]

    def _features(self, many: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """What the process sees of values, a row each."""
        rows = []
        for values in many:
            row: list[float] = []
            for each, value in self._all_values(values):
                if isinstance(each, Choice) and not each.ordered:
                    row += [APART * (value == other) for other in each.values]
                else:
                    row.append(each.value_to_prob(value))
            rows.append(row)
        return np.array(rows)

    def _all_values(self, values: Mapping[str, Value]) -> Iterator[tuple[HyperParameter, Value]]:
        """Each hyperparameter that is searched, and its value; if it is inactive, its default."""
        for each in self._nonfixed_space():
            active = each.name in values and is_active(each, values)
            yield each, values[each.name] if active else each.default
