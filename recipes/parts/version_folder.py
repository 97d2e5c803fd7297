"""`DIR/NAME/VERSION`, the layout that TensorFlow Serving reads: each version is whole, and none is ever changed."""

import shutil
import uuid
from collections.abc import Callable, Iterator
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
    folder = to.expanduser().absolute() / name
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


def put_in_place(beside: Path, finish: Callable[[int], None]) -> Path:
    """Make what stands beside the versions the next one.

    Args:
        beside: From `beside_versions`.
        finish: Is told the number before the folder gets it; again if another process took that number meanwhile.

    Returns:
        The folder of the new version.
    """
    while True:
        version = max(versions(beside.parent), default=0) + 1
        finish(version)
        place = beside.with_name(str(version))
        try:
            return beside.rename(place)  # which fails if the place holds anything
        except OSError:
            if not place.exists():
                raise


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
