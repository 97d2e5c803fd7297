"""The folder that a run leaves: created before any long work, every file in it complete or absent."""

import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recipes.parts.file_lock import try_lock
from recipes.parts.names import printable
from zoo.errors import InputError

HISTORY = "history.jsonl"
CONFIG, METRICS = "config.json", "metrics.json"
LOCK = ".under-way"
PACKAGES = (
    "keras-model-zoo",
    "tensorflow",
    "keras",
    "numpy",
    "pillow",
    "tensorflow-datasets",
    "scikit-learn",
)


@contextmanager
def new_run_folder(path: Path | None, recipe: str, *, record: str = HISTORY) -> Iterator[Path]:
    """Claim a folder for a run; leave no trace of it if the run ends before anything has been trained.

    Args:
        path: Where; it must not exist yet, or be empty. None means `runs/<recipe>-<UTC time>` below the current folder.
        recipe: What the default is called after.
        record: The file whose first line says that something has been trained.

    Yields:
        The folder's absolute path. `versions.json` is in it.

    Raises:
        InputError: If the folder holds anything, or cannot be written.
    """
    made = path is None or not path.exists()
    folder = _claim_default(recipe) if path is None else _claim(path.absolute())
    try:
        with _under_way(folder):
            yield folder
    except BaseException:
        history = folder / record
        if not history.exists() or not history.stat().st_size:
            # The folder was empty when it was claimed: all that is in it is this run's.
            for file in folder.iterdir():
                file.unlink()
            if made:
                folder.rmdir()
        raise


@contextmanager
def resumed_run_folder(path: Path) -> Iterator[Path]:
    """Go on in the folder of a run that was interrupted.

    Args:
        path: Of the run.

    Yields:
        The folder's absolute path.

    Raises:
        InputError: If it is not the folder of a run, if the run is finished, or if it is still under way.
    """
    folder = path.absolute()
    if not (folder / "versions.json").is_file() or not (folder / CONFIG).is_file():
        raise InputError(f"{printable(str(path))} is not the folder of a run that could go on: it holds no {CONFIG}")
    if (folder / METRICS).exists():
        raise InputError(f"The run in {printable(str(path))} is finished: there is nothing to go on with")
    with _under_way(folder):
        for file in folder.glob(".*-*"):  # what a killed process was writing, see `complete_or_absent`
            if re.fullmatch(r"\..+-\d+(\.\w+)?", file.name) and file.is_file():
                file.unlink()
        yield folder


@contextmanager
def _under_way(folder: Path) -> Iterator[None]:
    """Only one process works on a run."""
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise InputError(f"The run in {printable(str(folder))} is still under way")
    try:
        yield
    finally:
        lock.release()


def _claim_default(recipe: str) -> Path:
    name = f"{recipe}-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}"
    for number in itertools.count(1):
        folder = Path("runs", name if number == 1 else f"{name}-{number}").absolute()
        if not folder.exists():
            with suppress(_Taken):  # by a run that started in the same second
                return _claim(folder)
    raise AssertionError


def _claim(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError
        # Of two runs that find the folder empty at once, only one can create the file.
        with (folder / "versions.json").open("x", encoding="ascii") as file:
            file.write(to_json(versions()))
    except FileExistsError:
        raise _Taken(f"The run folder {printable(str(folder))} is not empty. Choose another with --out") from None
    except OSError as error:
        raise InputError(
            f"Cannot write to the run folder {printable(str(folder))}: {error.strerror}. Choose another with --out"
        ) from None
    return folder


class _Taken(InputError):
    """The folder holds something."""


def require_space(folder: Path, needed: int) -> None:
    """Raise `InputError` unless so many bytes are free on a folder's disk."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"No space for the run folder {printable(str(folder))}: it needs {needed / 1e6:,.0f} MB and "
            f"{free / 1e6:,.0f} MB are free. Choose another with --out"
        )


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
        with beside.open("rb+") as file:  # or a loss of power could leave the name without the contents
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs, complete or absent."""
    with complete_or_absent(path) as beside:
        beside.write_text(to_json(value), encoding="ascii")


def to_json(value: Any) -> str:
    """Indented JSON in ASCII, as file names may hold any byte; a number that is none is a defect."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


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
            f"{run} is not the folder of a finished run: it holds no {name}. Give the path that `zoo finetune` or "
            "`zoo train` printed last"
        ) from None
    except (ValueError, OSError) as error:
        raise InputError(f"Cannot read {path}: {error}") from None


def append_line(path: Path, value: Any) -> None:
    """Add one JSON line to a file."""
    with path.open("a", encoding="ascii") as file:
        file.write(json.dumps(value, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Versions of Python, the machine and the packages that decide what a run computes."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
