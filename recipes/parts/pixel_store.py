"""A large array of pixels: in memory up to a budget, beyond it in a file that nobody else sees."""

import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from recipes.parts.names import printable
from zoo.errors import InputError


def allocate(shape: tuple[int, ...], *, memory_budget_bytes: int, scratch_dir: Path | str | None = None) -> np.ndarray:
    """Make room for pixels.

    Args:
        shape: Of the array.
        memory_budget_bytes: A larger array is mapped from a file. Its pages can leave memory at any time, so
            the array may be far larger than memory.
        scratch_dir: Where the file goes; by default where temporary files go. It has no name there, where the
            operating system allows that, and disappears with the array or the process, however that ends.

    Returns:
        uint8 array of any content.

    Raises:
        InputError: If there is not enough space for the file.
    """
    needed = math.prod(shape)
    if needed <= memory_budget_bytes:
        return np.empty(shape, np.uint8)
    folder = Path(scratch_dir or tempfile.gettempdir())
    try:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise OSError(None, f"{_gigabytes(free)} are free")
        with tempfile.TemporaryFile(dir=folder) as file:
            # A sparse file would let the process die of a bus error when the disk is full, half way through.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            return np.memmap(file, np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"No space for {_gigabytes(needed)} of decoded images in {printable(str(folder))}: "
            f"{error.strerror or error}. Make room there, or take fewer images: up to "
            f"{_gigabytes(memory_budget_bytes)} of them stay in memory"
        ) from error


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
