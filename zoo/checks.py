"""What the values in a spec must be, checked where the spec is made."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from zoo.errors import InputError

PlainValue: TypeAlias = bool | int | float | str | tuple["PlainValue", ...] | None
Arguments: TypeAlias = Mapping[str, Any] | tuple[tuple[str, PlainValue], ...]


def check_name(spec: object, field_name: str) -> None:
    """Refuse what is no name: it may become part of a layer's or a file's name."""
    value = getattr(spec, field_name)
    if not isinstance(value, str) or not value or "/" in value:
        raise _wrong(spec, field_name, "must be a name without slashes")


def check_choice(spec: object, field_name: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is not among the choices."""
    if getattr(spec, field_name) not in choices:
        raise _wrong(spec, field_name, f"must be one of: {', '.join(choices)}")


def check_flag(spec: object, field_name: str) -> None:
    """Refuse anything but True and False."""
    if not isinstance(getattr(spec, field_name), bool):
        raise _wrong(spec, field_name, "must be True or False")


def check_count(spec: object, field_name: str) -> None:
    """Refuse anything but an int of at least 1."""
    if not is_count(getattr(spec, field_name)):
        raise _wrong(spec, field_name, "must be a positive int")


def check_number(spec: object, field_name: str) -> None:
    """Refuse anything but a finite number."""
    if not is_number(getattr(spec, field_name)):
        raise _wrong(spec, field_name, "must be a finite number")


def is_count(value: object) -> bool:
    """Whether a value is an int of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def plain_arguments(spec: object, arguments: object) -> tuple[tuple[str, PlainValue], ...]:
    """Return keyword arguments as sorted pairs, which can be compared and hashed.

    Raises:
        InputError: If they are no mapping from names to plain values.
    """
    kind = type(spec).__name__
    try:
        plain = dict(arguments)  # type: ignore[call-overload]  # whatever it is: that is what is being found out
    except (TypeError, ValueError):
        raise InputError(f"{kind}: `arguments` must be a mapping. Received: arguments={arguments!r}") from None
    for name, value in plain.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise InputError(
                f"{kind}: `arguments` must map names to plain values (bool, int, finite float, str, None or a tuple "
                f"of these). Received: {name!r}: {value!r}"
            )
    return tuple(sorted((name, _frozen(value)) for name, value in plain.items()))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return isinstance(value, bool | str | None) or is_number(value)


def _frozen(value: Any) -> PlainValue:
    return tuple(_frozen(item) for item in value) if isinstance(value, tuple | list) else value


def _wrong(spec: object, field_name: str, rule: str) -> InputError:
    received = f"{field_name}={getattr(spec, field_name)!r}"
    return InputError(f"{type(spec).__name__}: `{field_name}` {rule}. Received: {received}")
