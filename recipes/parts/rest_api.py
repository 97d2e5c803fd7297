"""Requests and answers in JSON as TensorFlow Serving has them, for one model.

    POST /v1/models/NAME:predict     {"instances": [{"image_bytes": {"b64": "..."}}]}
    GET  /v1/models/NAME             whether it is there

`/v1/models/NAME/versions/1` may stand in place of `/v1/models/NAME`. Labels of versions, `/metadata`, `classify` and
`regress` are not known here.

Reference:
    - [TensorFlow Serving, RESTful API](https://www.tensorflow.org/tfx/serving/api_rest)
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

Inputs = Mapping[str, tuple[np.dtype[Any], tuple[int | None, ...]]]
"""By name: dtype (`object` for strings, which are bytes) and shape of an input, where None stands for any number."""


class RequestError(Exception):
    """What is wrong with a request.

    Args:
        message: For the client.
        status: Of HTTP.
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Question:
    """What a client wants to know."""

    signature: str
    inputs: Mapping[str, np.ndarray]
    rows: bool
    """Whether it asked with `instances`, and wants the answers of each by themselves."""


def read_path(path: str, *, name: str, version: int) -> str:
    """Return what is asked of the model: `:predict`, or "" for its status.

    Args:
        path: Of the address, not percent-encoded.
        name: Of the model.
        version: Its number.

    Raises:
        RequestError: If something else is asked, or of another model or version.
    """
    known = re.fullmatch(r"/v1/models/(?P<name>[^/]+?)(?:/versions/(?P<version>\d+))?(?P<what>:predict|)", path)
    if known is None:
        raise RequestError(f"Malformed request: {path}")
    if known["name"] != name or int(known["version"] or version) != version:
        raise RequestError(f"Not served here: {path}. This is version {version} of {name}", HTTPStatus.NOT_FOUND)
    return known["what"]


def status(version: int) -> dict[str, Any]:
    """The answer to a question for the status."""
    state = {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [state]}


def read_question(body: bytes, signatures: Mapping[str, Inputs]) -> Question:
    """Understand the body of a request.

    Args:
        body: JSON: an object with `instances` (a list with all inputs of each image) or `inputs` (each input for all
            images), and perhaps `signature_name`. Where there is but one input, its name may be left out. Bytes are
            `{"b64": "..."}`.
        signatures: What can be asked.

    Raises:
        RequestError: If it makes no sense.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, or of what is nested very deeply
        raise RequestError(f"JSON Parse error: {error}") from None
    if not isinstance(asked, dict):
        raise RequestError("A request is a JSON object")
    name = asked.get("signature_name", "serving_default")
    if not isinstance(name, str) or name not in signatures:
        raise RequestError(f"Serving signature name: {json.dumps(name)} not found. There are: {', '.join(signatures)}")
    if ("instances" in asked) == ("inputs" in asked):
        raise RequestError("A request has one of 'instances' and 'inputs'")
    specs, rows = signatures[name], "instances" in asked
    columns = _columns(asked["instances"], specs) if rows else _named(asked["inputs"], specs)
    inputs = {key: _array(columns[key], key, *spec) for key, spec in specs.items()}
    if len({len(array) for array in inputs.values()}) > 1:
        raise RequestError("The inputs are not equally many")
    return Question(name, inputs, rows)


def write_answer(question: Question, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What to send back.

    Args:
        question: What was asked.
        outputs: By name, `(batch, ...)`; strings are bytes.
    """
    columns = {name: _plain(name, outputs[name]) for name in sorted(outputs)}
    alone = len(columns) == 1  # then the name is left out
    if not question.rows:
        return {"outputs": next(iter(columns.values())) if alone else columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [row[0] if alone else dict(zip(columns, row, strict=True)) for row in rows]}


def _columns(instances: Any, specs: Inputs) -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise RequestError("'instances' is a list with an item or more")
    rows = [_named(each, specs) for each in instances]
    return {key: [row[key] for row in rows] for key in specs}


def _named(value: Any, specs: Inputs) -> dict[str, Any]:
    """Inputs by name."""
    if isinstance(value, dict) and value.keys() != {"b64"}:
        if value.keys() != specs.keys():
            raise RequestError(f"The inputs are: {', '.join(specs)}. Received: {', '.join(value)}")
        return value
    if len(specs) > 1:
        raise RequestError(f"Give each input by its name: {', '.join(specs)}")
    return dict.fromkeys(specs, value)


def _array(value: Any, name: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]) -> np.ndarray:
    strings = dtype.kind == "O"
    expected = f"{name} is {'bytes' if strings else dtype} of shape {json.dumps(shape)}, null being any number"
    try:
        array = np.array(_with_bytes(value), object) if strings else np.array(value)
    except ValueError:  # lists of different lengths
        raise RequestError(expected) from None
    fits = array.ndim == len(shape) and all(want in (None, size) for size, want in zip(array.shape, shape, strict=True))
    if strings:
        fits = fits and all(isinstance(each, bytes) for each in array.flat)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = fits and array.dtype.kind in "iu" and bool(np.all((array >= limits.min) & (array <= limits.max)))
    else:
        fits = fits and array.dtype.kind in "iuf"
    if not fits:
        raise RequestError(expected)
    return array.astype(dtype)


def _with_bytes(value: Any) -> Any:
    """Text and base64 as bytes, in lists of any depth."""
    if isinstance(value, list):
        return [_with_bytes(each) for each in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        text = value["b64"]
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError("Unable to base64 decode") from None
    return value


def _plain(name: str, array: np.ndarray) -> list[Any]:
    """Nested lists of what JSON has."""
    if array.dtype.kind != "O":
        listed: list[Any] = array.tolist()
        return listed

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode("utf-8")

    plain: list[Any] = text(array.tolist())
    return plain
