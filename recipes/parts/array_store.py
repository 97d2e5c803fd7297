"""A large array: in memory up to a budget, beyond it in a file that nobody else sees."""

import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from recipes.parts.names import printable
from zoo.errors import InputError


def allocate(
    shape: tuple[int, ...],
    dtype: type[np.generic],
    *,
    what: str,
    memory_budget_bytes: int,
    scratch_dir: Path | str | None = None,
) -> np.ndarray:
    """Make room for an array.

    Args:
        shape: Of the array.
        dtype: Of its numbers.
        what: What will stand in it, for the error message: "decoded images".
        memory_budget_bytes: A larger array is mapped from a file. Its pages can leave memory at any time, so
            the array may be far larger than memory.
        scratch_dir: Where the file goes; by default where temporary files go. It has no name there, where the
            operating system allows that, and disappears with the array or the process, however that ends.

    Returns:
        Array of any content.

    Raises:
        InputError: If there is not enough space for the file.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed <= memory_budget_bytes:
        return np.empty(shape, dtype)
    folder = Path(scratch_dir or tempfile.gettempdir())
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(None, f"{_gigabytes(free)} are free")
        with tempfile.TemporaryFile(dir=folder) as file:
            # A sparse file would let the process die of a bus error when the disk is full, half way through.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            return np.memmap(file, dtype, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"No space for {_gigabytes(needed)} of {what} in {printable(str(folder))}: "
            f"{error.strerror or error}. Make room there, or take fewer images: up to "
            f"{_gigabytes(memory_budget_bytes)} of them stay in memory"
        ) from error


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
