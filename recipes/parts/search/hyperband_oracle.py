"""KerasTuner's Hyperband, with rounds that end whatever becomes of their trials."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import keras_tuner
from keras_tuner import HyperParameters
from keras_tuner.engine.trial import Trial, TrialStatus

from recipes.parts.search.oracles import NONE_NOW, TAKEN_BACK, Untried

Bracket: TypeAlias = dict[str, Any]
"""`bracket_num`, and `rounds`: for each round what has begun in it, as `{"id": trial, "past_id": where it goes on}`."""


class HyperbandOracle(Untried, keras_tuner.oracles.HyperbandOracle):
    """Brackets of rounds: many trials begin and train for a short time, the best third goes on for three times as long.

    Numbers of rounds, trials and epochs are KerasTuner's. Its own waits for ever for the rest of a round if a trial
    fails or if there are no more untried values, and marks trials with the bracket that began last instead of theirs.
    When all brackets are full, another sweep over them begins, until `max_trials` have begun. What has begun by then
    goes through its rounds, of sizes in proportion.

    Reference:
        - [Li et al., Hyperband: A Novel Bandit-Based Approach to Hyperparameter
          Optimization](https://arxiv.org/abs/1603.06560)
    """

    none_left = False
    """Whether all values have been tried."""

    def next_values(self, trial_id: str) -> dict[str, Any] | None:
        """The values of a trial; also when no new ones may begin, one may go on."""
        values: dict[str, Any] | None = self.populate_space(trial_id)["values"]
        return values

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the values of a trial, new or to go on, if one can begin now."""
        while True:
            for bracket in self._brackets:
                if self._is_open(bracket):
                    values = self._random_values()
                    if values is None:
                        self.none_left = True
                        break  # all over again, as that decides the sizes of rounds
                    return self._place(bracket, 0, trial_id, None, values)
                for number in range(1, len(bracket["rounds"])):
                    best = self._ready(bracket, number)
                    if best is not None:
                        return self._place(bracket, number, trial_id, best.trial_id, best.hyperparameters.values)
            else:
                if self.spent or self.none_left:
                    return NONE_NOW
                self._increment_bracket_num()
                self._start_new_bracket()

    def _is_open(self, bracket: Bracket) -> bool:
        """Whether new trials begin in a bracket."""
        full = len(bracket["rounds"][0]) >= self._get_size(bracket["bracket_num"], 0)
        return not (full or self.spent or self.none_left)

    def _size(self, bracket: Bracket, number: int) -> int:
        """How many trials a round will have, failed ones included, as far as that is known by now."""
        planned: int = self._get_size(bracket["bracket_num"], number)
        first = len(bracket["rounds"][0])
        all_first: int = self._get_size(bracket["bracket_num"], 0)
        if number == 0:
            return planned if self._is_open(bracket) else first
        if not self._is_open(bracket):
            planned = math.ceil(planned * first / all_first)
        return min(planned, self._survivors(bracket, number - 1))

    def _survivors(self, bracket: Bracket, number: int) -> int:
        """How many trials of a round will not have failed, as far as that is known by now."""
        failed = (TrialStatus.FAILED, TAKEN_BACK)
        lost = sum(self.trials[info["id"]].status in failed for info in bracket["rounds"][number])
        return self._size(bracket, number) - lost

    def _ready(self, bracket: Bracket, number: int) -> Trial | None:
        """The trial that goes on into a round, if one is certain to be among the best of the round before."""
        begun = bracket["rounds"][number]
        selected = {info["past_id"] for info in begun}
        ended = [
            trial
            for trial in (self.trials[info["id"]] for info in bracket["rounds"][number - 1])
            if trial.status == TrialStatus.COMPLETED and trial.trial_id not in selected
        ]
        size = self._size(bracket, number)
        # As many are thrown out in the end; of more than so many, the best is safe.
        if len(begun) >= size or len(ended) <= self._survivors(bracket, number - 1) - size:
            return None
        better = max if self.objective.direction == "max" else min
        return better(ended, key=lambda trial: trial.score)

    def _place(
        self, bracket: Bracket, number: int, trial_id: str, past_id: str | None, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Let a trial begin in a round."""
        bracket["rounds"][number].append({"past_id": past_id, "id": trial_id})
        index = bracket["bracket_num"]
        own = {
            "tuner/epochs": self._get_epochs(index, number),
            "tuner/initial_epoch": self._get_epochs(index, number - 1) if number else 0,
            "tuner/bracket": index,
            "tuner/round": number,
        }
        if past_id is not None:
            own["tuner/trial_id"] = past_id
        return {"status": TrialStatus.RUNNING, "values": {**values, **own}}

    def take_back(self, trial_id: str) -> None:
        for bracket in self._brackets:
            first, *later = bracket["rounds"]
            if any(info["id"] == trial_id for entries in later for info in entries):
                # It stays where it is, as one that failed: nobody else could take its place with new values.
                self.end(trial_id, None)
                self.trials[trial_id].status = TAKEN_BACK
                return
            first[:] = [info for info in first if info["id"] != trial_id]
        super().take_back(trial_id)

    def extend(self, space: HyperParameters) -> None:
        super().extend(space)
        self.none_left = False

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "brackets": [
                {"bracket_num": each["bracket_num"], "rounds": [[dict(info) for info in one] for one in each["rounds"]]}
                for each in self._brackets
            ],
            "current_bracket": self._current_bracket,
            "none_left": self.none_left,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self._brackets = [
            {"bracket_num": each["bracket_num"], "rounds": [[dict(info) for info in one] for one in each["rounds"]]}
            for each in state["brackets"]
        ]
        self._current_bracket = state["current_bracket"]
        self.none_left = state["none_left"]
