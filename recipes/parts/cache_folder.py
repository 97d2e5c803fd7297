"""The folder in which activations are kept between runs: where it is, what is in it, and what goes when room is short.

An entry is one file, `DIGEST.activations`, complete or absent; `DIGEST.partial` is one that is being filled, or that an
interrupted process left to be continued; whoever fills it holds the lock `DIGEST.lock`. Files with any other name,
links and folders are never touched. The time of last change of an entry is when it was last used.

Nothing here needs NumPy, so that `zoo cache` answers at once.
"""

import io
import os
import re
import shutil
import stat
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from recipes.parts.activation_file import ActivationFile, Damaged, Header
from recipes.parts.file_lock import try_lock
from recipes.parts.names import printable
from zoo.errors import InputError
from zoo.weights.fetch import zoo_home

LIMIT_BYTES = 20 * 10**9
"""What the entries of a folder may take together, unless a run says otherwise."""
STALE_SECONDS = 7 * 24 * 3600
"""A partial entry that nobody has continued for so long goes."""
COMPLETE, PARTIAL, LOCK = ".activations", ".partial", ".lock"

ROOM_ADVICE = "Make room there, with `zoo cache clear` for instance, or name a folder elsewhere with ZOO_CACHE"

_OURS = re.compile(rf"([0-9a-f]{{64}})({re.escape(COMPLETE)}|{re.escape(PARTIAL)}|{re.escape(LOCK)})")


def default_folder() -> Path:
    """The folder that the environment variable `ZOO_CACHE` names, or `activations` in that of downloads."""
    named = os.environ.get("ZOO_CACHE")
    return Path(named).expanduser() if named else zoo_home() / "activations"


def size_text(size: int) -> str:
    """Bytes for people: "0.3 MB", "12 MB", "1.2 GB"."""
    if size < 10**9:
        return f"{size / 1e6:,.1f} MB" if size < 10**7 else f"{size / 1e6:,.0f} MB"
    return f"{size / 1e9:,.1f} GB"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of the cache."""

    path: Path
    digest: str
    """Of its key: 64 hexadecimal digits."""
    size: int
    """Bytes."""
    last_used: float
    """Seconds since 1970."""

    @property
    def complete(self) -> bool:
        """Whether it is a complete entry, and not a partial one or a lock."""
        return self.path.suffix == COMPLETE


def stored(folder: Path) -> list[Stored]:
    """The files of the cache, those that were not used for longest first.

    Raises:
        InputError: If the folder cannot be read. One that is not there is empty.
    """
    found = []
    try:
        with os.scandir(folder) as files:
            for file in files:
                ours = _OURS.fullmatch(file.name)
                if ours is None:
                    continue
                try:
                    status = file.stat(follow_symlinks=False)
                except FileNotFoundError:  # removed by another process just now
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime_ns, Path(file.path), ours[1], status))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"Cannot read the cache folder {printable(str(folder))}: {error.strerror}") from None
    return [
        Stored(path=path, digest=digest, size=status.st_size, last_used=status.st_mtime)
        for _, path, digest, status in sorted(found, key=lambda one: one[:2])
    ]


def open_entry(path: Path, *, write: bool = False) -> io.FileIO:
    """Open a file of the cache, and nothing else that stands under its name.

    Args:
        path: Of a file that is there.
        write: Also for writing.

    Raises:
        FileNotFoundError: If nothing is there.
        InputError: If it is a link, a folder, a pipe or the like.
        OSError: If it cannot be opened.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputError(f"{printable(str(path))} is not a file of the cache but stands in its way: move it elsewhere")
    # What took its place since then must neither be followed nor waited for.
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | (os.O_RDWR if write else os.O_RDONLY))
    return io.FileIO(descriptor, "r+" if write else "r")


def describe(entry: Stored) -> tuple[Header, int] | None:
    """What a file says of itself, and how many rows are there; None if it is damaged or gone. Reads no rows."""
    try:
        with open_entry(entry.path) as file:
            opened = ActivationFile.open(file)
            return opened.header, opened.rows
    except (OSError, InputError, Damaged):
        return None


def remove(entry: Stored) -> bool:
    """Remove a file of the cache, unless somebody is filling it.

    Who reads it keeps reading, where the operating system removes open files; on Windows it stays.

    Returns:
        Whether it is gone.
    """
    try:
        lock = try_lock(entry.path.with_suffix(LOCK))
        if lock is None:
            return False
        try:
            if entry.path.suffix != LOCK:  # a lock goes when it is released
                entry.path.unlink(missing_ok=True)
        finally:
            lock.release()
    except OSError:
        return False
    return True


def remove_stale(folder: Path) -> None:
    """Remove what processes left behind a week ago or longer: partial entries and locks."""
    for entry in stored(folder):
        if not entry.complete and time.time() - entry.last_used > STALE_SECONDS:
            remove(entry)


def require_room(folder: Path, needed: int, *, limit: int, keep: Collection[str] = (), there: int = 0) -> None:
    """Check that so many bytes can be kept, if what may go goes.

    Args:
        folder: It need not exist yet.
        needed: Bytes.
        limit: What all entries may take together, bytes.
        keep: Digests of entries that must stay.
        there: How many of the needed bytes have their place on the disk already.

    Raises:
        InputError: If the limit or the disk does not allow it.
    """
    entries = stored(folder)
    kept = sum(entry.size for entry in entries if entry.digest in keep)
    place = f"the cache folder {printable(str(folder))}"
    if needed + kept > limit:
        besides = f", besides {size_text(kept)} in use," if kept else ""
        raise InputError(
            f"{size_text(needed)} of activations{besides} would pass the limit of {size_text(limit)} for {place}: "
            f"raise the limit, or take fewer or smaller images"
        )
    free = free_space(folder) + sum(entry.size for entry in entries if entry.digest not in keep)
    if needed - there > free:
        raise InputError(
            f"No space for {size_text(needed)} of activations in {place}: {size_text(free)} are free or could be "
            f"made so. {ROOM_ADVICE}"
        )


def make_room(
    folder: Path, needed: int, *, limit: int, keep: Collection[str] = (), own: str | None = None, there: int = 0
) -> None:
    """Remove entries until so many bytes can be kept: those first that were not used for longest.

    What somebody is filling stays.

    Args:
        folder: It need not exist yet.
        needed: Bytes.
        limit: What all entries may take together, bytes.
        keep: Digests of entries that must stay.
        own: Digest of the entry that needs the room. What is there of it neither goes nor counts.
        there: How many of the needed bytes have their place on the disk already.

    Raises:
        InputError: If the limit or the disk does not allow it. Then nothing has been removed, unless it is others
            who need the room for what they are filling.
    """
    require_room(folder, needed, limit=limit, keep={*keep} - {own}, there=there)
    remove_stale(folder)
    entries = [entry for entry in stored(folder) if entry.digest != own]
    total = sum(entry.size for entry in entries)
    stayed = {*keep} - {own}
    for entry in entries:
        if total + needed <= limit and needed - there <= free_space(folder):
            return
        if entry.digest not in keep and remove(entry):
            total -= entry.size
        else:
            stayed.add(entry.digest)
    require_room(folder, needed, limit=limit, keep=stayed, there=there)


def free_space(folder: Path) -> int:
    """Bytes that are free where a folder is or would be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
