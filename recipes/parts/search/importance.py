"""What each hyperparameter is worth: how much of a trial's rank rests on it.

A forest (Breiman 2001) learns to predict how a trial ranks among all from its hyperparameters. Each tree is asked about
the trials that it has not seen (out of bag), as they are and with the values of one hyperparameter shuffled among them.
Half of what that adds to the squared error is the share of the variance that rests on the hyperparameter, alone and
together with others (Gregorutti et al. 2017): Sobol's total index. Ranks are predicted and not scores, so that a few
trials that went astray do not outweigh all others.

A hyperparameter that a trial does not have is no reason for its score: that lies in the one that switches it on or off.
So it is shuffled among the trials that have it; for the forest, the others have its middle or most common value.

Hyperband gives later rounds to those that did well in the first. Their scores no longer tell what made them survive,
so each combination counts once, with its first round, and ranks among those of the same budget.

Reference:
    - [Breiman, Random Forests](https://doi.org/10.1023/A:1010933404324)
    - [Gregorutti et al., Correlation and Variable Importance in Random Forests](https://arxiv.org/abs/1310.5726)
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.parts.names import counted
from recipes.parts.search.records import Trial
from recipes.parts.search.trial_lists import hyperparameter_names, number, score, scored

FEWEST = 10
"""Trials below which nothing can be said."""

TREES = 200
SHUFFLED = 1000
"""How often, about, a trial's prediction is made with shuffled values of a hyperparameter, over all trials together."""

RESAMPLED = 1000
"""How often trials are drawn anew, with replacement, for the intervals."""

TRUSTED = 0.2
"""The R2 out of bag below which importance is not to be trusted. Where scores are noise it was above that in 8 of 100
searches of 10 trials, in 3 of 20 trials, and in none of 30."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What a hyperparameter is worth."""

    name: str
    share: float
    """Of how trials rank that it explains, alone and together with others. 0, or less by chance: it does not matter, or
    that cannot be seen."""
    low: float
    high: float
    """Between these lies what 90 of 100 other draws of as many trials gave."""


@dataclass(frozen=True, kw_only=True)
class Importances:
    """What all hyperparameters are worth."""

    hyperparameters: tuple[Importance, ...] = ()
    """The most important first; those that took one value only are left out."""
    r2: float | None = None
    """Of the forest, out of bag: 1 is perfect, 0 no better than the mean, and less is worse. None without a forest."""
    trials: int = 0
    """That it learned from."""
    notice: str = ""
    """Why there is nothing to show, or why it is not trustworthy."""


def importances(trials: Sequence[Trial]) -> Importances:
    """Measure what each hyperparameter is worth.

    Args:
        trials: Of a search; those that are not done and final runs are left out.
    """
    first = [trial for trial in scored(trials) if not trial.values.get("tuner/round")]
    names = [name for name in hyperparameter_names(first) if _varies(first, name)]
    if len(first) < FEWEST:
        return _nothing(first, f"{counted(FEWEST, 'trial')} or more have to be done for it; {len(first)} are")
    if not names:
        return _nothing(first, "no hyperparameter took more than one value")
    ranks = _ranks(first)
    if np.ptp(ranks) == 0:
        return _nothing(first, "all trials have the same score")
    return _measure(first, names, ranks)


def _nothing(trials: Sequence[Trial], why: str) -> Importances:
    return Importances(trials=len(trials), notice=f"The importance of hyperparameters is not known: {why}.")


def _varies(trials: Sequence[Trial], name: str) -> bool:
    return len({repr(trial.values[name]) for trial in trials if name in trial.values}) > 1


def _ranks(trials: Sequence[Trial]) -> np.ndarray:
    """How each trial ranks among those of the same budget, from -0.5 to 0.5; equals rank alike."""
    from scipy.stats import rankdata

    scores = np.array([score(trial) for trial in trials])
    budgets = np.array([trial.values.get("tuner/epochs", 0) for trial in trials])
    ranks = np.zeros(len(trials))
    for budget in np.unique(budgets):
        own = budgets == budget
        ranks[own] = (rankdata(scores[own]) - 0.5) / own.sum() - 0.5
    return ranks


def _measure(trials: Sequence[Trial], names: Sequence[str], ranks: np.ndarray) -> Importances:
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    columns = [_encode(trials, name) for name in names]
    inputs = np.concatenate(columns, axis=1)
    ends = np.cumsum([column.shape[1] for column in columns])
    forest = RandomForestRegressor(TREES, random_state=0).fit(inputs, ranks)

    # All variants go through a tree at once: as they are, and with one hyperparameter after the other shuffled.
    times = max(4, SHUFFLED // len(trials))
    variants = np.repeat(inputs[None], 1 + times * len(names), axis=0)
    for index, (name, end) in enumerate(zip(names, ends, strict=True)):
        own = slice(end - columns[index].shape[1], end)
        active = np.flatnonzero([name in trial.values for trial in trials])
        for variant in variants[1 + index * times : 1 + (index + 1) * times]:
            variant[active, own] = variant[rng.permutation(active), own]
    predicted, asked = np.zeros(variants.shape[:2]), np.zeros(len(trials))
    flat = variants.reshape(-1, inputs.shape[1])
    for tree, seen in zip(forest.estimators_, forest.estimators_samples_, strict=True):
        unseen = np.ones(len(trials), bool)
        unseen[seen] = False
        predicted += tree.predict(flat).reshape(predicted.shape) * unseen
        asked += unseen
    errors = (predicted / np.maximum(asked, 1) - ranks) ** 2 / ranks.var()

    # Of each hyperparameter and trial, half of how much larger the squared error is when it is shuffled.
    losses = (errors[1:].reshape(len(names), times, -1).mean(axis=1) - errors[0]) / 2
    draws = rng.multinomial(len(trials), np.full(len(trials), 1 / len(trials)), size=RESAMPLED)
    low, high = np.percentile(draws @ losses.T / len(trials), (5, 95), axis=0)
    found = [
        Importance(name=name, share=float(losses[index].mean()), low=float(low[index]), high=float(high[index]))
        for index, name in enumerate(names)
    ]
    r2 = float(1 - errors[0].mean())
    return Importances(
        hyperparameters=tuple(sorted(found, key=lambda one: -one.share)),
        r2=r2,
        trials=len(trials),
        notice="" if r2 >= TRUSTED else _untrusted(r2, len(trials)),
    )


def _untrusted(r2: float, trials: int) -> str:
    return (
        f"Not trustworthy: from {trials} trials, hyperparameters predict next to nothing about how a trial ranks (R2 "
        f"out of bag {r2:z.2f})."
    )


def _encode(trials: Sequence[Trial], name: str) -> np.ndarray:
    """The values of a hyperparameter as numbers, `(trials, columns)`: one column for numbers, one for each word."""
    values: list[Any] = [trial.values[name] for trial in trials if name in trial.values]
    if all(map(number, values)):  # to a tree only their order matters
        place = {value: index for index, value in enumerate(sorted(set(values)))}
        middle = statistics.median_low(values)
        return np.array([[place[trial.values.get(name, middle)]] for trial in trials], np.float32)
    words = Counter(map(repr, values))
    common = words.most_common(1)[0][0]
    taken = [repr(trial.values[name]) if name in trial.values else common for trial in trials]
    columns = sorted(words)[1:] if len(words) == 2 else sorted(words)
    return np.array([[float(word == column) for column in columns] for word in taken], np.float32)
