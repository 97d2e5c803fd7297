"""The reader of torch checkpoints, on files that Python's pickler writes as torch did, and hostile ones."""

import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import InputError
from zoo.weights.torch_checkpoint import read_torch_checkpoint

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class FloatStorage:
    """What stands for torch.FloatStorage while a test writes a checkpoint."""


class LongStorage:
    """What stands for torch.LongStorage."""


class DoubleStorage:
    """What stands for torch.DoubleStorage, which the reader does not take."""


def _rebuild_tensor_v2() -> None:
    """What stands for torch._utils._rebuild_tensor_v2."""


class Storage:
    def __init__(self, key: str, elements: np.ndarray, kind: type | None = None, claimed: int | None = None) -> None:
        self.key, self.elements = key, elements
        self.kind = kind or {"f": FloatStorage, "i": LongStorage}[elements.dtype.kind]
        self.claimed = elements.size if claimed is None else claimed


class Tensor:
    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> None:
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> Any:
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> Any:
        if isinstance(obj, Storage):
            return ("storage", obj.kind, obj.key, "cpu", obj.claimed, None)
        return None


@pytest.fixture(scope="module", autouse=True)
def torch() -> Any:
    """A module that pickles under torch's names; the reader must not look at it."""
    torch, torch_utils = ModuleType("torch"), ModuleType("torch._utils")
    for kind in (FloatStorage, LongStorage, DoubleStorage):
        kind.__module__ = "torch"
        setattr(torch, kind.__name__, kind)
    _rebuild_tensor_v2.__module__ = "torch._utils"
    torch_utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", torch_utils)
        yield


def checkpoint(
    tensors: object, storages: list[Storage], *, magic: object = MAGIC_NUMBER, system: object = SYSTEM
) -> bytes:
    """The bytes that `torch.save(tensors, ..., _use_new_zipfile_serialization=False)` would write."""
    file = io.BytesIO()
    for part in (magic, 1001, system, tensors, [storage.key for storage in storages]):
        Pickler(file, protocol=2).dump(part)
    for storage in storages:
        file.write(struct.pack("<q", storage.elements.size) + storage.elements.tobytes())
    return file.getvalue()


