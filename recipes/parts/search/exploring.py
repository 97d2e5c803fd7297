"""Find the hyperparameters of a space, and what some values of them make of a model."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import Boolean, Choice, Fixed, Float, HyperParameter

from recipes.parts.search.candidates import Architecture, Candidate, FineTuning
from recipes.parts.search.hyperparameters import (
    Value,
    all_values,
    can_take,
    collect,
    complete,
    condition_text,
    from_json,
    range_text,
    to_json,
)
from recipes.parts.search.oracles import without_own
from recipes.parts.search.space import Space
from zoo.errors import InputError
from zoo.registry import unknown_name


def explore(space: Space, base: Any) -> HyperParameters:
    """Find all hyperparameters of a space, those in conditional scopes included.

    The function of the space is called with its defaults, then with each value of each choice, and so that every
    conditional scope is entered; nothing is trained or built.

    Args:
        space: What to explore.
        base: What its function starts from.

    Returns:
        The hyperparameters, those on which others depend before these, with the defaults as values.

    Raises:
        InputError: If the function fails or gives no candidate, if a hyperparameter makes no sense, or if a scope
            can never be entered.
    """
    found: list[HyperParameter] = []
    to_try: list[dict[str, Value]] = [{}]
    closed: list[Any] = []
    while to_try:
        hp = _Exploring(found, to_try.pop(0))
        _sample(space, hp, base)
        for each in hp.space[len(found) :]:
            found.append(_checked(each))
            if isinstance(each, Choice | Boolean):
                wanted = _entering(each.conditions, found)
                to_try += [{**wanted, each.name: value} for value in all_values(each) or ()]
        for scope in hp.inactive_scopes:
            if scope not in closed:
                closed.append(scope)
                to_try.append(_entering(scope, found))
    try:
        return from_json(to_json(collect(found)))
    except ValueError:
        raise InputError(f"The space {space.name!r} has a hyperparameter with a number that is not finite") from None


def sampled(
    space: Space, base: Any, values: Mapping[str, Value], hyperparameters: HyperParameters | None = None
) -> Candidate:
    """Return what some values make of a model.

    Args:
        space: Whose function makes it.
        base: What it starts from.
        values: By name; those whose names begin with `tuner/` are left aside. A hyperparameter that is not among them
            has its default, so that `{}` gives the default candidate.
        hyperparameters: All of the space, as `explore` finds them, or some of them fixed; found anew if left away.

    Raises:
        InputError: If a value has no hyperparameter, or the function fails, gives no candidate, or asks for a
            hyperparameter that exploring did not find.
    """
    known = explore(space, base) if hyperparameters is None else hyperparameters
    plain = without_own(values)
    names = dict.fromkeys(each.name for each in known.space)
    for name in plain:
        if name not in names:
            raise unknown_name("hyperparameter", name, names)
    return _sample(space, _Answering(known.space, plain), base)


def _sample(space: Space, hp: HyperParameters, base: Any) -> Candidate:
    candidate = space.sample(hp, base)
    kind = Architecture if space.recipe == "train" else FineTuning
    if not isinstance(candidate, kind):
        shown = repr(candidate) if len(repr(candidate)) < 80 else f"a {type(candidate).__name__}"
        raise InputError(
            f"The space {space.name!r} must return a recipes.parts.search.candidates.{kind.__name__}, as its recipe is "
            f"{space.recipe!r}. Received: {shown}"
        )
    return candidate


class _Answering(HyperParameters):
    """Hyperparameters that are known, and give some values.

    Args:
        known: All of them.
        values: By name. Those without have their defaults.
    """

    def __init__(self, known: Iterable[HyperParameter], values: Mapping[str, Value]) -> None:
        super().__init__()
        hyperparameters = collect(known)
        self.values = complete(hyperparameters, values)
        self.merge(hyperparameters, overwrite=False)

    def _retrieve(self, hp: HyperParameter) -> Any:
        if not self._exists(hp.name, hp.conditions):
            raise InputError(
                f"The hyperparameter {hp.name!r}{condition_text(hp)} is asked for only where several others have "
                "certain values, so that the search does not know of it. Ask for it inside hp.conditional_scope, and "
                "not below an `if`"
            )
        return super()._retrieve(hp)


class _Exploring(HyperParameters):
    """Hyperparameters of which some are known, and others are to be found.

    Args:
        known: Those found so far.
        values: What to answer; others have their defaults.
    """

    def __init__(self, known: Iterable[HyperParameter], values: Mapping[str, Value]) -> None:
        super().__init__()
        self.values = dict(values)
        self.merge(list(known), overwrite=False)

    def _retrieve(self, hp: HyperParameter) -> Any:
        for other in self._hps.get(hp.name, ()):
            if other.conditions == hp.conditions:
                if range_text(_checked(hp)) != range_text(other):
                    raise InputError(
                        f"The hyperparameter {hp.name!r} is asked for twice, as {range_text(other)} and as "
                        f"{range_text(hp)}. Give one of them another name"
                    )
            elif not _exclude_each_other(hp, other):
                raise InputError(
                    f"The hyperparameter {hp.name!r}{condition_text(hp)} is also asked for{condition_text(other)}, "
                    "which may be at once. Give one of them another name"
                )
        return super()._retrieve(hp)


def _exclude_each_other(first: HyperParameter, second: HyperParameter) -> bool:
    """Whether two hyperparameters depend on different values of a third."""
    return any(
        one.name == other.name and not set(one.values) & set(other.values)
        for one in first.conditions
        for other in second.conditions
    )


def _entering(scope: Iterable[Any], found: Iterable[HyperParameter]) -> dict[str, Value]:
    """Values under which all conditions of a scope hold."""
    values: dict[str, Value] = {}
    for condition in scope:
        parents = [each for each in found if each.name == condition.name]
        possible = [value for value in condition.values if any(can_take(parent, value) for parent in parents)]
        if not possible:
            raise InputError(
                f"A conditional scope is never entered: {condition.name} cannot be "
                f"{' or '.join(map(str, condition.values))}, but {range_text(parents[0])}"
            )
        values[condition.name] = possible[0]
    return values


def _checked(hyperparameter: HyperParameter) -> HyperParameter:
    """The same, with a default of the type of its values; or the error that it has none that it can take."""
    default = hyperparameter.default
    if isinstance(hyperparameter, Fixed):
        return hyperparameter
    if isinstance(hyperparameter, Float):
        steps = map(float, all_values(hyperparameter) or ())
        default = next((step for step in steps if math.isclose(step, default)), float(default))
    if not can_take(hyperparameter, default):
        raise InputError(
            f"The default of the hyperparameter {hyperparameter.name!r} must be {range_text(hyperparameter)}. "
            f"Received: default={default!r}"
        )
    return type(hyperparameter).from_config({**hyperparameter.get_config(), "default": default})
