"""What a search knows of its trials, as plain data."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["running", "waiting", "done", "failed"]
Objective = Literal["accuracy", "loss", "macro_f1"]

FINALS = ("winner", "default")
"""What is trained again, on the full budget, when the search is over."""


@dataclass(kw_only=True)
class Outcome:
    """What came of a trial, as the process that ran it wrote it down."""

    status: Literal["done", "failed", "over_budget"]
    reason: str = ""
    """Why it failed, or what budget it broke, in one line."""
    validation: dict[str, float] = field(default_factory=dict)
    """`accuracy`, `loss` and `macro_f1` of the weights that were kept."""
    test: dict[str, float] = field(default_factory=dict)
    """The same on the test split; of final runs only."""
    epochs: int = 0
    """That were trained, those of earlier rounds included."""
    parameters: int = 0
    multiply_adds: int = 0
    """Of one image."""
    latency_ms: float | None = None
    """Of one image, by the model with folded batch norm."""
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    """What `zoo train` or `zoo finetune` takes as `--config` to train the same. A spec stands in it as an object, under
    `spec`."""


@dataclass(kw_only=True)
class Trial:
    """One set of hyperparameters, and what came of it."""

    id: str
    """Four digits, in the order of their beginning; `winner-0` or `default-2` for a final run and its seed."""
    values: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters by name, those that are active. Names of the engine's own begin with `tuner/`."""
    status: Status = "running"
    """`waiting` for a worker, after one was lost."""
    worker: str = ""
    attempts: int = 1
    """How often it was begun."""
    began: float = 0.0
    """Unix time."""
    score: float | None = None
    """Of the objective, on validation."""
    outcome: Outcome | None = None

    @property
    def final(self) -> str:
        """`winner`, `default`, or "" for a trial of the search itself."""
        kind = self.id.partition("-")[0]
        return kind if kind in FINALS else ""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The values of the space, without those of the engine's own."""
        return {name: value for name, value in self.values.items() if not name.startswith("tuner/")}


def longest(trials: Iterable[Trial]) -> float:
    """Seconds of the longest trial that is done; 0 before one is."""
    done = [trial.outcome.seconds for trial in trials if trial.status == "done" and trial.outcome]
    return max(done, default=0.0)


def sign(objective: Objective) -> int:
    """1 where more is better, -1 where less is."""
    return -1 if objective == "loss" else 1


def best_trial(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The trial with the best score, of equals the one with the lowest loss; final runs do not count."""

    def goodness(trial: Trial) -> tuple[float, float]:
        assert trial.score is not None
        loss = trial.outcome.validation.get("loss", math.inf) if trial.outcome else math.inf
        return sign(objective) * trial.score, -loss

    scored = [trial for trial in trials if trial.score is not None and not trial.final]
    return max(scored, key=goodness, default=None)
