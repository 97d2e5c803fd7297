"""Read the tensors of a legacy torch checkpoint, without torch and without trusting the file.

Before version 1.6 `torch.save` wrote five pickles (a magic number, a protocol version, facts about the
machine, the object itself, the list of storage keys) and then the storages: for each key the number of
elements, as 8 bytes, and the elements. In the pickled object a tensor is a view of a storage: an offset, a
shape and a stride per axis.

A pickle is a program for a small stack machine, and Python's own machine lets that program import and call
anything. Limiting which names it may import is not enough: one instruction can still make it allocate
gigabytes, another set attributes of the objects that are allowed. So this file holds a machine of its own,
which knows only the instructions that a dictionary of tensors needs, imports nothing, calls nothing, and
refuses everything else. The tensors it returns are views of the bytes that were read, so that no file can ask
for more memory than its own size.
"""

import io
import math
import pickle  # the names of its instructions; nothing else of it is used
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_STORAGE_TYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch LongStorage": np.dtype("<i8"),
}
_MOST_AXES = 8
_ORDERED_DICT = "collections OrderedDict"
_REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"


@dataclass(frozen=True)
class _Global:
    """An importable thing that the pickle names. Only the name; nothing is imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int  # elements


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


class _RefusedError(Exception):
    """The file is damaged, or holds something that a dictionary of tensors does not need."""


def read_torch_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Read a legacy checkpoint that holds a dictionary of float32 and int64 tensors.

    Args:
        path: The file.

    Returns:
        The tensors by name, as read-only views with the file's strides.

    Raises:
        InputError: If the file is no such checkpoint, is damaged, or holds anything else.
    """
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path} is a torch checkpoint in the zip format; only the legacy format is read. Save it with "
            "torch.save(..., _use_new_zipfile_serialization=False)."
        )
    try:
        return _read(data)
    # What malformed pickles and views make Python and NumPy raise.
    except (_RefusedError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is not a legacy torch checkpoint of plain tensors, or is damaged: {error}") from None


def _read(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if _run_pickle(stream) != _MAGIC_NUMBER:
        raise _RefusedError("it does not start with torch's magic number")
    if _run_pickle(stream) != _PROTOCOL_VERSION:
        raise _RefusedError("its protocol version is unknown")
    system = _run_pickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("its byte order is not little-endian")
    tensors = _run_pickle(stream)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise _RefusedError("it holds something else than a dictionary of tensors")
    storage_keys = _run_pickle(stream)
    if not isinstance(storage_keys, list) or not all(isinstance(key, str) for key in storage_keys):
        raise _RefusedError("its list of storages is malformed")
    starts = _find_storages(data, stream.tell(), storage_keys, tensors)
    return {name: _view(data, starts[tensor.storage.key], tensor, name) for name, tensor in tensors.items()}


def _find_storages(
    data: bytes, position: int, storage_keys: list[str], tensors: Mapping[str, _Tensor]
) -> dict[str, int]:
    """Return where in the file the elements of each storage start, having checked that they are there."""
    storages: dict[str, _Storage] = {}
    for name, tensor in tensors.items():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise _RefusedError(f"tensor {name!r} contradicts another about their storage")
    if len(storage_keys) != len(storages) or set(storage_keys) != set(storages):
        raise _RefusedError("its list of storages and its tensors do not match")
    starts = {}
    for key in storage_keys:
        storage = storages[key]
        start = position + 8
        position = start + storage.size * storage.dtype.itemsize
        if position > len(data):
            raise _RefusedError(f"it ends before the storage {key!r} does")
        if int.from_bytes(data[start - 8 : start], "little") != storage.size:
            raise _RefusedError(f"the storage {key!r} has another size than its tensors say")
        starts[key] = start
    if position != len(data):
        raise _RefusedError(f"{len(data) - position} bytes follow the last storage")
    return starts


def _view(data: bytes, start: int, tensor: _Tensor, name: str) -> np.ndarray:
    """Return the tensor as a view, having checked that it stays inside its storage and repeats none of it."""
    size, itemsize = tensor.storage.size, tensor.storage.dtype.itemsize
    if len(tensor.shape) > _MOST_AXES:
        raise _RefusedError(f"tensor {name!r} has {len(tensor.shape)} axes")
    elements = math.prod(tensor.shape)
    reach = 0  # from the first element to the last
    for step, n in sorted(zip(tensor.strides, tensor.shape, strict=True)):
        # A longer step than all shorter ones together cannot lead to an element that these have led to.
        if elements > 0 and n > 1 and step <= reach:
            raise _RefusedError(f"tensor {name!r} shows an element of its storage twice")
        reach += (n - 1) * step
    if elements > 0 and tensor.offset + reach >= size:
        raise _RefusedError(f"tensor {name!r} reaches beyond its storage")
    view: np.ndarray = np.ndarray(
        tensor.shape,
        tensor.storage.dtype,
        buffer=data,
        offset=start + (tensor.offset * itemsize if elements else 0),
        strides=[step * itemsize for step in tensor.strides],
    )
    return view


def _run_pickle(stream: io.BytesIO) -> Any:
    """Run one pickle with the few instructions that a checkpoint needs, and leave the stream behind it."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        mark = marks.pop()
        items = stack[mark:]
        del stack[mark:]
        return items

    while True:
        match code := _read_bytes(stream, 1):
            case pickle.PROTO:
                _read_bytes(stream, 1)
            case pickle.NONE:
                stack.append(None)
            case pickle.NEWTRUE:
                stack.append(True)
            case pickle.NEWFALSE:
                stack.append(False)
            case pickle.BININT:
                stack.append(int.from_bytes(_read_bytes(stream, 4), "little", signed=True))
            case pickle.BININT1:
                stack.append(_read_size(stream, 1))
            case pickle.BININT2:
                stack.append(_read_size(stream, 2))
            case pickle.LONG1:
                digits = _read_bytes(stream, _read_size(stream, 1))
                stack.append(int.from_bytes(digits, "little", signed=True))
            case pickle.BINUNICODE:
                stack.append(_read_bytes(stream, _read_size(stream, 4)).decode("utf-8"))
            case pickle.EMPTY_DICT:
                stack.append({})
            case pickle.EMPTY_LIST:
                stack.append([])
            case pickle.EMPTY_TUPLE:
                stack.append(())
            case pickle.MARK:
                marks.append(len(stack))
            case pickle.TUPLE:
                stack.append(tuple(pop_to_mark()))
            case pickle.TUPLE1:
                stack[-1:] = [tuple(stack[-1:])]
            case pickle.TUPLE2:
                stack[-2:] = [tuple(stack[-2:])]
            case pickle.TUPLE3:
                stack[-3:] = [tuple(stack[-3:])]
            case pickle.BINPUT:
                memo[_read_size(stream, 1)] = stack[-1]
            case pickle.LONG_BINPUT:
                memo[_read_size(stream, 4)] = stack[-1]
            case pickle.BINGET:
                stack.append(memo[_read_size(stream, 1)])
            case pickle.LONG_BINGET:
                stack.append(memo[_read_size(stream, 4)])
            case pickle.APPEND:
                item = stack.pop()
                _checked(stack[-1], list).append(item)
            case pickle.APPENDS:
                items = pop_to_mark()
                _checked(stack[-1], list).extend(items)
            case pickle.SETITEM:
                value, key = stack.pop(), stack.pop()
                _checked(stack[-1], dict)[_checked(key, str)] = value
            case pickle.SETITEMS:
                items = pop_to_mark()
                for key, value in zip(items[::2], items[1::2], strict=True):
                    _checked(stack[-1], dict)[_checked(key, str)] = value
            case pickle.GLOBAL:
                module, name = stream.readline(), stream.readline()
                stack.append(_admit(f"{module.decode().strip()} {name.decode().strip()}"))
            case pickle.BINPERSID:
                stack.append(_storage(stack.pop()))
            case pickle.REDUCE:
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduce(function, arguments))
            case pickle.BUILD:  # attributes of the dictionary, which are torch's own business: its `_metadata`
                stack.pop()
            case pickle.STOP:
                return stack.pop()
            case _:
                raise _RefusedError(f"it holds the pickle instruction {code!r}, which no dictionary of tensors needs")


def _read_bytes(stream: io.BytesIO, count: int) -> bytes:
    read = stream.read(count)
    if len(read) != count:
        raise _RefusedError("a pickle does not end")
    return read


def _read_size(stream: io.BytesIO, count: int) -> int:
    return int.from_bytes(_read_bytes(stream, count), "little")


def _admit(name: str) -> _Global:
    if name not in {_ORDERED_DICT, _REBUILD_TENSOR, *_STORAGE_TYPES}:
        raise _RefusedError(f"it asks for {name[:80].replace(' ', '.')!r}, which no dictionary of plain tensors needs")
    return _Global(name)


def _reduce(function: object, arguments: Any) -> Any:
    """What the pickle asks to call, as data: an empty dictionary, or the description of a tensor."""
    if function == _Global(_ORDERED_DICT) and arguments == ():
        return {}
    if function == _Global(_REBUILD_TENSOR):
        # The last two, whether it wants gradients and its hooks, mean nothing for a file of weights.
        storage, offset, shape, strides, _, _ = _checked(arguments, tuple)
        return _Tensor(
            _checked(storage, _Storage),
            _checked_size(offset),
            tuple(_checked_size(size) for size in _checked(shape, tuple)),
            tuple(_checked_size(step) for step in _checked(strides, tuple)),
        )
    raise _RefusedError("it asks for a call that no dictionary of tensors needs")


def _storage(identifier: Any) -> _Storage:
    """What stands for a storage in the pickle: ("storage", type, key, device, elements, None)."""
    word, storage_type, key, _, size, view = _checked(identifier, tuple)
    name = _checked(storage_type, _Global).name
    if word != "storage" or view is not None or name not in _STORAGE_TYPES:
        raise _RefusedError("a storage is described in an unknown way")
    return _Storage(_checked(key, str), _STORAGE_TYPES[name], _checked_size(size))


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _RefusedError(f"it holds a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _checked_size(value: Any) -> int:
    if _checked(value, int) < 0:
        raise _RefusedError("a size, offset or stride is negative")
    return int(value)
