"""Configurations as JSON files: the form of the `config.json` that each run leaves, and that `--config` reads."""

import dataclasses
import difflib
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import InputError
from zoo.spec import ModelSpec
from zoo.spec_json import from_json, to_json

T = TypeVar("T")


def config_to_json(config: Any, *, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration as plain JSON values.

    Args:
        config: An instance of a dataclass of plain values, tuples, further dataclasses and specs of models.
        leave_out: Names of fields that say nothing about the result, such as where it is written.
    """
    return {name: value for name, value in _plain(config).items() if name not in leave_out}


def _plain(value: Any) -> Any:
    if isinstance(value, ModelSpec):
        return json.loads(to_json(value))
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read_config(kind: type[T], path: Path) -> T:
    """Read a configuration file.

    Args:
        kind: The dataclass that the file describes. Fields that the file leaves away keep their defaults.
        path: A JSON file.

    Raises:
        InputError: If the file cannot be read, is not JSON, names an unknown field or holds a value of the wrong type.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"The configuration {path} is not JSON: {error}") from None
    return _parse(kind, values, str(path))


def _parse(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gave it, turned into `kind`; `where` says in errors which value it is."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is ModelSpec:
        return _parse_spec(value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _parse_dataclass(kind, value, where)
    if origin is typing.Literal:
        if value in arguments:
            return value
    elif origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _parse(inner, value, where)
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_parse(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif kind is Path:
        if isinstance(value, str):
            return Path(value)
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise InputError(f"{where} must be {_name(kind)}. Received: {value!r}")


def _parse_spec(value: Any, where: str) -> ModelSpec:
    try:
        return from_json(json.dumps(value))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _parse_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be an object with the fields of {kind.__name__}. Received: {value!r}")
    known = typing.get_type_hints(kind)
    for name in value:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"{where} has an unknown field {name!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
                + f" Known: {', '.join(known)}"
            )
    try:
        return kind(**{name: _parse(known[name], item, f"{where}: {name}") for name, item in value.items()})
    except TypeError:
        required = [
            item.name
            for item in dataclasses.fields(kind)
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        ]
        missing = ", ".join(name for name in required if name not in value)
        raise InputError(f"{where} lacks: {missing}") from None


def _name(kind: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    if typing.get_origin(kind) is tuple:
        return "a list"
    if typing.get_origin(kind) is dict:
        return "an object"
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(repr(argument) for argument in typing.get_args(kind))
    return names.get(kind, getattr(kind, "__name__", str(kind)))
