"""The trials of a search, picked and put in order, and their values as words."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from recipes.parts.names import printable
from recipes.parts.search.job import Job
from recipes.parts.search.records import Objective, Trial

OBJECTIVES: dict[Objective, str] = {
    "accuracy": "validation accuracy",
    "loss": "validation loss",
    "macro_f1": "validation macro F1",
}
"""What a score is, in words."""

COSTS = ("epochs", "parameters", "multiply_adds", "latency_ms", "seconds")
"""Of an outcome, what a trial and its model cost."""


def searched(trials: Iterable[Trial]) -> list[Trial]:
    """Those of the search itself, without final runs, in the order in which they began."""
    return sorted((trial for trial in trials if not trial.final), key=lambda trial: (len(trial.id), trial.id))


def without_fixed(trials: Iterable[Trial], job: Job) -> list[Trial]:
    """The same with those values only that were searched."""
    return [
        replace(trial, values={name: value for name, value in trial.values.items() if name not in job.fix})
        for trial in trials
    ]


def scored(trials: Iterable[Trial]) -> list[Trial]:
    """Those of the search that are done and have a score, in the order in which they began."""
    return [
        trial
        for trial in searched(trials)
        if trial.status == "done" and trial.outcome and trial.score is not None and math.isfinite(trial.score)
    ]


def score(trial: Trial) -> float:
    """The score of a trial that has one."""
    assert trial.score is not None
    return trial.score


def hyperparameter_names(trials: Iterable[Trial]) -> list[str]:
    """Of all that were searched, in the order in which they first appear."""
    return list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))


def number(value: Any) -> bool:
    """Whether a value of a hyperparameter is a number; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value of a hyperparameter as a person reads it, printable and on one line."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def settings(values: dict[str, Any]) -> str:
    """Hyperparameters on one line: `pool=max width=0.5`."""
    return " ".join(f"{printable(name)}={shown(value)}" for name, value in values.items())


def reason(trial: Trial) -> str:
    """Why a trial failed, in one line."""
    told = trial.outcome.reason if trial.outcome else ""
    return told or "its score is not a finite number"