def state_dict(tensors: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """A dictionary with the attribute that torch's own has."""
    result = OrderedDict(tensors)
    result._metadata = OrderedDict([("", {"version": 1})])
    return result


def small_checkpoint() -> bytes:
    floats = Storage("100", np.arange(12, dtype="<f4"))
    counter = Storage("200", np.array([7], dtype="<i8"))
    tensors = {
        "kernel": Tensor(floats, 0, (2, 3, 2), (6, 2, 1)),
        "transposed": Tensor(floats, 0, (2, 3, 2), (1, 4, 2)),
        "tail": Tensor(floats, 10, (2,), (1,)),
        "counter": Tensor(counter, 0, (), ()),
        "empty": Tensor(floats, 12, (0, 3), (3, 1)),
    }
    return checkpoint(state_dict(tensors), [floats, counter])


def read(data: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "checkpoint.pth"
    path.write_bytes(data)
    return read_torch_checkpoint(path)


def test_reads_views_with_strides_and_offsets(tmp_path: Path) -> None:
    tensors = read(small_checkpoint(), tmp_path)
    floats = np.arange(12, dtype="float32")
    assert list(tensors) == ["kernel", "transposed", "tail", "counter", "empty"]
    np.testing.assert_array_equal(tensors["kernel"], floats.reshape(2, 3, 2))
    np.testing.assert_array_equal(tensors["transposed"], floats.reshape(3, 2, 2).transpose(2, 0, 1))
    np.testing.assert_array_equal(tensors["tail"], [10, 11])
    assert tensors["counter"].dtype == np.int64
    assert tensors["counter"] == 7
    assert tensors["empty"].shape == (0, 3)
    assert not tensors["kernel"].flags.writeable


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_any_axis_order_and_slice(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axes = data.draw(st.permutations(range(len(shape))))
    start = data.draw(st.tuples(*(st.integers(0, size - 1) for size in shape)))
    base = np.random.default_rng(0).standard_normal(shape).astype("<f4")
    view = base[tuple(slice(first, None) for first in start)].transpose(axes)
    storage = Storage("0", base.ravel())
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // 4
    tensor = Tensor(storage, offset, view.shape, tuple(step // 4 for step in view.strides))
    np.testing.assert_array_equal(read(checkpoint({"x": tensor}, [storage]), tmp_path)["x"], view)


@given(cut=st.integers(0, 10**6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    data = small_checkpoint()
    with pytest.raises(InputError, match=r"checkpoint\.pth is not a legacy torch checkpoint"):
        read(data[: cut % len(data)], tmp_path)


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_refused_or_harmless(tmp_path: Path, position: int, value: int) -> None:
    data = bytearray(small_checkpoint())
    data[position % len(data)] = value
    try:
        tensors = read(bytes(data), tmp_path)
    except InputError:
        return
    assert all(isinstance(tensor, np.ndarray) for tensor in tensors.values())


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("place", ["magic", "system", "tensors", "inside"])
def test_code_is_not_run(tmp_path: Path, place: str) -> None:
    marker = tmp_path / "marker"
    evil = Evil(os.mkdir, str(marker))
    assert pickle.loads(pickle.dumps(evil)) is None
    assert marker.exists()
    marker.rmdir()
    data = {
        "magic": lambda: checkpoint({}, [], magic=evil),
        "system": lambda: checkpoint({}, [], system=evil),
        "tensors": lambda: checkpoint(evil, []),
        "inside": lambda: checkpoint({"x": evil}, []),
    }[place]()
    with pytest.raises(InputError, match=f"it asks for '{os.mkdir.__module__}.mkdir'"):
        read(data, tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "function",
    [eval, getattr, __import__, OrderedDict.fromkeys, np.zeros],
    ids=lambda function: function.__qualname__,
)
def test_other_functions_are_refused(tmp_path: Path, function: Any) -> None:
    with pytest.raises(InputError, match="it asks for"):
        read(checkpoint({"x": Evil(function, "a")}, []), tmp_path)


# What Python's pickler does not write by itself: pickles that stand in place of the dictionary.
GLOBAL_DICT = b"ccollections\nOrderedDict\n"
HOSTILE_PICKLES = {
    "a memo index that takes 64 GB": b"\x80\x02}r\xff\xff\xff\xff.",
    "a call of the dictionary's type with arguments": GLOBAL_DICT + b"(X\x01\x00\x00\x00atR.",
    "a call of a string": b"X\x01\x00\x00\x00a)R.",
    "a type in place of a dictionary": GLOBAL_DICT + b".",
    "state for a type": GLOBAL_DICT + b"}b.",
    "construction by NEWOBJ": GLOBAL_DICT + b")\x81.",
    "an object by INST": b"(icollections\nOrderedDict\n.",
    "an object by OBJ": b"(" + GLOBAL_DICT + b"o.",
    "the extension registry": b"\x82\x01.",
    "a name from the stack": b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
    "a frame": b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00}.",
    "4 GB of text": b"X\xff\xff\xff\xffabc.",
    "more bytes than addresses": b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7f1.",
    "an empty stack": b"\x80\x020.",
    "nothing before the stop": b".",
    "a mark that is missing": b"\x80\x02t.",
    "an unknown place in the memo": b"\x80\x02h\x05.",
    "an unknown instruction": b"\xff.",
    "no end": b"\x80\x02}" * 10,
    "a key that is no string": b"}K\x01K\x02s.",
    "a key that takes for ever to hash": b"})" + b"q\x00h\x00\x86" * 60 + b"K\x02s.",
    "an item for a list": b"]X\x01\x00\x00\x00aK\x02s.",
    "an item for a type": GLOBAL_DICT + b"X\x01\x00\x00\x00aK\x02s.",
    "a storage that is no tuple": b"K\x01Q.",
    "a storage of another kind": b"(X\x06\x00\x00\x00moduleNNNNNtQ.",
    "a list": b"].",
    "values that are no tensors": b"}X\x01\x00\x00\x00aK\x02s.",
}


@pytest.mark.parametrize("hostile", HOSTILE_PICKLES.values(), ids=HOSTILE_PICKLES)
def test_hostile_pickles_are_refused_in_little_memory(tmp_path: Path, hostile: bytes) -> None:
    start = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC_NUMBER, 1001, SYSTEM))
    end = pickle.dumps([], protocol=2)
    tracemalloc.start()
    try:
        if hostile == HOSTILE_PICKLES["a memo index that takes 64 GB"]:
            assert read(start + hostile + end, tmp_path) == {}
        else:
            with pytest.raises(InputError, match="is not a legacy torch checkpoint"):
                read(start + hostile + end, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


FLOATS = Storage("0", np.arange(6, dtype="<f4"))
HUGE = 2**60


@pytest.mark.parametrize(
    ("tensors", "storages", "message"),
    [
        ({"x": Tensor(FLOATS, 0, (7,), (1,))}, [FLOATS], "'x' reaches beyond its storage"),
        ({"x": Tensor(FLOATS, 1, (3, 2), (2, 1))}, [FLOATS], "'x' reaches beyond its storage"),
        ({"x": Tensor(FLOATS, 0, (3, 2), (3, 1))}, [FLOATS], "'x' reaches beyond its storage"),
        ({"x": Tensor(FLOATS, HUGE, (1,), (1,))}, [FLOATS], "'x' reaches beyond its storage"),
        ({"x": Tensor(FLOATS, 0, (HUGE,), (1,))}, [FLOATS], "'x' reaches beyond its storage"),
        ({"x": Tensor(FLOATS, 0, (HUGE,), (0,))}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (6,), (0,))}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (3, 2), (1, 0))}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (2, 2), (1, 1))}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (2, 3), (2, 1))}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (2**30,) * 8, (1,) * 8)}, [FLOATS], "'x' shows an element of its storage twice"),
        ({"x": Tensor(FLOATS, 0, (1,) * 9, (1,) * 9)}, [FLOATS], "'x' has 9 axes"),
        ({"x": Tensor(FLOATS, 0, (1,), (2**80,))}, [FLOATS], "not a legacy torch checkpoint"),
        ({"x": Tensor(FLOATS, -1, (2,), (1,))}, [FLOATS], "a size, offset or stride is negative"),
        ({"x": Tensor(FLOATS, 5, (2,), (-1,))}, [FLOATS], "a size, offset or stride is negative"),
        ({"x": Tensor(FLOATS, 0, (-2,), (1,))}, [FLOATS], "a size, offset or stride is negative"),
        ({"x": Tensor(FLOATS, 0, (2, 2), (1,))}, [FLOATS], "not a legacy torch checkpoint"),
        ({"x": Tensor(FLOATS, 0, [2], (1,))}, [FLOATS], "a list where a tuple belongs"),
        ({"x": Tensor(FLOATS, 0.0, (2,), (1,))}, [FLOATS], "it holds the pickle instruction b'G'"),
        ({"x": Tensor(FLOATS, True, (2,), (1,))}, [FLOATS], "a bool where a int belongs"),
        ({"x": Tensor("0", 0, (2,), (1,))}, [FLOATS], "a str where a _Storage belongs"),
        ({"x": Tensor(FLOATS, 0, (2,), (1,))}, [], "its list of storages and its tensors do not match"),
        (
            {"x": Tensor(FLOATS, 0, (2,), (1,))},
            [FLOATS, FLOATS],
            "its list of storages and its tensors do not m",
        ),
        ({}, [FLOATS], "its list of storages and its tensors do not match"),
        (
            {"x": Tensor(Storage("0", FLOATS.elements, claimed=HUGE), 0, (2,), (1,))},
            [FLOATS],
            "it ends before the storage '0' does",
        ),
        (
            {"x": Tensor(Storage("0", FLOATS.elements, claimed=5), 0, (2,), (1,))},
            [FLOATS],
            "the storage '0' has another size than its tensors say",
        ),
        (
            {
                "x": Tensor(FLOATS, 0, (2,), (1,)),
                "y": Tensor(Storage("0", FLOATS.elements, LongStorage), 0, (2,), (1,)),
            },
            [FLOATS],
            "'y' contradicts another about their storage",
        ),
        (
            {"x": Tensor(Storage("0", FLOATS.elements, DoubleStorage), 0, (2,), (1,))},
            [FLOATS],
            "it asks for 'torch.DoubleStorage'",
        ),
    ],
)
def test_views_that_lie_are_refused_in_little_memory(
    tmp_path: Path, tensors: dict[str, Tensor], storages: list[Storage], message: str
) -> None:
    data = checkpoint(tensors, storages)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=message):
            read(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_thousand_views_of_one_storage_take_the_memory_of_one(tmp_path: Path) -> None:
    storage = Storage("0", np.zeros(250_000, "<f4"))
    data = checkpoint({str(i): Tensor(storage, 0, (250_000,), (1,)) for i in range(1000)}, [storage])
    tracemalloc.start()
    try:
        assert len(read(data, tmp_path)) == 1000
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a legacy torch checkpoint"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a legacy torch checkpoint"),
        (
            b"PK\x03\x04" + bytes(100),
            r"zip format; only the legacy format is read\. Save it with torch\.save",
        ),
        (pickle.dumps(3, protocol=2), "does not start with torch's magic number"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(data, tmp_path)


def test_bytes_behind_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 bytes follow the last storage"):
        read(small_checkpoint() + b"abc", tmp_path)


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="byte order is not little-endian"):
        read(checkpoint({}, [], system=SYSTEM | {"little_endian": False}), tmp_path)
