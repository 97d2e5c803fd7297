"""`DIR/NAME/VERSION`, the layout that TensorFlow Serving reads: each version is whole, and none is ever changed.

While a version gets to its place, its number is claimed by an empty folder, `DIR/NAME/.VERSION`.

What a version has in other formats stands beside the folder of the model, as `DIR/NAME-VERSION` and an ending.
"""

import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from recipes.parts.names import printable
from zoo.errors import InputError


def check_name(name: str) -> str:
    """Return the name of a served model, which becomes a folder and part of an address.

    Raises:
        InputError: If it cannot be one.
    """
    if not name.strip() or name.startswith(".") or name != printable(name) or set(name) & set("/\\"):
        raise InputError(
            "The name of a served model is printable, has no slash and begins with no dot. "
            f"Received: '{printable(name)}'. Give another with --name"
        )
    return name


@contextmanager
def beside_versions(to: Path, name: str) -> Iterator[Path]:
    """Make a folder beside the versions of a model, on their disk, where a new one can grow.

    TensorFlow Serving does not see it, as its name is no number.

    Args:
        to: Where served models are.
        name: Of the model.

    Yields:
        The folder, for `put_in_place`. If it is still there at the end, it is removed, and so are the folders that were
        made for it.

    Raises:
        InputError: If it cannot be made.
    """
    with _growing(to.expanduser().absolute() / name) as beside:
        yield beside


@contextmanager
def beside_models(to: Path) -> Iterator[Path]:
    """The same beside the folders of all models, for files in other formats."""
    with _growing(to.expanduser().absolute()) as beside:
        yield beside


@contextmanager
def _growing(folder: Path) -> Iterator[Path]:
    beside = folder / f".new-{uuid.uuid4().hex}"
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        try:
            beside.mkdir(parents=True)
        except OSError as error:
            raise InputError(
                f"Cannot write to {printable(str(folder))}: {error.strerror}. Choose another place with --to"
            ) from None
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds a version
                parent.rmdir()


def put_in_place(beside: Path, finish: Callable[[int], None], files: Mapping[str, Path] | None = None) -> Path:
    """Make what stands beside the versions the next one.

    Args:
        beside: From `beside_versions`.
        finish: Is told the number before the folder gets it; again if another process took that number meanwhile.
        files: What belongs to the version in other formats, by the ending that follows `NAME-VERSION`; on the same
            disk. Either all of this gets to its place or nothing does; of a process that is killed here, files can
            stay, but never a version without them.

    Returns:
        The folder of the new version.
    """
    folder = beside.parent
    while True:
        version = max(_taken(folder), default=0) + 1
        finish(version)
        place, claim = beside.with_name(str(version)), beside.with_name(f".{version}")
        try:
            claim.mkdir()
        except FileExistsError:
            continue
        if not place.exists():  # by another process that has given up its claim already
            break
        claim.rmdir()
    # The number is ours now, so nobody else writes files that are named after it.
    placed: list[Path] = []
    try:
        for ending, file in (files or {}).items():
            placed.append(other_file(place, ending))
            file.rename(placed[-1])
        beside.rename(place)  # last, as this is what makes the version exist
    except BaseException:
        if beside.exists():  # otherwise the version is there, and whole
            for file in placed:
                file.unlink(missing_ok=True)
        raise
    finally:
        claim.rmdir()
    return place


def other_file(version: Path, ending: str) -> Path:
    """Where a version's file in another format is.

    Args:
        version: The folder of the version, its path absolute.
        ending: What follows `NAME-VERSION`, such as `.onnx`.
    """
    return version.parents[1] / f"{version.parent.name}-{version.name}{ending}"


def _taken(folder: Path) -> list[int]:
    """The numbers of versions that are in the folder of a model or claimed there, or of which a file is beside it."""
    named = re.compile(rf"{re.escape(folder.name)}-([0-9]+)(-[a-z0-9]+)?\.(tflite|onnx)")
    found = [named.fullmatch(entry.name) for entry in folder.parent.iterdir()]
    found += [re.fullmatch(r"\.([0-9]+)", entry.name) for entry in folder.iterdir()]
    return [*versions(folder), *(int(match[1]) for match in found if match)]


def versions(folder: Path) -> list[int]:
    """The numbers that are taken in the folder of a served model, ascending."""
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isascii() and entry.name.isdigit())


def find_version(folder: Path) -> Path:
    """Return the folder of a version: this one, or the newest in it.

    Raises:
        InputError: If there is none.
    """
    if (folder / "saved_model.pb").is_file():
        return folder
    found = versions(folder) if folder.is_dir() else []
    newest = folder / str(found[-1]) if found else folder
    if not (newest / "saved_model.pb").is_file():
        raise InputError(
            f"{printable(str(newest))} holds no SavedModel. Give what `zoo export` printed last, or the folder above it"
        )
    return newest
