"""What do frozen layers leave on the disk, and what may go?

    zoo cache list
    zoo cache clear --older-than 7
    zoo cache clear --key 3f2a

`zoo finetune` keeps what frozen layers say of your images, so that later runs with the same layers and images begin at
once. Nothing is lost with it but time: what a run misses, it makes again. The folder is that of --folder, or of the
environment variable ZOO_CACHE, or `activations` in that of ZOO_HOME, which is `~/.cache/keras-model-zoo` unless set.
"""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from recipes.parts import cache_folder, cost_tables
from recipes.parts.activation_file import Header
from recipes.parts.cache_folder import Stored, size_text
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.names import printable
from zoo.errors import InputError

KEY_DIGITS = 8
"""Hexadecimal digits of a key that are shown."""


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Show what is kept, what was used last at the end."""

    folder: Path | None = None
    """Where the cache is."""


@dataclass(frozen=True, kw_only=True)
class ClearConfig:
    """Remove what is kept, except what a run is filling."""

    older_than: float | None = None
    """Only what was not used for so many days."""
    key: str | None = None
    """Only what has a key that begins so, as `zoo cache list` shows it."""
    folder: Path | None = None
    """Where the cache is."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry, as it is shown."""

    stored: Stored
    header: Header | None
    """None if the file is damaged."""
    rows: int
    """That are there."""


def find(folder: Path) -> list[Row]:
    """The entries of a folder, complete or not, those first that were not used for longest.

    Raises:
        InputError: If the folder cannot be read.
    """
    entries = [entry for entry in cache_folder.stored(folder) if entry.path.suffix != cache_folder.LOCK]
    rows = []
    for entry in entries:
        header, there = cache_folder.describe(entry) or (None, 0)
        rows.append(Row(stored=entry, header=header, rows=there))
    return rows


def clear(
    folder: Path, *, older_than: float | None = None, key: str | None = None
) -> tuple[list[Stored], list[Stored]]:
    """Remove entries.

    Args:
        folder: Of the cache.
        older_than: Days without use; None for any.
        key: How their keys begin; None for any.

    Returns:
        Those that went, and those that stay because a run is filling them.

    Raises:
        InputError: If `older_than` is negative, or no key begins with `key`.
    """
    if older_than is not None and not older_than >= 0:
        raise InputError(f"--older-than takes days, 0 or more. Received: {older_than}")
    if key is not None and not re.fullmatch(r"[0-9a-fA-F]{1,64}", key):
        raise InputError(f"--key takes up to 64 hexadecimal digits, as `zoo cache list` shows them. Received: {key!r}")
    everything = cache_folder.stored(folder)
    found = [entry for entry in everything if key is None or entry.digest.startswith(key.lower())]
    if key is not None and not found:
        raise InputError(f"No key in {printable(str(folder))} begins with {key}: `zoo cache list` shows them")
    before = time.time() - (older_than or 0) * 24 * 3600
    gone: list[Stored] = []
    stays: list[Stored] = []
    for entry in found:
        if older_than is None or entry.last_used < before:
            removed = cache_folder.remove(entry)
            if entry.path.suffix != cache_folder.LOCK:
                (gone if removed else stays).append(entry)
    return gone, stays


def show(rows: Sequence[Row], folder: Path) -> None:
    """Print a table with one entry a row."""
    total = sum(row.stored.size for row in rows)
    with Display() as display:
        if rows:
            roomy = display.console.width >= cost_tables.ROOMY
            made = cost_tables.table(
                "key", "what", "rows", "of shape", "type", "size", "made", "used", words=2, roomy=roomy
            )
            for column in made.columns:
                column.vertical = "top"
            for row in rows:
                cost_tables.add_row(made, _cells(row))
            display.show(made)
            display.say()
        limit = size_text(cache_folder.LIMIT_BYTES)
        display.say(f"{size_text(total)} in {printable(str(folder))}; the limit is {limit} unless a run says otherwise")


def _cells(row: Row) -> list[str]:
    key, size, used = row.stored.digest[:KEY_DIGITS], size_text(row.stored.size), _day(row.stored.last_used)
    if row.header is None:
        return [key, "damaged: the next run that needs it makes it again", "", "", "", size, "", used]
    header = row.header
    about = [header.about[name] for name in ("model", "cut", "data") if name in header.about]
    partial = [] if row.stored.complete else [f"(partial, of {header.shape[0]:,} rows)"]
    return [
        key,
        " ".join([*about, *partial]),
        f"{row.rows:,}",
        cost_tables.times(header.shape[1:]),
        header.dtype,
        size,
        header.created[:10],
        used,
    ]


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().date().isoformat()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(
            Annotated[ListConfig, tyro.conf.subcommand("list")] | Annotated[ClearConfig, tyro.conf.subcommand("clear")],
            args=arguments,
            prog="zoo cache",
            description=__doc__,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        folder = (config.folder or cache_folder.default_folder()).absolute()
        if isinstance(config, ListConfig):
            show(find(folder), folder)
            return
        gone, stays = clear(folder, older_than=config.older_than, key=config.key)
        note = f"; {len(stays):,} in use, which stay" if stays else ""
        print(f"removed {len(gone):,}, {size_text(sum(entry.size for entry in gone))}{note}")

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
