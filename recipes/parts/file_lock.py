"""A lock between processes: a file that one of them holds. It is free again as soon as its holder ends, however."""

import os
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _hold(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _hold(descriptor: int) -> None:
        # Unlike lockf, flock is not lost when the process closes some other descriptor of the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True)
class FileLock:
    """A lock that is held; got from `try_lock`."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Let others have it. Its file goes, so that none are left over."""
        if sys.platform != "win32":  # removed while it is held: whoever opened it meanwhile sees that it is gone
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        if sys.platform == "win32":  # where an open file cannot be removed, by us or from under anybody else
            with suppress(OSError):
                self.path.unlink()


def try_lock(path: Path) -> FileLock | None:
    """Take a lock without waiting.

    Args:
        path: Of a file that is for nothing else. It is made, and removed by `FileLock.release`.

    Returns:
        The lock, or None if somebody has it: another process, or this one.

    Raises:
        OSError: If the file cannot be made, is a link, or its file system has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            _hold(descriptor)
            if _is_file_at(descriptor, path):
                return FileLock(path, descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it after we had opened it: what we hold, nobody will look for


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(there.st_mode) and os.path.samestat(os.fstat(descriptor), there)
