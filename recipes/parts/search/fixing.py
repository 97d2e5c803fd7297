"""Leave hyperparameters out of a search: give them one value."""

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from keras_tuner import HyperParameters
from keras_tuner.engine.hyperparameters import Boolean, Fixed, Float, HyperParameter, Int

from recipes.parts.search.hyperparameters import (
    Value,
    all_values,
    can_take,
    collect,
    condition_text,
    range_text,
)
from zoo.errors import InputError
from zoo.registry import unknown_name


def fix(space: HyperParameters, values: Mapping[str, Value]) -> HyperParameters:
    """Give some hyperparameters one value each; the others are searched.

    Args:
        space: All hyperparameters.
        values: By name; text, as it comes from a command line, or what the hyperparameter takes.

    Raises:
        InputError: If there is no such hyperparameter, or it cannot have the value.

    Example:
        ```python
        fix(hyperparameters, {"optimizer": "adamw", "width": "0.5"})
        ```
    """
    names = dict.fromkeys(each.name for each in space.space)
    for name in values:
        if name not in names:
            raise unknown_name("hyperparameter", name, names)
    return collect(
        _fixed(each, _read(each, values[each.name])) if each.name in values else each for each in space.space
    )


def keep_only(space: HyperParameters, patterns: Sequence[str]) -> HyperParameters:
    """Search some hyperparameters; the others keep their defaults.

    Args:
        space: All hyperparameters.
        patterns: Names, beginnings of names up to a `_` or `/` (`pool` stands for `pool_stage1` and `pool_stage2`), or
            wildcards (`*_stage1`).

    Raises:
        InputError: If nothing has such a name.
    """
    names = list(dict.fromkeys(each.name for each in space.space))
    kept: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if _matches(name, pattern)}
        if not matching:
            raise unknown_name("hyperparameter", pattern, names)
        kept |= matching
    return collect(each if each.name in kept else _fixed(each, each.default) for each in space.space)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.startswith((f"{pattern}_", f"{pattern}/"))


def _fixed(hyperparameter: HyperParameter, value: Value) -> HyperParameter:
    return Fixed(hyperparameter.name, value, conditions=hyperparameter.conditions)


def _read(hyperparameter: HyperParameter, given: Value) -> Value:
    """Make of text, or of a number, a value that a hyperparameter can have."""
    try:
        value = _reader(hyperparameter)(given)
    except (ValueError, TypeError, OverflowError):
        value = None
    if isinstance(hyperparameter, Float) and value is not None and hyperparameter.step is not None:
        # 0.3 is not three steps of 0.1.
        steps = map(float, all_values(hyperparameter) or ())
        value = next((step for step in steps if math.isclose(step, value)), None)
    if value is None or not can_take(hyperparameter, value):
        raise InputError(
            f"The hyperparameter {hyperparameter.name!r}{condition_text(hyperparameter)} can be "
            f"{range_text(hyperparameter)}. Received: {given}"
        )
    return value


def _reader(hyperparameter: HyperParameter) -> Callable[[Any], Any]:
    if isinstance(hyperparameter, Boolean):
        return _read_boolean
    if isinstance(hyperparameter, Int):
        return _read_integer
    kind = float if isinstance(hyperparameter, Float) else type(hyperparameter.default)
    return {bool: _read_boolean, int: _read_integer}.get(kind, kind)


def _read_integer(given: Any) -> int:
    number = int(given)
    if not isinstance(given, str) and number != given:
        raise ValueError
    return number


def _read_boolean(given: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(given).lower() not in words:
        raise ValueError
    return words[str(given).lower()]
