"""What is different between the space of a search and the one it is to go on with."""

from typing import TypeAlias

from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import Float, HyperParameter

from recipes.parts.search.hyperparameters import all_values, can_take, condition_text, range_text

Key: TypeAlias = tuple[str, str]


def differences(old: HyperParameters, new: HyperParameters) -> list[str]:
    """Tell two spaces apart.

    Args:
        old: Of the search so far.
        new: What it is to go on with.

    Returns:
        A line for each hyperparameter that came, went or changed; none if the spaces are equal.
    """
    before, after = _by_key(old), _by_key(new)
    lines = []
    for key, each in before.items():
        name = each.name + condition_text(each)
        if key not in after:
            lines.append(f"{name}: was {_text(each)}, is gone")
        elif _text(after[key]) != _text(each):
            lines.append(f"{name}: was {_text(each)}, is {_text(after[key])}")
    came = (each for key, each in after.items() if key not in before)
    return [*lines, *(f"{each.name}{condition_text(each)}: is new, {_text(each)}" for each in came)]


def can_extend(old: HyperParameters, new: HyperParameters) -> bool:
    """Whether a search can go on with another space: all that could be tried in the old one can be in the new one.

    That is so where values were added to choices, ranges made wider, fixed values set free, or hyperparameters added;
    defaults may change.

    Args:
        old: Of the search so far.
        new: What it is to go on with.
    """
    after = _by_key(new)
    return all(key in after and _covers(after[key], each) for key, each in _by_key(old).items())


def _by_key(space: HyperParameters) -> dict[Key, HyperParameter]:
    """Hyperparameters by what makes them one and the same: name and conditions."""
    return {(each.name, condition_text(each)): each for each in space.space}


def _text(hyperparameter: HyperParameter) -> str:
    return f"{range_text(hyperparameter)} (default {hyperparameter.default})"


def _covers(new: HyperParameter, old: HyperParameter) -> bool:
    before, after = all_values(old), all_values(new)
    if before is None:
        unlimited = isinstance(new, Float) and after is None
        return unlimited and new.min_value <= old.min_value and old.max_value <= new.max_value
    if isinstance(before, range) and isinstance(after, range):  # too many to look at one by one
        return before[0] in after and before[-1] in after and (len(before) == 1 or before.step % after.step == 0)
    return (after is None or len(before) <= len(after)) and all(can_take(new, value) for value in before)
