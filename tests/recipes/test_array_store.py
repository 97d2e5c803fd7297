"""Room for pixels, in memory or in a file that leaves no trace."""

import errno
import os
import sys
from collections import namedtuple

import numpy as np
import pytest

from recipes.parts import array_store
from recipes.parts.array_store import allocate
from zoo.errors import InputError

SHAPE = (10, 8, 8, 3)
BYTES = 10 * 8 * 8 * 3


def test_within_the_budget_it_is_memory(tmp_path):
    array = allocate(SHAPE, np.uint8, what="decoded images", memory_budget_bytes=BYTES, scratch_dir=tmp_path)
    assert not isinstance(array, np.memmap)
    assert (array.shape, array.dtype) == (SHAPE, np.uint8)


def test_beyond_the_budget_it_is_a_file_that_keeps_what_is_written(tmp_path):
    array = allocate(SHAPE, np.uint8, what="decoded images", memory_budget_bytes=BYTES - 1, scratch_dir=tmp_path)
    assert isinstance(array, np.memmap)
    assert (array.shape, array.dtype) == (SHAPE, np.uint8)
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    array[:] = values
    array.flush()
    assert np.array_equal(array, values)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file keeps its name on Windows")
def test_the_file_has_no_name_that_could_be_left_behind(tmp_path):
    array = allocate(SHAPE, np.uint8, what="decoded images", memory_budget_bytes=0, scratch_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    array[:] = 7
    assert array.sum() == 7 * BYTES


def test_no_space_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(array_store.shutil, "disk_usage", lambda folder: usage(10**12, 10**12, 2 * 10**9))
    with pytest.raises(
        InputError, match=r"No space for 15\.1 GB of decoded images in .*: 2\.0 GB are free\. Make room"
    ) as refusal:
        allocate(
            (100_000, 224, 224, 3), np.uint8, what="decoded images", memory_budget_bytes=2 * 10**9, scratch_dir=tmp_path
        )
    assert str(refusal.value).endswith("up to 2.0 GB of them stay in memory")
    assert "--" not in str(refusal.value)  # not every command that comes here has the same options


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files cannot be allocated here")
def test_a_quota_is_noticed_at_once_and_not_by_a_bus_error_later(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(array_store.os, "posix_fallocate", refuse)
    with pytest.raises(InputError, match="Disk quota exceeded"):
        allocate(SHAPE, np.uint8, what="decoded images", memory_budget_bytes=0, scratch_dir=tmp_path)


def test_a_scratch_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"No such file|cannot find"):
        allocate(SHAPE, np.uint8, what="decoded images", memory_budget_bytes=0, scratch_dir=tmp_path / "nowhere")
