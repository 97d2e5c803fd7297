"""What the cache of activations promises: the same numbers or none, whatever happens to processes, files and disks."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.parts import activation_filling, cache_folder
from recipes.parts.activation_file import ActivationFile
from recipes.parts.activation_store import ActivationStore, digest_of
from recipes.parts.cache_folder import STALE_SECONDS, default_folder, make_room, remove, size_text, stored
from recipes.parts.failure import Failed
from recipes.parts.file_lock import try_lock
from zoo.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)
KEY = {"cut": "block_1", "weights": "ab", "seed": 3}
GENEROUS = 10**9

posix = pytest.mark.skipif(sys.platform == "win32", reason="kills, links and unlinked files are those of POSIX")


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    return ActivationStore(tmp_path / "cache", notice=said.append)


def fill(store, key=KEY, rows=ROWS, *, batch=4, stop=None, **more):
    """Append batches from where the entry stands up to row `stop`; return where it stood."""
    with store.fill(key, shape=rows.shape, dtype=rows.dtype, **more) as entry:
        done = entry.done
        for begin in range(done, len(rows) if stop is None else stop, batch):
            entry.append(rows[begin : begin + batch])
    return done


def files(store):
    return {path.suffix: path for path in store.folder.iterdir()}


def key(number):
    return {"number": number}


@pytest.mark.parametrize("budget", [0, ROWS.nbytes - 1, ROWS.nbytes])
def test_what_was_filled_is_found_in_memory_or_mapped_and_never_to_be_changed(store, budget):
    assert store.find(KEY, memory_budget_bytes=budget) is None
    assert store.rows(KEY) == 0
    assert fill(store) == 0
    assert set(files(store)) == {".activations"}
    assert store.rows(KEY) == 10
    found = store.find(KEY, memory_budget_bytes=budget)
    assert found.dtype == ROWS.dtype
    assert np.array_equal(found, ROWS)
    assert isinstance(found, np.memmap) == (budget < ROWS.nbytes)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    assert fill(store) == 10  # nothing is left to do


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "bool"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5,), (3, 2, 2, 2)])
def test_plain_numbers_of_any_kind_and_shape(dtype, shape, store):
    rows = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
    fill(store, rows=rows)
    for budget in (0, GENEROUS):
        found = store.load(KEY, memory_budget_bytes=budget)
        assert (found.shape, found.dtype) == (rows.shape, rows.dtype)
        assert np.array_equal(found, rows)


def test_rows_need_not_be_contiguous_but_those_of_the_entry(store):
    transposed = np.moveaxis(np.ascontiguousarray(np.moveaxis(ROWS, 0, -1)), -1, 0)
    with store.fill(KEY, shape=ROWS.shape, dtype=np.float32) as entry:
        for wrong in (ROWS.astype(np.float64), ROWS.astype(">f4"), ROWS[:, :1], np.concatenate([ROWS, ROWS])):
            with pytest.raises(ValueError, match="next rows"):
                entry.append(wrong)
        entry.append(transposed)
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS)
    for shape, dtype in [((), "float32"), ((3,), object), ((3,), "datetime64[s]")]:
        with pytest.raises(ValueError, match="plain numbers"), store.fill(key(1), shape=shape, dtype=dtype):
            pass


def test_the_key_decides_and_not_the_order_of_its_parts(store):
    fill(store)
    reordered = dict(reversed(KEY.items()))
    assert store.find(reordered, memory_budget_bytes=0) is not None
    for other in ({**KEY, "seed": 4}, {**KEY, "seed": "3"}, {**KEY, "more": None}, {}):
        assert store.find(other, memory_budget_bytes=0) is None
    for no_json in ({"weights": b"ab"}, {"rate": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            digest_of(no_json)


def test_a_file_says_what_it_is(store):
    fill(store, about={"model": "m"})
    with files(store)[".activations"].open("rb") as file:
        header = json.loads(file.readline())
        assert file.tell() % 4096 == 0
        assert np.array_equal(np.fromfile(file, np.float32, ROWS.size).reshape(ROWS.shape), ROWS)
    assert header["key"] == KEY
    assert header["about"] == {"model": "m"}
    assert (header["shape"], header["dtype"], header["format"]) == ([10, 2, 3], "float32", 1)
    assert header["made_by"].startswith("keras-model-zoo ")
    assert header["created"].endswith("+00:00")


ROW, MARKS = ROWS.nbytes // 10, 4096 + ROWS.nbytes


@pytest.mark.parametrize(
    ("place", "done"),
    [
        (0, 0),
        (4095, 0),
        (4096, 0),
        (4096 + 3 * ROW - 1, 0),
        (4096 + 3 * ROW, 3),
        (4096 + 6 * ROW, 6),
        (4096 + 9 * ROW - 1, 6),
        (4096 + 9 * ROW, 9),
        (MARKS, 0),
        (MARKS + 16, 0),
        (MARKS + 31, 0),
        (MARKS + 2 * 16 + 9, 3),
        (MARKS + 3 * 16, 6),
    ],
)
@pytest.mark.parametrize("batch", [3, 5])
def test_a_damaged_partial_entry_goes_on_behind_what_is_good(place, done, batch, store, said):
    """Also if other appends than the first time follow: marks of those from before must not stand behind theirs."""
    fill(store, batch=3, stop=9)
    path = files(store)[".partial"]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert fill(store, batch=batch) == done
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS)
    assert set(files(store)) == {".activations"}


class Stopped(Exception):
    pass


def test_an_interrupted_entry_goes_on_at_a_whole_append(store, said):
    def broken():
        with store.fill(KEY, shape=ROWS.shape, dtype="float32") as entry:
            entry.append(ROWS[:4])
            entry.append(ROWS[4:8])
            raise Stopped

    with pytest.raises(Stopped):
        broken()
    assert set(files(store)) == {".partial"}
    assert store.rows(KEY) == 8
    assert store.find(KEY, memory_budget_bytes=0) is None
    with pytest.raises(Failed, match="run again"):
        store.load(KEY, memory_budget_bytes=0)
    assert fill(store) == 8
    assert said == [f"going on with the activations {digest_of(KEY)[:12]} at row 8 of 10"]
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS)


def test_nothing_is_left_of_an_entry_without_rows(store):
    assert fill(store, stop=0) == 0
    assert files(store) == {}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_sessions_and_damage_come_before_the_end_is_right(data):
    """Sessions append batches of any size and stop; between them bytes change, are lost or added."""
    rows = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=(data.draw(st.integers(1, 12)), 5))
    with tempfile.TemporaryDirectory() as folder:
        store = ActivationStore(Path(folder))
        counts = {0}
        for _ in range(data.draw(st.integers(0, 3))):
            with store.fill(KEY, shape=rows.shape, dtype=rows.dtype) as entry:
                assert entry.done in counts
                counts = {count for count in counts if count <= entry.done}
                for size in data.draw(st.lists(st.integers(1, 4), max_size=3)):
                    entry.append(rows[entry.done : min(len(rows), entry.done + size)])
                    counts.add(entry.done)
            for path in Path(folder).iterdir():
                assert path.suffix == (".activations" if entry.done == len(rows) else ".partial")
                content = bytearray(path.read_bytes())
                place = data.draw(st.integers(0 if data.draw(st.booleans()) else 4096, len(content) - 1))
                match data.draw(st.sampled_from(["nothing", "flip", "flip", "cut", "add", "add marks"])):
                    case "flip":
                        content[place] ^= data.draw(st.integers(1, 255))
                    case "cut":
                        del content[place:]
                    case "add":
                        content += data.draw(st.binary(min_size=1, max_size=40))
                    case "add marks":
                        content += content[-16:]
                path.write_bytes(content)
        fill(store, rows=rows, batch=3)
        assert np.array_equal(store.load(KEY, memory_budget_bytes=0), rows)
        assert np.array_equal(store.load(KEY, memory_budget_bytes=GENEROUS), rows)


@settings(max_examples=80, deadline=None)
@given(
    place=st.integers(0, 4096 + ROWS.nbytes + 4 * 16 - 1),
    flip=st.integers(0, 255),
    budget=st.sampled_from([0, GENEROUS]),
)
def test_no_changed_or_missing_byte_goes_unnoticed(place, flip, budget):
    with tempfile.TemporaryDirectory() as folder:
        said = []
        store = ActivationStore(Path(folder), notice=said.append)
        fill(store)
        (path,) = Path(folder).iterdir()
        content = bytearray(path.read_bytes())
        assert len(content) == 4096 + ROWS.nbytes + 4 * 16
        if flip:
            content[place] ^= flip
        path.write_bytes(content if flip else content[:place])
        assert store.find(KEY, memory_budget_bytes=budget) is None
        assert list(Path(folder).iterdir()) == []
        (line,) = said
        assert "damaged" in line
        assert "made again" in line
        assert "\n" not in line
        assert fill(store) == 0
        assert np.array_equal(store.load(KEY, memory_budget_bytes=budget), ROWS)


def made_up(**wrong):
    right = {"key": KEY, "shape": [3], "dtype": "float32", "itemsize": 4, "about": {}, "created": "", "made_by": ""}
    return json.dumps({**right, **wrong}).encode()


@pytest.mark.parametrize(
    "header",
    [
        b"\x80\x04\x95",  # a pickle
        b"[" * 100_000,
        b'{"shape": [10], "dtype": "float32"}',
        made_up(shape=[10, -2]),
        made_up(shape=[]),
        made_up(shape=[10**30]),
        made_up(dtype="object", itemsize=8),
        made_up(dtype="nothing"),
        made_up(itemsize=8),
        made_up(key=[]),
        made_up(about=[1]),
        made_up(more=1),
    ],
)
@pytest.mark.parametrize("suffix", [".activations", ".partial"])
def test_a_header_that_somebody_made_up(header, suffix, store, said):
    store.folder.mkdir()
    path = store.folder / f"{digest_of(KEY)}{suffix}"
    line = header.ljust(-(-(len(header) + 1) // 4096) * 4096 - 1) + b"\n"
    path.write_bytes(line + bytes(100))
    assert store.find(KEY, memory_budget_bytes=0) is None
    assert fill(store) == 0
    assert len(said) == 1
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS)


def test_an_object_array_whose_checksums_hold_is_not_opened(store, said, monkeypatch):
    """Pointers from a file would be followed."""
    monkeypatch.setattr("recipes.parts.activation_store.NUMBERS", "biufO")
    fill(store, rows=np.zeros(3))
    path = files(store)[".activations"]
    honest = cache_folder.describe(stored(store.folder)[0])[0]
    forged = type(honest)(**{**vars(honest), "dtype": "object"})
    with path.open("r+b", buffering=0) as file:
        file.truncate(0)
        ActivationFile.create(file, forged).append(memoryview(b"\1" * 24), rows=3)
    monkeypatch.undo()
    assert store.find(KEY, memory_budget_bytes=GENEROUS) is None
    assert "header makes no sense" in said[0]


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(store, said):
    fill(store, key(1))
    files(store)[".activations"].rename(store.folder / f"{digest_of(KEY)}.activations")
    assert store.find(KEY, memory_budget_bytes=0) is None
    assert "another array" in said[0]
    fill(store, key(1), stop=4)
    files(store)[".partial"].rename(store.folder / f"{digest_of(KEY)}.partial")
    assert fill(store) == 0
    assert "another array" in said[1]


@posix
def test_what_took_the_place_of_a_damaged_entry_meanwhile_stays(store):
    fill(store)
    path = files(store)[".activations"]
    good = path.read_bytes()
    path.write_bytes(good[:-1])

    def replace(line):
        path.with_suffix(".beside").write_bytes(good)
        path.with_suffix(".beside").replace(path)

    assert ActivationStore(store.folder, notice=replace).find(KEY, memory_budget_bytes=0) is None
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS)


def test_a_shape_that_the_key_did_not_tell(store, said):
    fill(store)
    assert fill(store, rows=ROWS[:6]) == 0
    assert "another array" in said[0]
    assert np.array_equal(store.load(KEY, memory_budget_bytes=0), ROWS[:6])


@posix
@pytest.mark.parametrize("suffix", [".activations", ".partial", ".lock"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
def test_what_is_no_file_of_the_cache_is_neither_followed_nor_removed(kind, suffix, store, tmp_path):
    store.folder.mkdir()
    mine = tmp_path / "mine"
    mine.write_text("precious")
    path = store.folder / f"{digest_of(KEY)}{suffix}"
    match kind:
        case "link":
            path.symlink_to(mine)
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    if suffix == ".activations":
        with pytest.raises(InputError, match="move it elsewhere"):
            store.find(KEY, memory_budget_bytes=0)
    if (kind, suffix) != ("pipe", ".lock"):  # a pipe can be locked, and harms nobody
        with pytest.raises(InputError, match=r"move it|Cannot write"):
            fill(store)
    assert stored(store.folder) == []
    make_room(store.folder, 10**9, limit=10**9)
    assert os.path.lexists(path)
    assert mine.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_foreign_files_stay_where_they_are(store):
    store.folder.mkdir()
    foreign = [
        "notes.txt",
        "a" * 64,
        f"{'g' * 64}.activations",
        f"{'a' * 63}.partial",
        f"x{'a' * 64}.lock",
        f"{'a' * 64}.lock.txt",
    ]
    for name in foreign:
        (store.folder / name).write_text("mine")
        os.utime(store.folder / name, (0, 0))
    fill(store)
    make_room(store.folder, 10**9, limit=10**9)
    assert sorted(path.name for path in store.folder.iterdir()) == sorted(foreign)


def fill_in_turn(folder, count=4):
    """Entries 0, 1, ..., used in this order, one minute after the other; return the size of each."""
    for number in range(count):
        fill(ActivationStore(folder), key(number))
        path = folder / f"{digest_of(key(number))}.activations"
        used = time.time() - 60 * (count - number)
        os.utime(path, (used, used))
    return path.stat().st_size


def there(folder, count=4):
    return [number for number in range(count) if (folder / f"{digest_of(key(number))}.activations").exists()]


def test_those_go_first_that_were_not_used_for_longest(tmp_path):
    size = fill_in_turn(tmp_path)
    ActivationStore(tmp_path).find(key(0), memory_budget_bytes=0)
    fill(ActivationStore(tmp_path, limit_bytes=4 * size), key(4))
    assert there(tmp_path, 5) == [0, 2, 3, 4]
    fill(ActivationStore(tmp_path, limit_bytes=3 * size), key(5))
    assert there(tmp_path, 6) == [0, 4, 5]


def test_what_the_run_has_asked_for_stays_and_a_limit_that_is_too_low_is_refused_before_anything_goes(tmp_path):
    size = fill_in_turn(tmp_path)
    store = ActivationStore(tmp_path, limit_bytes=3 * size)
    store.find(key(0), memory_budget_bytes=0)
    store.find(key(1), memory_budget_bytes=0)
    store.require_room(ROWS.nbytes)
    for refused in (lambda: store.require_room(2 * size), lambda: fill(store, key(5), np.zeros((2, size)))):
        with pytest.raises(InputError, match=r"besides 0\.0 MB in use, would pass the limit .*raise the limit") as line:
            refused()
        assert "\n" not in str(line.value)
    assert there(tmp_path) == [0, 1, 2, 3]
    fill(store, key(4))
    assert there(tmp_path, 5) == [0, 1, 4]
    with pytest.raises(InputError, match="limit"):
        fill(store, key(5))
    assert there(tmp_path, 6) == [0, 1, 4]


def test_what_somebody_is_filling_stays(tmp_path):
    size = fill_in_turn(tmp_path)
    other, store = ActivationStore(tmp_path), ActivationStore(tmp_path, limit_bytes=2 * size)
    with other.fill(key(9), shape=ROWS.shape, dtype="float32") as entry:
        entry.append(ROWS[:4])
        os.utime(tmp_path / f"{digest_of(key(9))}.partial", (0, 0))
        fill(store, key(4))
        assert there(tmp_path, 5) == [4]
        with pytest.raises(InputError, match="in use"):
            fill(store, key(5))
        entry.append(ROWS[4:])
    assert np.array_equal(other.load(key(9), memory_budget_bytes=0), ROWS)


def test_old_partial_entries_and_locks_go(store):
    fill(store, key(1), stop=4)
    fill(store, key(2), stop=4)
    lock = store.folder / f"{digest_of(key(3))}.lock"
    lock.touch()
    old = time.time() - STALE_SECONDS - 1
    for path in (lock, store.folder / f"{digest_of(key(1))}.partial"):
        os.utime(path, (old, old))
    fill(store)
    assert {path.name for path in store.folder.iterdir()} == {
        f"{digest_of(KEY)}.activations",
        f"{digest_of(key(2))}.partial",
    }


def free(monkeypatch, size):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda folder: usage(10**12, 0, size))


def test_a_disk_without_room_is_refused_before_anything_is_made_or_removed(tmp_path, monkeypatch):
    fill_in_turn(tmp_path)
    free(monkeypatch, 10**6)
    store = ActivationStore(tmp_path)
    with pytest.raises(
        InputError, match=r"No space for 8\.0 GB of activations in .*: 1\.0 MB are free .*`zoo cache clear.* ZOO_CACHE"
    ) as line:
        fill(store, key(5), np.broadcast_to(np.float64(0), (1000, 10**6)))
    assert "\n" not in str(line.value)
    assert there(tmp_path) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(InputError, match="No space"):
        store.require_room(10**9)


def test_old_entries_make_room_on_a_full_disk(tmp_path, monkeypatch):
    size = fill_in_turn(tmp_path)
    monkeypatch.setattr(cache_folder, "free_space", lambda folder: ROWS.nbytes - 1 + size * (4 - len(there(tmp_path))))
    fill(ActivationStore(tmp_path), key(4))
    assert there(tmp_path, 5) == [1, 2, 3, 4]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files cannot be allocated here")
def test_a_disk_that_was_said_to_have_room(store, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(activation_filling.os, "posix_fallocate", refuse)
    with pytest.raises(InputError, match=r"No space .*: Disk quota exceeded\. Make room"):
        fill(store)
    assert files(store) == {}


def test_a_disk_that_fills_up_keeps_what_was_appended(store, monkeypatch):
    write = ActivationFile._write

    def half(file, position, data):
        if file.data_start + 8 * file.header.row_bytes <= position < file.marks_start:
            write(file, position, data[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, position, data)

    fill(store, key(1))
    with monkeypatch.context() as full:
        full.setattr(ActivationFile, "_write", half)
        with pytest.raises(InputError, match=r"No space left on device\. 8 of 10 rows stay"):
            fill(store)
    assert fill(store) == 8
    for known in (KEY, key(1)):
        assert np.array_equal(store.load(known, memory_budget_bytes=0), ROWS)


@pytest.mark.parametrize("place", ["mine", "mine/below"])
def test_a_folder_that_cannot_be(place, tmp_path):
    (tmp_path / "mine").write_text("precious")
    store = ActivationStore(tmp_path / place)
    with pytest.raises(InputError, match=r"Cannot (read|write)"):
        store.find(KEY, memory_budget_bytes=0)
    with pytest.raises(InputError, match=r"Cannot write to the cache folder .*ZOO_CACHE"):
        fill(store)
    assert (tmp_path / "mine").read_text() == "precious"


def test_names_in_messages_are_printable(tmp_path):
    store = ActivationStore(tmp_path / "a\x1b[2J\nb", limit_bytes=1)
    with pytest.raises(InputError) as line:
        fill(store)
    assert r"a\x1b[2J\nb" in str(line.value)


@posix
def test_a_mapped_entry_can_be_read_after_it_went(store):
    fill(store)
    mapped = store.load(KEY, memory_budget_bytes=0)
    (entry,) = stored(store.folder)
    assert remove(entry)
    assert files(store) == {}
    fill(store, rows=ROWS + 1)
    assert np.array_equal(mapped, ROWS)


def test_memory_stays_below_a_batch_and_a_block(store):
    rows = np.random.default_rng(0).integers(0, 256, (64, 2**18), np.uint8)  # 16 MB
    tracemalloc.start()
    try:
        fill(store, rows=rows, batch=8)
        mapped = store.load(KEY, memory_budget_bytes=0)
        assert tracemalloc.get_traced_memory()[1] < 2**21
        del mapped
        tracemalloc.reset_peak()
        assert store.load(KEY, memory_budget_bytes=GENEROUS).nbytes == rows.nbytes
        assert tracemalloc.get_traced_memory()[1] < rows.nbytes + 2**21
    finally:
        tracemalloc.stop()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert default_folder() == ActivationStore().folder == tmp_path
    monkeypatch.setenv("ZOO_CACHE", "~/elsewhere")
    assert default_folder() == Path.home() / "elsewhere"
    monkeypatch.setenv("ZOO_CACHE", "")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "activations"


def test_sizes_for_people():
    assert [size_text(size) for size in (0, 49_000, 1_250_000, 12_345_678, 10**9, 12_345 * 10**9)] == [
        "0.0 MB",
        "0.0 MB",
        "1.2 MB",
        "12 MB",
        "1.0 GB",
        "12,345.0 GB",
    ]


def test_a_lock_has_one_holder_and_leaves_no_file(tmp_path):
    path = tmp_path / "lock"
    lock = try_lock(path)
    assert try_lock(path) is None
    lock.release()
    assert list(tmp_path.iterdir()) == []
    again = try_lock(path)
    assert again is not None
    again.release()


@posix
def test_a_lock_whose_file_went_while_it_was_opened_is_not_taken(tmp_path, monkeypatch):
    """Its last holder removes the file between opening and locking: what is locked then, nobody else would look for."""
    path, opened, real = tmp_path / "lock", [], os.open

    def open_late(*arguments):
        descriptor = real(*arguments)
        if not opened:
            path.unlink()
        opened.append(descriptor)
        return descriptor

    monkeypatch.setattr("recipes.parts.file_lock.os.open", open_late)
    lock = try_lock(path)
    assert len(opened) == 2
    assert try_lock(path) is None
    lock.release()


# Other processes, which need NumPy but not TensorFlow.


def python(code, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        **more,
    )


FILLER = """
    import sys
    from pathlib import Path
    import numpy as np
    from recipes.parts.activation_store import ActivationStore
    store = ActivationStore(Path(sys.argv[1]), notice=lambda line: print(line, flush=True))
    rows = np.arange(30, dtype="float32").reshape(10, 3)
    with store.fill({"k": 1}, shape=rows.shape, dtype=rows.dtype) as entry:
        for begin in range(entry.done, 10, 2):
            entry.append(rows[begin : begin + 2])
            print("appended", flush=True)
            if not begin:
                sys.stdin.readline()
    assert np.array_equal(store.load({"k": 1}, memory_budget_bytes=0), rows)
