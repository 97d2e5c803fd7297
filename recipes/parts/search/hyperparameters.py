"""The hyperparameters of a space: which values there are, how many combinations, and how they are written down."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import Boolean, Choice, Fixed, Float, HyperParameter, Int

Value: TypeAlias = bool | int | float | str

GRID = 10
"""Values that stand for a range without steps where all values are tried."""


def collect(hyperparameters: Iterable[HyperParameter]) -> HyperParameters:
    """Make a space of its hyperparameters, those on which others depend before these."""
    space = HyperParameters()
    space.merge(list(hyperparameters))
    return space


def is_active(hyperparameter: HyperParameter, values: Mapping[str, Value]) -> bool:
    """Whether all conditions of a hyperparameter hold."""
    return all(condition.is_active(values) for condition in hyperparameter.conditions)


def complete(space: HyperParameters, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the value of every active hyperparameter: the default of those that have none, nothing of inactive ones.

    Args:
        space: All hyperparameters.
        values: Some values by name.
    """
    found: dict[str, Value] = {}
    for each in space.space:
        if is_active(each, found):
            found[each.name] = values.get(each.name, each.default)
    return found


def all_values(hyperparameter: HyperParameter) -> Sequence[Value] | None:
    """Every value that a hyperparameter can take, in order, as KerasTuner draws them; None if there is no end of them.

    A range of integers has each of its values; what KerasTuner itself lists for one with a logarithmic scale are ten.
    """
    if isinstance(hyperparameter, Float):
        if hyperparameter.min_value == hyperparameter.max_value:
            return (hyperparameter.min_value,)
        return None if hyperparameter.step is None else tuple(map(float, hyperparameter.values))
    if isinstance(hyperparameter, Int):
        low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
        if step is None or hyperparameter.sampling == "linear":
            return range(low, high + 1, step or 1)
        return tuple(dict.fromkeys(map(int, hyperparameter.values)))
    return tuple(dict.fromkeys(hyperparameter.values))


def grid_values(hyperparameter: HyperParameter) -> Iterator[Value]:
    """The values of a hyperparameter one after the other, the default first; a few of a range without steps."""
    yield hyperparameter.default
    values = all_values(hyperparameter)
    if values is None:
        values = [hyperparameter.prob_to_value((index + 0.5) / GRID) for index in range(GRID)]
    yield from (value for value in values if value != hyperparameter.default)


def combinations(
    space: HyperParameters, values_of: Callable[[HyperParameter], Iterable[Value]] = grid_values
) -> Iterator[dict[str, Value]]:
    """Every combination of values, of the active hyperparameters only; the last hyperparameter changes fastest.

    Args:
        space: All hyperparameters.
        values_of: Gives those of a hyperparameter.
    """

    def walk(rest: Sequence[HyperParameter], values: dict[str, Value]) -> Iterator[dict[str, Value]]:
        if not rest:
            yield values
        elif not is_active(rest[0], values):
            yield from walk(rest[1:], values)
        else:
            for value in values_of(rest[0]):
                yield from walk(rest[1:], {**values, rest[0].name: value})

    return walk(space.space, {})


def count_combinations(space: HyperParameters) -> int | None:
    """How many combinations of values there are; None if there is no end of them.

    Hyperparameters that are inactive under some values of others count there for nothing.
    """
    counts = [_count(family) for family in _families(space)]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def _families(space: HyperParameters) -> list[list[HyperParameter]]:
    """Divide hyperparameters, so that none depends on one in another family; those on which others depend first."""
    families: list[list[HyperParameter]] = []
    for each in space.space:
        names = {each.name, *(condition.name for condition in each.conditions)}
        related = [family for family in families if any(member.name in names for member in family)]
        families = [family for family in families if family not in related]
        families.append([*(member for family in related for member in family), each])
    return families


def _count(hyperparameters: Sequence[HyperParameter]) -> int | None:
    @cache
    def count(index: int, parents: frozenset[tuple[str, Value]]) -> int | None:
        if index == len(hyperparameters):
            return 1
        here, rest = hyperparameters[index], index + 1
        # The values on which something to come depends; the others multiply what there is and are forgotten.
        needed = {condition.name for each in hyperparameters[rest:] for condition in each.conditions}
        kept = frozenset(pair for pair in parents if pair[0] in needed)
        if not is_active(here, dict(parents)):
            return count(rest, kept)
        values = all_values(here)
        if values is None:
            return None
        if here.name not in needed:
            others = count(rest, kept)
            return None if others is None else len(values) * others
        below = [count(rest, kept | {(here.name, value)}) for value in values]
        return None if None in below else sum(each for each in below if each is not None)

    return count(0, frozenset())


def to_json(space: HyperParameters) -> list[dict[str, Any]]:
    """Return a space as plain JSON.

    Raises:
        ValueError: If it holds a number that is not finite.
    """
    plain: list[dict[str, Any]] = json.loads(json.dumps(space.get_config()["space"], allow_nan=False))
    return plain


def from_json(plain: list[dict[str, Any]]) -> HyperParameters:
    """Return the space that `to_json` wrote, with the default of each active hyperparameter as its value."""
    # A copy, in which KerasTuner puts its own objects.
    config = {"space": json.loads(json.dumps(plain)), "values": {}}
    return collect(HyperParameters.from_config(config).space)


def range_text(hyperparameter: HyperParameter) -> str:
    """What a hyperparameter can be, in words: "one of 0.5, 1.0", "1 to 3", "0.001 to 0.1, log"."""
    if isinstance(hyperparameter, Fixed):
        return f"{hyperparameter.value}"
    if isinstance(hyperparameter, Boolean):
        return "true or false"
    if isinstance(hyperparameter, Choice):
        return f"one of {', '.join(map(str, hyperparameter.values))}"
    steps = hyperparameter.step is not None and not (isinstance(hyperparameter, Int) and hyperparameter.step == 1)
    by = "in factors of" if hyperparameter.sampling != "linear" else "in steps of"
    return (
        f"{hyperparameter.min_value} to {hyperparameter.max_value}"
        + (f", {by} {hyperparameter.step}" if steps else "")
        + (f", {hyperparameter.sampling.replace('_', ' ')}" if hyperparameter.sampling != "linear" else "")
    )


def condition_text(hyperparameter: HyperParameter) -> str:
    """When a hyperparameter is active, in words, with a space before them; "" if always."""
    parts = [f"{each.name} is {' or '.join(map(str, each.values))}" for each in hyperparameter.conditions]
    return f" where {' and '.join(parts)}" if parts else ""


def can_take(hyperparameter: HyperParameter, value: Value) -> bool:
    """Whether a hyperparameter can have a value, type included."""
    if isinstance(hyperparameter, Float) and hyperparameter.step is None:
        return isinstance(value, float) and hyperparameter.min_value <= value <= hyperparameter.max_value
    values = all_values(hyperparameter) or ()
    if isinstance(values, range):
        return type(value) is int and value in values
    # 1, 1.0 and True are equal in Python.
    return any(value == each and type(value) is type(each) for each in values)
