"""Specs as JSON, and back, with every field checked."""

import dataclasses
import json
from typing import Any, TypeVar

from zoo.errors import InputError
from zoo.registry import unknown_name
from zoo.spec import PARTS, HeadSpec, ModelSpec, PoolSpec, StageSpec, StemSpec

Spec = TypeVar("Spec")

# The fields that hold a spec of their own; a pool may also be given by its name.
_NESTED: dict[type, dict[str, type]] = {
    ModelSpec: PARTS,
    StemSpec: {"pool": PoolSpec},
    StageSpec: {"pool": PoolSpec},
    HeadSpec: {"pool": PoolSpec},
}


def to_json(spec: ModelSpec) -> str:
    """Return a spec as a JSON object."""
    return json.dumps(_plain(spec), indent=2)


def from_json(text: str) -> ModelSpec:
    """Return the spec in a JSON object.

    Raises:
        InputError: If the text is no JSON, or a field is missing, unknown, given twice or has a value out of
        its range.
    """
    try:
        plain = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        raise InputError(f"This is no JSON: {error}") from None
    if isinstance(plain, dict) and isinstance(plain.get("stages"), list):
        plain["stages"] = tuple(_construct(StageSpec, stage) for stage in plain["stages"])
    return _construct(ModelSpec, plain)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: dict(part) if name == "arguments" else _plain(part) for name, part in fields.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _construct(spec_class: type[Spec], plain: object) -> Spec:
    """Call a spec's constructor with the fields of a JSON object."""
    kind = spec_class.__name__
    if not isinstance(plain, dict):
        raise InputError(f"{kind} must be a JSON object. Received: {plain!r}")
    fields = {field.name: field for field in dataclasses.fields(spec_class)}  # type: ignore[arg-type]  # all are specs
    for name in plain:
        if name not in fields:
            raise unknown_name(f"field of {kind}:", name, fields)
    values = dict(plain)
    for name, part in _NESTED.get(spec_class, {}).items():
        by_name = part is PoolSpec and isinstance(values.get(name), str)
        if values.get(name) is not None and not by_name:
            values[name] = _construct(part, values[name])
    try:
        return spec_class(**values)
    except TypeError as error:  # a missing field; wrong values are InputErrors already
        raise InputError(f"{kind}: {str(error).partition('__init__() ')[2] or error}.") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dictionary of a JSON object; of a field that is given twice JSON would silently take the last."""
    plain = dict(pairs)
    if len(plain) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError(f"The field {repeated!r} is given twice in one JSON object.")
    return plain
