"""The folder that a run leaves: created before any long work, every file in it complete or absent."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zoo.errors import InputError

PACKAGES = (
    "keras-model-zoo",
    "tensorflow",
    "keras",
    "numpy",
    "pillow",
    "tensorflow-datasets",
    "scikit-learn",
)


def default_run_folder(recipe: str) -> Path:
    """`runs/<recipe>-<UTC time>` below the current folder."""
    now = datetime.datetime.now(datetime.UTC)
    return Path("runs") / f"{recipe}-{now:%Y%m%dT%H%M%S}"


def create_run_folder(path: Path, *, needs_bytes: int = 0) -> Path:
    """Make an empty folder for a run, and be sure that it can hold what the run will write.

    Args:
        path: Where; it must not exist yet, or be empty.
        needs_bytes: What the run will write there, about.

    Returns:
        The folder's absolute path.

    Raises:
        InputError: If the folder holds anything, cannot be written, or lies on a disk that is too full.
    """
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        taken = any(path.iterdir())
    except OSError as error:
        raise InputError(
            f"Cannot write to the run folder {path}: {error.strerror}. Choose another with --out"
        ) from error
    if taken:
        raise InputError(f"The run folder {path} is not empty. Choose another with --out")
    free = shutil.disk_usage(path).free
    if free < needs_bytes:
        remove_if_empty(path)
        raise InputError(
            f"No space for the run folder {path}: it needs {needs_bytes / 1e6:.0f} MB and {free / 1e6:.0f} MB are "
            "free. Choose another with --out"
        )
    return path


def remove_if_empty(path: Path) -> None:
    """Remove a run folder in which nothing has been written."""
    with suppress(OSError):
        path.rmdir()


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Write a file beside its place and rename it into place once it is whole.

    Args:
        path: The file's place.

    Yields:
        The path to write to, with the same suffix.
    """
    beside = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs: indented, ASCII (file names may hold any byte), complete or absent."""
    with complete_or_absent(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")


def read_run_file(run: Path, name: str) -> Any:
    """Read one of a run's JSON files.

    Raises:
        InputError: If `run` is no folder of a finished run, or the file is damaged.
    """
    path = run / name
    if not run.is_dir():
        raise InputError(f"No such run folder: {run}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{run} is not the folder of a finished run: it holds no {name}. Give the path that `zoo finetune` printed "
            "last"
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"Cannot read {path}: {error}") from None


def append_line(path: Path, value: Any) -> None:
    """Add one JSON line to a file."""
    with path.open("a", encoding="ascii") as file:
        file.write(json.dumps(value) + "\n")


def versions() -> dict[str, str]:
    """Versions of Python, the machine and the packages that decide what a run computes."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