"""


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=posix)])
def test_of_two_processes_one_fills_and_the_other_waits_until_it_is_done_or_killed(killed, tmp_path):
    first = python(FILLER, tmp_path)
    assert first.stdout.readline() == "appended\n"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".partial"]
    second = python(FILLER, tmp_path)
    assert "waiting for it" in second.stdout.readline()
    if killed:
        first.kill()
        first.communicate()
    else:
        assert first.communicate("go on\n")[0] == 4 * "appended\n"
        assert first.returncode == 0
    shown = second.communicate()[0].splitlines()
    assert second.returncode == 0
    if killed:
        assert "going on" in shown[0]
        assert "at row 2 of 10" in shown[0]
        assert shown[1:] == ["appended"] * 4
    else:
        assert shown == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".activations"]


def test_waiting_can_be_ended(store):
    calls = []

    def give_up():
        calls.append(1)
        if len(calls) == 2:
            raise Stopped

    other = ActivationStore(store.folder)
    with store.fill(KEY, shape=ROWS.shape, dtype="float32") as entry:
        with pytest.raises(Stopped):
            fill(other, while_waiting=give_up)
        entry.append(ROWS)
    assert np.array_equal(other.load(KEY, memory_budget_bytes=0), ROWS)


KILLER = """
    import os, shutil, signal, sys
    from pathlib import Path
    import numpy as np
    from recipes.parts import activation_store
    from recipes.parts.activation_store import ActivationStore, digest_of

    base, stride = Path(sys.argv[1]), int(sys.argv[2])
    parts = str(Path(activation_store.__file__).parent)
    rows = np.arange(48, dtype="float32").reshape(12, 4)
    old, started, new = {"k": "old"}, {"k": "started"}, {"k": "new"}

    def fill(store, key, stop=12):
        with store.fill(key, shape=rows.shape, dtype=rows.dtype) as entry:
            done = entry.done
            for begin in range(done, stop, 4):
                entry.append(rows[begin : begin + 4])
        return done

    before = base / "before"
    fill(ActivationStore(before), old)
    fill(ActivationStore(before), started, stop=4)
    limit = sum(path.stat().st_size for path in before.iterdir()) + 5000  # `old` has to go for `new`
    folder = base / "folder"

    def run(kill_at):
        "Fill and evict in a process that dies at a line of ours; return how many lines it came to, or None if killed."
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            lines = 0
            def trace(frame, event, argument):
                nonlocal lines
                if not frame.f_code.co_filename.startswith(parts):
                    return None
                if event == "line":
                    lines += 1
                    if lines == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace
            sys.settrace(trace)
            store = ActivationStore(folder, limit_bytes=limit)
            fill(store, started)
            fill(store, new)
            store.load(new, memory_budget_bytes=0)
            sys.settrace(None)
            os.write(send, str(lines).encode())
            os._exit(0)
        os.close(send)
        status = os.waitpid(child, 0)[1]
        answer = os.read(receive, 20)
        os.close(receive)
        assert os.WIFEXITED(status) == bool(answer) == (kill_at == 0), (kill_at, status)
        return int(answer) if answer else None

    def check(kill_at):
        said = []
        store = ActivationStore(folder, limit_bytes=10**9, notice=said.append)
        for key in (old, started, new):
            found = store.find(key, memory_budget_bytes=10**9)
            assert found is None or np.array_equal(found, rows), kill_at
        assert not said, (kill_at, said)  # what has the name of a complete entry is one
        assert fill(store, started) >= 4, kill_at
        assert fill(store, new) % 4 == 0, kill_at
        for key in (started, new):
            assert np.array_equal(store.load(key, memory_budget_bytes=0), rows), kill_at
        assert not any("damaged behind" in line for line in said), (kill_at, said)
        assert {path.suffix for path in folder.iterdir()} <= {".activations", ".lock"}, kill_at

    shutil.copytree(before, folder)
    lines = run(0)
    for kill_at in range(1, lines + 1, stride):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        run(kill_at)
        check(kill_at)
    print(lines)
"""


@posix
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 61])
def test_a_kill_at_any_line_leaves_nothing_wrong(stride, tmp_path):
    process = python(KILLER, tmp_path, stride, stderr=subprocess.STDOUT)
    shown = process.communicate()[0]
    assert process.returncode == 0, shown
    assert int(shown) > 300
