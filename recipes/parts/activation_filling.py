"""Filling an entry of the cache: append by append, into a file beside its place that another process can continue."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from recipes.parts.activation_file import ActivationFile, Damaged, Header
from recipes.parts.cache_folder import ROOM_ADVICE, open_entry, size_text
from recipes.parts.names import printable
from zoo.errors import InputError


class Filling:
    """An entry that is being filled; got from `ActivationStore.fill`.

    Args:
        header: What the entry will be.
        folder: Where it is, for messages.
        file: A partial one, open for writing; None if the entry is complete already.
    """

    def __init__(self, header: Header, folder: Path, file: ActivationFile | None = None) -> None:
        self._header = header
        self._folder = folder
        self._file = file

    @property
    def done(self) -> int:
        """Rows that are there and verified: a count after a whole append."""
        return self._header.shape[0] if self._file is None else self._file.rows

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows.

        Args:
            rows: `(m, ...)`, with the shape and dtype of the entry.

        Raises:
            InputError: If the disk is full. What has been appended before stays.
            ValueError: If the rows are not those of such an entry, or too many.
        """
        shape, dtype = self._header.shape, self._header.dtype
        if rows.dtype != dtype or rows.shape[1:] != shape[1:] or self.done + len(rows) > shape[0]:
            raise ValueError(
                f"The next rows of {dtype} {shape}, of which {self.done} are there, cannot be {rows.dtype} {rows.shape}"
            )
        if self._file is not None and len(rows):
            plain = np.ascontiguousarray(rows, np.dtype(dtype).newbyteorder("<"))
            with told(self._folder, self._header, kept=self.done):
                self._file.append(plain.reshape(-1).view(np.uint8).data, rows=len(rows))


@contextmanager
def filling(
    partial: Path,
    complete: Path,
    header: Header,
    *,
    make_room: Callable[[int], None],
    notice: Callable[[str], None],
) -> Iterator[Filling]:
    """Go on with a partial entry, or begin one. Whoever calls this holds the entry's lock.

    Args:
        partial: Its path.
        complete: Its path once the context has ended with all rows there. With fewer it stays where it is; without
            any it goes.
        header: What the entry will be.
        make_room: Is told how many bytes of it are on the disk already. Raises if there is no room for the rest.
        notice: Is told, in one line, of what is continued or damaged.

    Yields:
        Where to append rows.

    Raises:
        InputError: If there is no room, at the beginning or later, or the folder cannot be written.
    """
    folder = partial.parent
    with told(folder, header):
        file = _continued(partial, header, make_room, notice) or _new(partial, header, make_room)
    try:
        yield Filling(header, folder, file)
    finally:
        with told(folder, header, kept=file.rows), file.file:
            whole = file.complete
            # Not synced to the disk, which can take longer than the filling: every byte is verified when it is read,
            # so what a loss of power spoils is made again.
            file.file.close()  # before it is renamed, which Windows wants
            if whole:
                partial.replace(complete)
            elif not file.rows:
                partial.unlink()


@contextmanager
def told(folder: Path, header: Header, *, kept: int = 0) -> Iterator[None]:
    """Turn what the disk refuses into one line that says what to do.

    Args:
        folder: Of the cache.
        header: Of the entry that is written.
        kept: Its rows that stay.
    """
    try:
        yield
    except OSError as error:
        place = f"the cache folder {printable(str(folder))}"
        rows = f"{kept:,} of {header.shape[0]:,} rows stay, from which the next run goes on. " if kept else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"No space for {size_text(header.data_bytes)} of activations in {place}: {error.strerror}. "
                f"{rows}{ROOM_ADVICE}"
            ) from error
        raise InputError(
            f"Cannot write to {place}: {error.strerror or error}. {rows}Name a folder elsewhere with ZOO_CACHE"
        ) from error


def check_alike(found: Header, wanted: Header) -> None:
    """Raise `Damaged` unless a file is what it is taken for, going by its header."""
    # As JSON, in which a tuple is a list.
    if json.dumps([found.key, found.shape, found.dtype], sort_keys=True) != json.dumps(
        [wanted.key, wanted.shape, wanted.dtype], sort_keys=True
    ):
        raise Damaged("it is another array")


def _continued(
    partial: Path, header: Header, make_room: Callable[[int], None], notice: Callable[[str], None]
) -> ActivationFile | None:
    """Open a partial entry behind its last good append. One without any is removed."""
    try:
        raw = open_entry(partial, write=True)
    except FileNotFoundError:
        return None
    name = f"the activations {partial.stem[:12]}"
    with ExitStack() as closing:
        closing.enter_context(raw)
        try:
            file = ActivationFile.open(raw)
            check_alike(file.header, header)
            if not file.verify():
                notice(f"{name} are damaged behind row {file.rows:,}")
            file.drop_what_has_no_mark()
        except (Damaged, OSError) as error:
            notice(f"{name} are damaged ({error}) and are made again")
        else:
            make_room(getattr(os.fstat(raw.fileno()), "st_blocks", 0) * 512)
            _allocate(file)
            if file.rows:
                notice(f"going on with {name} at row {file.rows:,} of {header.shape[0]:,}")
            closing.pop_all()
            return file
    partial.unlink()
    return None


def _new(partial: Path, header: Header, make_room: Callable[[int], None]) -> ActivationFile:
    make_room(0)
    try:
        with ExitStack() as closing:
            raw = closing.enter_context(io.FileIO(partial, "x+"))
            file = ActivationFile.create(raw, header)
            _allocate(file)
            closing.pop_all()
            return file
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _allocate(file: ActivationFile) -> None:
    """Get the room for all rows now, so that a full disk shows before the work and not in the middle of it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.file.fileno(), 0, file.marks_start)
