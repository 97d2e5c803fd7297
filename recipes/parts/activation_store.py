"""What frozen layers say of images, kept on disk between runs, each array under a key that decides its numbers."""

import datetime
import hashlib
import importlib.metadata
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from recipes.parts.activation_file import FORMAT, ActivationFile, Damaged, Header
from recipes.parts.activation_filling import Filling, check_alike, filling, told
from recipes.parts.cache_folder import (
    COMPLETE,
    LIMIT_BYTES,
    LOCK,
    PARTIAL,
    default_folder,
    make_room,
    open_entry,
    require_room,
)
from recipes.parts.failure import Failed
from recipes.parts.file_lock import FileLock, try_lock
from recipes.parts.names import printable
from zoo.errors import InputError

NUMBERS = "biuf"
"""NumPy's letters for kinds of numbers that an entry can hold: booleans, integers with and without sign, floats."""

_PACKAGE = "keras-model-zoo"
_WAIT_SECONDS = 0.1


def digest_of(key: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a key's canonical JSON and the format of the files, in hexadecimal."""
    text = json.dumps([FORMAT, key], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class ActivationStore:
    """A folder of arrays, which runs share.

    Args:
        folder: Made when it is needed; by default that of `default_folder()`.
        limit_bytes: What all entries may take together. To stay below it, those go that were not used for longest,
            but none that this store has found or filled.
        notice: Is told, in one line, when an entry is damaged, continued or waited for.

    Example:
        ```python
        store = ActivationStore()
        activations = store.find(key, memory_budget_bytes=10**9)
        if activations is None:
            with store.fill(key, shape=(len(images), 1280), dtype="float32") as entry:
                for begin in range(entry.done, len(images), 32):
                    entry.append(prefix.predict_on_batch(images[begin : begin + 32]))
            activations = store.load(key, memory_budget_bytes=10**9)
        ```
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limit_bytes: int = LIMIT_BYTES,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder or default_folder()
        self.limit_bytes = limit_bytes
        self._notice = notice or (lambda line: None)
        self._asked_for: set[str] = set()

    def find(self, key: Mapping[str, Any], *, memory_budget_bytes: int) -> np.ndarray | None:
        """Look for an array, and verify every byte of it.

        Args:
            key: JSON that decides the numbers.
            memory_budget_bytes: A larger array is mapped from its file, whose pages can leave memory at any time.

        Returns:
            The array, read-only; None if there is none that is complete. A damaged one is removed.

        Raises:
            InputError: If the folder cannot be read, or holds something else under the entry's name.
        """
        digest = digest_of(key)
        path = self._path(digest, COMPLETE)
        try:
            file = open_entry(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"Cannot read {printable(str(path))}: {error.strerror}. Remove it") from None
        with file:
            try:
                array = _read(file, digest, memory_budget_bytes)
            except (Damaged, OSError) as error:
                self._say_damaged(digest, error)
                damaged = os.fstat(file.fileno())
            else:
                self._asked_for.add(digest)
                with suppress(OSError):  # as in a folder of somebody else
                    os.utime(path)
                return array
        self._discard(digest, damaged)
        return None

    def load(self, key: Mapping[str, Any], *, memory_budget_bytes: int) -> np.ndarray:
        """Get an array that has just been filled, see `find`.

        Raises:
            Failed: If it is not there, or not what was written.
            InputError: As in `find`.
        """
        array = self.find(key, memory_budget_bytes=memory_budget_bytes)
        if array is None:
            raise Failed(
                f"The activations {digest_of(key)[:12]} in {printable(str(self.folder))} were written but are not "
                f"there or not what was written: run again, and check the disk if it happens again"
            )
        return array

    def rows(self, key: Mapping[str, Any]) -> int:
        """Rows that are there, in a complete or a partial entry, at first sight: nothing is verified."""
        digest = digest_of(key)
        for suffix in (COMPLETE, PARTIAL):
            with suppress(OSError, InputError, Damaged), open_entry(self._path(digest, suffix)) as file:
                return ActivationFile.open(file).rows
        return 0

    def forget(self, key: Mapping[str, Any]) -> None:
        """Let an array go when others need the room, as it will not be asked for again."""
        self._asked_for.discard(digest_of(key))

    def require_room(self, needed_bytes: int) -> None:
        """Raise `InputError` unless so many bytes can be kept besides what this store has found or filled."""
        require_room(self.folder, needed_bytes, limit=self.limit_bytes, keep=self._asked_for)

    @contextmanager
    def fill(
        self,
        key: Mapping[str, Any],
        *,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        about: Mapping[str, str] | None = None,
        while_waiting: Callable[[], None] | None = None,
    ) -> Iterator["Filling"]:
        """Make an entry, or go on with one that an interrupted process left.

        If another process is making it, wait until that has it done or gives up. When the context ends with all rows
        there, the entry becomes complete. With fewer it stays as it is, to be continued, however the context or the
        process ended.

        Args:
            key: JSON that decides the numbers.
            shape: Of the whole array, `(n, ...)`.
            dtype: Of its numbers: booleans, integers or floats of NumPy.
            about: What to show of it, such as `"model"`, `"cut"` and `"data"`; decides nothing.
            while_waiting: Called ten times a second while another process makes the entry. May raise.

        Yields:
            Where to append rows.

        Raises:
            InputError: If there is no room, at the beginning or later, or the folder cannot be written.
        """
        digest = digest_of(key)
        header = _header(key, shape, dtype, about or {})
        with told(self.folder, header):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock(digest, header, while_waiting)
        try:
            self._asked_for.add(digest)
            if self._has(digest, header):
                yield Filling(header, self.folder)
                return
            with filling(
                self._path(digest, PARTIAL),
                self._path(digest, COMPLETE),
                header,
                make_room=lambda there: self._make_room(digest, header.data_bytes, there),
                notice=self._notice,
            ) as entry:
                yield entry
        finally:
            lock.release()

    def _path(self, digest: str, suffix: str) -> Path:
        return self.folder / f"{digest}{suffix}"

    def _lock(self, digest: str, header: Header, while_waiting: Callable[[], None] | None) -> FileLock:
        waited = False
        while True:
            with told(self.folder, header):
                lock = try_lock(self._path(digest, LOCK))
            if lock is not None:
                return lock
            if not waited:
                self._notice(f"another process is making the activations {digest[:12]}: waiting for it")
                waited = True
            if while_waiting is not None:
                while_waiting()
            time.sleep(_WAIT_SECONDS)

    def _has(self, digest: str, header: Header) -> bool:
        """Whether the entry is complete and as wanted; a damaged one is removed. Whoever asks holds its lock."""
        path = self._path(digest, COMPLETE)
        try:
            with open_entry(path) as raw:
                file = _whole(raw)
                check_alike(file.header, header)
                if not file.verify():
                    raise Damaged("a checksum is wrong")
        except FileNotFoundError:
            return False
        except (Damaged, OSError) as error:
            self._say_damaged(digest, error)
            with told(self.folder, header):
                path.unlink()
            return False
        return True

    def _make_room(self, digest: str, needed: int, there: int) -> None:
        make_room(
            self.folder,
            needed,
            limit=self.limit_bytes,
            keep=self._asked_for,
            own=digest,
            there=min(there, needed),
        )

    def _discard(self, digest: str, opened: os.stat_result) -> None:
        """Remove a damaged entry, unless another process has removed or replaced it already, or is about to."""
        path = self._path(digest, COMPLETE)
        try:
            lock = try_lock(self._path(digest, LOCK))
            if lock is None:
                return
            try:
                with suppress(FileNotFoundError):
                    if os.path.samestat(opened, path.lstat()):
                        path.unlink()
            finally:
                lock.release()
        except OSError as error:
            raise InputError(f"Cannot remove the damaged {printable(str(path))}: {error.strerror}") from None

    def _say_damaged(self, digest: str, error: Exception) -> None:
        place = printable(str(self.folder))
        self._notice(f"the activations {digest[:12]} in {place} are damaged ({error}) and are made again")


def _header(key: Mapping[str, Any], shape: tuple[int, ...], dtype: DTypeLike, about: Mapping[str, str]) -> Header:
    kind = np.dtype(dtype)
    if kind.kind not in NUMBERS or not shape:
        raise ValueError(f"An entry holds rows of plain numbers. Received: shape={shape}, dtype={kind}")
    return Header(
        key=key,
        shape=tuple(map(int, shape)),
        dtype=kind.name,
        itemsize=kind.itemsize,
        about=about,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        made_by=f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}",
    )


def _whole(raw: io.FileIO) -> ActivationFile:
    """Open a complete entry. Its rows have not been verified."""
    file = ActivationFile.open(raw)
    if not file.complete:
        raise Damaged("its length is wrong")
    return file


def _read(raw: io.FileIO, digest: str, memory_budget_bytes: int) -> np.ndarray:
    """Verify a complete entry, and give its array."""
    file = _whole(raw)
    if digest_of(file.header.key) != digest:
        raise Damaged("it is another array")
    shape = file.header.shape
    try:
        dtype = np.dtype(file.header.dtype).newbyteorder("<")
    except TypeError:
        raise Damaged("its header makes no sense") from None
    if dtype.kind not in NUMBERS or dtype.itemsize != file.header.itemsize:
        raise Damaged("its header makes no sense")
    in_memory = file.header.data_bytes <= max(0, memory_budget_bytes)
    array = np.empty(shape, dtype) if in_memory else np.memmap(raw, dtype, "r", file.data_start, shape)
    if not file.verify(array.reshape(-1).view(np.uint8).data if in_memory else None):
        raise Damaged("a checksum is wrong")
    array.flags.writeable = False
    return array
