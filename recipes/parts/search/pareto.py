"""Which trials are worth their cost: those that no other beats in score without costing more (Pareto's front)."""

from collections.abc import Iterable
from typing import Literal

from recipes.parts.search.records import Trial
from recipes.parts.search.trial_lists import score

Cost = Literal["parameters", "multiply_adds", "latency_ms"]


def cost_of(trial: Trial, cost: Cost) -> float | None:
    """What a trial's model costs; None if it is not known."""
    value = getattr(trial.outcome, cost, None)
    return value if value else None  # no network has no parameters: 0 stands for what was not counted


def pareto_front(trials: Iterable[Trial], cost: Cost, *, sign: int) -> list[Trial]:
    """The trials that no other trial beats: none is as good and cheaper, none is better and as cheap.

    Args:
        trials: Those with a score.
        cost: What is to be low.
        sign: 1 where a higher score is better, -1 where a lower one is.

    Returns:
        The cheapest first, and each better than the one before it. Of equals the first; those of unknown cost are left
        out.
    """
    known = [(value, trial) for trial in trials if (value := cost_of(trial, cost)) is not None]
    front: list[Trial] = []
    for _, trial in sorted(known, key=lambda pair: (pair[0], -sign * score(pair[1]))):
        if not front or sign * score(trial) > sign * score(front[-1]):
            front.append(trial)
    return front
