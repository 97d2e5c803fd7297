import contextlib
import itertools
import json
import math
import random
from collections import Counter
from typing import get_args

import keras_tuner
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras_tuner.engine.trial import Trial

from recipes.parts.search import bayesian_oracle
from recipes.parts.search.engine import Exhausted, Wait, make_engine
from recipes.parts.search.hyperparameters import combinations, complete, count_combinations, from_json, to_json
from recipes.parts.search.job import EngineName
from zoo.errors import InputError

ENGINES = get_args(EngineName)


def small_space():
    """16 combinations, some hyperparameters inactive under the values of others."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("optimizer", ["sgd", "adamw"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Boolean("nesterov", default=True)
    with hp.conditional_scope("optimizer", ["adamw"]):
        hp.Choice("beta", [0.9, 0.99])
    hp.Int("depth", 1, 4, default=2)
    return hp


def endless_space():
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-3, 1.0, sampling="log", default=0.1)
    hp.Float("width", 0.5, 1.5, step=0.25, default=1.0)
    hp.Int("units", 4, 64, sampling="log")
    hp.Choice("pool", ["max", "avg", "gem"])
    return hp


def run(engine, *, score, start=0):
    """Run an engine to its end, a trial at a time, and return its trials."""
    trials = []
    for number in itertools.count(start):
        values = engine.suggest(f"{number:04d}")
        if not isinstance(values, dict):
            assert values == Exhausted()
            return trials
        trials.append(values)
        engine.tell(f"{number:04d}", score(values))


def own_of(values):
    return {name: value for name, value in values.items() if name.startswith("tuner/")}


def without_own(values):
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def key(values):
    return json.dumps(without_own(values), sort_keys=True)


@pytest.fixture
def few_candidates(monkeypatch):
    monkeypatch.setattr(bayesian_oracle, "CANDIDATES", 40)
    monkeypatch.setattr(bayesian_oracle, "NEIGHBOURS", 4)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["suggest", "suggest", "suggest", "tell", "tell", "fail", "take back"]), st.integers(0, 9)
    ),
    max_size=60,
)


def check_any_order(name, events, max_trials, seed):
    """One engine lives; another one dies after every step, and goes on from its state."""
    space = small_space()

    def make():
        return make_engine(name, space, "accuracy", seed, max_trials, max_epochs=9)

    def score(values):
        return round(random.Random(key(values)).random(), 1)  # with ties

    lives, dies = make(), make()
    running, ended, seen, taken_back = {}, {}, set(), 0
    # Whatever was asked for, in the end all is told and the rest is begun.
    finish = itertools.chain.from_iterable(itertools.repeat([("suggest", 0), ("tell", 0)], 200))
    for number, (event, place) in enumerate(itertools.chain(events, finish)):
        trial_id = f"{number:04d}"
        if event == "suggest":
            values = lives.suggest(trial_id)
            assert dies.suggest(trial_id) == values
            if isinstance(values, Exhausted):
                assert not running
                if number >= len(events):
                    break
            elif isinstance(values, Wait):
                assert running
            else:
                assert without_own(values) == complete(space, values)
                if not own_of(values).get("tuner/round"):
                    assert len(running) + len(ended) < max_trials
                    assert key(values) not in seen
                    seen.add(key(values))
                else:
                    before, begun = ended[values["tuner/trial_id"]]
                    assert before is not None
                    assert without_own(begun) == without_own(values)
                    assert begun["tuner/epochs"] == values["tuner/initial_epoch"] < values["tuner/epochs"]
                    assert (begun["tuner/bracket"], begun["tuner/round"]) == (
                        values["tuner/bracket"],
                        values["tuner/round"] - 1,
                    )
                running[trial_id] = values
        elif running:
            trial_id = list(running)[place % len(running)]
            values = running.pop(trial_id)
            for engine in (lives, dies):
                if event == "take back":
                    engine.take_back(trial_id)
                else:
                    engine.tell(trial_id, score(values) if event == "tell" else None)
            if event == "take back":
                taken_back += 1
            else:
                ended[trial_id] = score(values) if event == "tell" else None, values
        state = json.loads(json.dumps(dies.state(), allow_nan=False))
        dies = make()
        dies.restore(state)
        assert dies.state() == state == lives.state()
    else:
        pytest.fail("it never ends")
    if name != "hyperband":
        assert len(ended) == min(max_trials, 16 - taken_back)
    else:
        assert len(ended) >= min(max_trials, 16 - taken_back) - taken_back  # of later rounds as well


@pytest.mark.parametrize("name", ["random", "hyperband", "grid"])
@settings(max_examples=15, deadline=None)
@given(events=EVENTS, max_trials=st.integers(1, 20), seed=st.integers(0, 3))
def test_in_any_order_nothing_is_lost_or_repeated_and_a_restored_engine_goes_on(name, events, max_trials, seed):
    check_any_order(name, events, max_trials, seed)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, max_trials=st.integers(6, 20), seed=st.integers(0, 3))
def test_bayesian_in_any_order(few_candidates, events, max_trials, seed):
    check_any_order("bayesian", events, max_trials, seed)


@pytest.mark.parametrize("name", ENGINES)
def test_a_space_that_is_smaller_than_max_trials_is_tried_wholly(name, few_candidates):
    engine = make_engine(name, small_space(), "loss", 0, 30, max_epochs=9)
    trials = [values for values in run(engine, score=lambda values: 1.0) if not values.get("tuner/round")]
    assert {key(values) for values in trials} == {key(values) for values in combinations(small_space())}
    assert len(trials) == 16


@pytest.mark.parametrize("name", ENGINES)
def test_values_are_plain_and_in_range(name, few_candidates):
    engine = make_engine(name, endless_space(), "accuracy", 0, 12, max_epochs=3)
    for values in run(engine, score=lambda values: values["rate"]):
        assert [type(values[each]) for each in ("rate", "width", "units", "pool")] == [float, float, int, str]
        assert 1e-3 <= values["rate"] <= 1
        assert values["width"] in (0.5, 0.75, 1.0, 1.25, 1.5)
        assert 4 <= values["units"] <= 64


@pytest.mark.parametrize("name", ["random", "bayesian", "hyperband"])
def test_seeds(name, few_candidates):
    def trials(seed):
        return run(make_engine(name, endless_space(), "accuracy", seed, 8), score=lambda values: values["rate"])

    first = trials(0)
    state = random.getstate()
    assert trials(0) == first
    assert random.getstate() == state  # of Python's own generator nothing is taken
    rates = {values["rate"] for values in first}
    # Neighbouring seeds of KerasTuner draw the same numbers, one place later.
    assert not rates & {values["rate"] for seed in (1, 2, 3) for values in trials(seed)}


def test_misuse_is_told():
    with pytest.raises(InputError, match="Did you mean grid"):
        make_engine("gird", small_space(), "accuracy", 0, 5)
    with pytest.raises(InputError, match="max_trials=0"):
        make_engine("grid", small_space(), "accuracy", 0, 0)
    engine = make_engine("grid", small_space(), "accuracy", 0, 5)
    engine.suggest("a")
    for wrong in (lambda: engine.suggest("a"), lambda: engine.tell("b", 1.0), lambda: engine.take_back("b")):
        with pytest.raises(ValueError, match="trial"):
            wrong()
    engine.tell("a", float("nan"))
    assert json.dumps(engine.state(), allow_nan=False)
    with pytest.raises(InputError, match="begun with --engine grid"):
        make_engine("random", small_space(), "accuracy", 0, 5).restore(engine.state())


@pytest.mark.parametrize("name", ENGINES)
def test_a_larger_space_goes_on_with_what_is_known(name, few_candidates):
    larger = small_space()
    larger.Boolean("blur")
    engine = make_engine(name, small_space(), "accuracy", 0, 40, max_epochs=3)
    before = [engine.suggest(f"a{number}") for number in range(8)]
    for number in range(5):
        engine.tell(f"a{number}", 0.1 * number)
    engine.take_back("a5")
    engine.extend(larger)
    restored = make_engine(name, larger, "accuracy", 0, 40, max_epochs=3)
    restored.restore(json.loads(json.dumps(engine.state())))
    for each in (engine, restored):
        for number in (6, 7):
            each.tell(f"a{number}", 0.5)
    after = run(engine, score=lambda values: 0.0)
    assert run(restored, score=lambda values: 0.0) == after
    new = {key(values) for values in after if not values.get("tuner/round")}
    old = {key({**values, "blur": False}) for values in before if not values.get("tuner/round")}
    assert not new & old
    assert new | old == {key(values) for values in combinations(larger)}


def test_grid_is_in_the_order_of_kerastuner():
    theirs = keras_tuner.oracles.GridSearchOracle(hyperparameters=small_space())
    expected = []
    while (response := theirs.populate_space(str(len(expected))))["status"] == "RUNNING":
        trial_id = str(len(expected))
        expected.append(response["values"])
        trial = Trial(theirs.get_space(), trial_id)
        trial.hyperparameters.values = response["values"]
        theirs.trials[trial_id] = trial
        theirs.start_order.append(trial_id)
        theirs._populate_next.append(trial_id)
    engine = make_engine("grid", small_space(), "accuracy", 0, 100)
    assert run(engine, score=lambda values: 0.0) == expected
    assert len(expected) == 16


def test_a_grid_has_ten_values_of_a_range_and_its_default():
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 0.0, 1.0, default=0.3)
    rates = [values["rate"] for values in run(make_engine("grid", hp, "loss", 0, 99), score=lambda values: 0.0)]
    assert rates == pytest.approx([0.3, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95])


# Hyperband


def rounds(trials):
    return Counter((values["tuner/bracket"], values["tuner/round"]) for values in trials)


def test_hyperband_has_the_rounds_of_the_paper():
    engine = make_engine("hyperband", endless_space(), "accuracy", 0, 66, max_epochs=27)
    trials = run(engine, score=lambda values: values["rate"])
    sizes = {(3, 0): 27, (3, 1): 9, (3, 2): 3, (3, 3): 1, (2, 0): 12, (2, 1): 4, (2, 2): 2, (1, 0): 6, (1, 1): 2}
    assert rounds(trials) == sizes
    epochs = {(values["tuner/bracket"], values["tuner/round"]): values["tuner/epochs"] for values in trials}
    assert epochs == {(bracket, number): 27 // 3 ** (bracket - number) for bracket, number in sizes}
    for bracket in (1, 2, 3):
        first, second = (
            sorted(each["rate"] for each in trials if (each["tuner/bracket"], each["tuner/round"]) == (bracket, number))
            for number in (0, 1)
        )
        assert second == first[-len(second) :]


def test_hyperband_does_not_wait_for_those_that_fail():
    engine = make_engine("hyperband", endless_space(), "loss", 0, 40, max_epochs=27)
    number = itertools.count()

    def score(values):
        # Of the first round 2 of 27 are left, and of the second 1.
        worst = (
            next(number) not in (3, 12) if values["tuner/round"] == 0 else values["tuner/round"] == 1 and failing.pop()
        )
        return None if worst else values["rate"]

    failing = [True, False]
    trials = [values for values in run(engine, score=score) if values["tuner/bracket"] == 3]
    assert rounds(trials) == {(3, 0): 27, (3, 1): 2, (3, 2): 1, (3, 3): 1}


def test_hyperband_ends_if_all_fail():
    engine = make_engine("hyperband", endless_space(), "loss", 0, 30, max_epochs=9)
    assert len(run(engine, score=lambda values: None)) == 30


def test_what_hyperband_has_begun_goes_through_its_rounds():
    engine = make_engine("hyperband", endless_space(), "loss", 0, 10, max_epochs=27)
    assert rounds(run(engine, score=lambda values: values["rate"])) == {(3, 0): 10, (3, 1): 4, (3, 2): 2, (3, 3): 1}


def test_hyperband_fills_the_place_of_what_is_taken_back():
    engine = make_engine("hyperband", endless_space(), "loss", 0, 9, max_epochs=9)
    for number in range(9):
        assert isinstance(engine.suggest(f"a{number}"), dict)
    assert engine.suggest("b0") == Wait()
    engine.take_back("a3")
    assert engine.suggest("b0")["tuner/round"] == 0
    assert engine.suggest("b1") == Wait()


def test_hyperband_names_the_bracket_to_which_a_trial_belongs():
    engine = make_engine("hyperband", endless_space(), "loss", 0, 100, max_epochs=9)
    begun = [engine.suggest(f"a{number}") for number in range(12)]
    assert [values["tuner/bracket"] for values in begun] == [2] * 9 + [1] * 3
    for number in range(12):
        engine.tell(f"a{number}", begun[number]["rate"])
    goes_on = engine.suggest("b0")
    assert (goes_on["tuner/bracket"], goes_on["tuner/round"]) == (2, 1)
    assert goes_on["rate"] == min(values["rate"] for values in begun[:9])


# Bayesian


def test_bayesian_finds_what_random_search_does_not():
    hp = keras_tuner.HyperParameters()
    for number in range(3):
        hp.Float(f"x{number}", 1e-3, 1e-1, sampling="log")
        hp.Choice(f"y{number}", ["a", "b", "c"])

    def score(values):
        squares = sum((math.log10(values[f"x{number}"]) + 1.5 + 0.2 * number) ** 2 for number in range(3))
        return sum(values[f"y{number}"] == "b" for number in range(3)) - squares

    def best(name):
        return max(map(score, run(make_engine(name, hp, "accuracy", 0, 30), score=score)))

    assert best("bayesian") > 2.8 > 2.2 > best("random")


def test_bayesian_leaves_alone_what_fails(few_candidates):
    engine = make_engine("bayesian", endless_space(), "accuracy", 0, 40)
    trials = run(engine, score=lambda values: None if values["units"] > 20 else 0.02 * values["units"])
    failed = [values["units"] > 20 for values in trials]
    assert sum(failed[20:]) < sum(failed[:20])


def test_bayesian_begins_with_a_third_of_the_trials_at_most():
    many = keras_tuner.HyperParameters()
    for number in range(15):
        many.Float(f"x{number}", 0, 1)
    for max_trials, expected in ((60, 15), (30, 10), (4, 2)):
        engine = make_engine("bayesian", many, "accuracy", 0, max_trials)
        assert engine._oracle.num_initial_points == expected
    assert make_engine("bayesian", endless_space(), "accuracy", 0, 60)._oracle.num_initial_points == 5


# Spaces as sets of combinations


@st.composite
def spaces(draw):
    hp = keras_tuner.HyperParameters()
    for number in range(draw(st.integers(1, 5))):
        name = f"x{number}"
        with contextlib.ExitStack() as scopes:
            if hp.space and draw(st.booleans()):
                parent = draw(st.sampled_from(hp.space))
                chosen = draw(st.lists(st.sampled_from(list(parent.values)), min_size=1, unique=True))
                for scope, values in (*((each.name, each.values) for each in parent.conditions), (parent.name, chosen)):
                    scopes.enter_context(hp.conditional_scope(scope, values))
            kind = draw(st.sampled_from(["choice", "int", "boolean", "fixed"]))
            if kind == "choice":
                hp.Choice(name, draw(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)))
            elif kind == "int":
                hp.Int(name, 1, draw(st.integers(1, 6)), step=draw(st.integers(1, 3)))
            elif kind == "boolean":
                hp.Boolean(name)
            else:
                hp.Fixed(name, 3)
    return hp


@settings(max_examples=40, deadline=None)
@given(spaces())
def test_combinations_are_counted_without_making_them(space):
    made = [key(values) for values in combinations(space)]
    assert len(set(made)) == len(made) == count_combinations(space)
    again = from_json(json.loads(json.dumps(to_json(space))))
    assert [key(values) for values in combinations(again)] == made
    assert to_json(again) == to_json(space)


def test_large_spaces_are_counted_at_once():
    hp = keras_tuner.HyperParameters()
    for number in range(40):
        hp.Choice(f"a{number}", [1, 2, 3])
    for number in range(20):
        with hp.conditional_scope(f"a{number}", [1]):
            hp.Int(f"b{number}", 1, 10**9)
    assert count_combinations(hp) == 3**20 * (10**9 + 2) ** 20
    assert count_combinations(endless_space()) is None


def test_a_range_that_is_never_active_does_not_make_a_space_endless():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("optimizer", "sgd")
    with hp.conditional_scope("optimizer", ["adamw"]):
        hp.Float("rate", 0, 1)
    assert count_combinations(hp) == 1
