import numpy as np
import pytest
from scipy.stats import rankdata

from recipes.parts.search.importance import FEWEST, importances
from recipes.parts.search.records import Outcome, Trial


def trial(index, values, score, **changes):
    outcome = Outcome(status="done", validation={"accuracy": score})
    return Trial(id=f"{index:04d}", values=values, score=score, **{"status": "done", "outcome": outcome, **changes})


def drawn(count, objective, seed=0):
    """Trials with random values, and a score that `objective` makes up from them."""
    rng = np.random.default_rng(seed)
    trials = []
    for index in range(count):
        values = {
            "learning_rate": float(10 ** rng.uniform(-4, -1)),
            "pool": ("max", "avg", "soft")[rng.integers(3)],
            "flip": bool(rng.integers(2)),
            "depth": int(rng.integers(1, 5)),
        }
        trials.append(trial(index, values, float(objective(values, rng))))
    return trials


def named(found):
    return {one.name: one for one in found.hyperparameters}


def test_finds_what_an_objective_is_made_of():
    # By their variances, 9 : 2, and nothing for the others.
    found = importances(
        drawn(150, lambda values, _: 3 * np.log10(values["learning_rate"]) ** 1 * 0.33 + (values["pool"] == "max"))
    )
    assert found.notice == ""
    assert found.trials == 150
    assert found.r2 > 0.8
    assert [one.name for one in found.hyperparameters[:2]] == ["learning_rate", "pool"]
    shares = named(found)
    assert shares["learning_rate"].share == pytest.approx(0.77, abs=0.12)
    assert shares["pool"].share == pytest.approx(0.23, abs=0.1)
    for name in ("flip", "depth"):
        assert abs(shares[name].share) < 0.02
    for one in found.hyperparameters:
        assert one.low <= one.share <= one.high


@pytest.mark.parametrize("sign", [1, -1])
def test_one_wild_score_and_the_direction_change_nothing(sign):
    trials = drawn(60, lambda values, _: sign * values["depth"])
    assert importances(trials).hyperparameters[0].name == "depth"
    before = named(importances(trials))
    worst = min(trials, key=lambda one: one.score)
    worst.score -= 1e6
    after = named(importances(trials))
    assert after["depth"].share == pytest.approx(before["depth"].share, abs=0.05)


def test_what_switches_another_on_gets_the_credit():
    rng = np.random.default_rng(0)
    trials = []
    for index in range(120):
        values = {"kind": ("plain", "deep")[index % 2]}
        if values["kind"] == "deep":
            values |= {"blocks": int(rng.integers(1, 6)), "norm": ("batch", "none")[rng.integers(2)]}
        trials.append(trial(index, values, (values["kind"] == "deep") + 0.1 * rng.random()))
    shares = named(importances(trials))
    assert shares["kind"].share > 0.6
    assert abs(shares["blocks"].share) < 0.05
    assert abs(shares["norm"].share) < 0.05


def test_what_only_some_have_is_shuffled_among_them():
    rng = np.random.default_rng(0)
    trials = []
    for index in range(200):
        values = {"kind": "deep", "blocks": int(rng.integers(1, 6))} if index % 2 else {"kind": "plain"}
        trials.append(trial(index, values, float(values.get("blocks", 9))))
    ranks = rankdata([one.score for one in trials])
    expected = ranks[1::2].var() / 2 / ranks.var()  # half of the trials rank by their blocks
    assert named(importances(trials))["blocks"].share == pytest.approx(expected, rel=0.1)


def test_noise_is_not_trusted():
    found = importances(drawn(40, lambda _, rng: rng.random()))
    assert found.r2 < 0.2
    assert "Not trustworthy" in found.notice
    assert "40 trials" in found.notice


def test_same_trials_same_numbers():
    trials = drawn(30, lambda values, _: values["depth"])
    assert importances(trials) == importances(trials)


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ([], "10 trials or more"),
        (drawn(FEWEST - 1, lambda values, _: values["depth"]), "9 are"),
        (drawn(30, lambda *_: 0.5), "same score"),
        ([trial(index, {"fixed": 1}, index / 100) for index in range(20)], "more than one value"),
        ([trial(index, {}, index / 100) for index in range(20)], "more than one value"),
        ([trial(index, {"a": index}, None, status="failed") for index in range(20)], "0 are"),
        ([trial(index, {"a": index}, float("nan")) for index in range(20)], "0 are"),
    ],
    ids=["none", "few", "constant", "fixed", "without hyperparameters", "failed", "not finite"],
)
def test_says_why_there_is_nothing(trials, why):
    found = importances(trials)
    assert found.hyperparameters == ()
    assert found.r2 is None
    assert why in found.notice


def test_final_runs_do_not_count():
    trials = drawn(12, lambda values, _: values["depth"])
    finals = [trial(0, {"depth": 9}, 1.0) for _ in range(6)]
    for index, one in enumerate(finals):
        one.id = f"winner-{index}"
    assert importances([*trials, *finals]) == importances(trials)


def test_budgets_of_hyperband_are_not_taken_for_merit():
    # More epochs are worth more than any hyperparameter; which trials get them is chance here.
    rng = np.random.default_rng(0)
    trials = drawn(90, lambda values, _: values["depth"] / 10)
    for one in trials:
        bracket = int(rng.integers(3))
        one.values |= {"tuner/epochs": (2, 6, 18)[bracket], "tuner/round": 0, "tuner/bracket": 2 - bracket}
        one.score += 10.0 * bracket
    survivors = [
        trial(100 + index, {**one.values, "tuner/epochs": 6, "tuner/round": 1, "tuner/trial_id": one.id}, 50.0 - index)
        for index, one in enumerate(trials[:20])
    ]
    found = importances([*trials, *survivors])
    assert found.trials == 90
    assert found.hyperparameters[0].name == "depth"
    assert found.hyperparameters[0].share > 0.8
    assert not any(one.name.startswith("tuner/") for one in found.hyperparameters)
