"""From a command line to a configuration, and from what went wrong to an exit code."""

import argparse
import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from recipes.parts.config_file import read_config
from recipes.parts.display import complain
from recipes.parts.failure import Failed
from recipes.parts.names import printable
from zoo.errors import InputError
from zoo.registry import unknown_name

T = TypeVar("T")

OK, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def parse(
    kind: type[T],
    arguments: Sequence[str] | None,
    *,
    prog: str,
    description: str,
    presets: Mapping[str, T],
    follows: Mapping[str, Sequence[str]] | None = None,
) -> T:
    """Build a configuration from flags, on top of a file or a preset.

    Args:
        kind: A dataclass; its attribute docstrings are the help texts.
        arguments: The words after the command's name; those of this process if None.
        prog: The command as the user typed it.
        description: First paragraph of `--help`.
        presets: Named configurations for `--preset`.
        follows: Fields that return to their default when a flag changes one of others, and none changes them:
            `{"stages": ["strategy"]}`.

    Raises:
        InputError: If the configuration file is no good or the preset unknown.
        SystemExit: With code 0 after `--help`, with code 2 for flags that make no sense.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=Path)
    first.add_argument("--preset")
    words = _spell_out_flags(kind, sys.argv[1:] if arguments is None else arguments)
    start, _ = first.parse_known_args(words)
    base = kind()
    if start.preset is not None:
        if start.preset not in presets:
            raise unknown_name("preset", start.preset, presets)
        base = presets[start.preset]
    if start.config is not None:
        if start.preset is not None:
            raise InputError("Give --config or --preset, not both")
        base = read_config(kind, start.config)

    @dataclasses.dataclass(frozen=True)
    class CommandLine:
        settings: Annotated[kind, tyro.conf.arg(name="")]  # type: ignore[valid-type]  # a class made at run time
        config: Path | None = None
        """Start from this JSON file, which has the form of a run's `config.json`; flags change what it says."""
        preset: str | None = None
        """Start from a named configuration of the script."""

    chosen: Any = tyro.cli(
        CommandLine, default=CommandLine(settings=base), args=words, prog=prog, description=description
    )
    settings = chosen.settings
    for field, leaders in (follows or {}).items():
        changed = {name for name in (field, *leaders) if getattr(settings, name) != getattr(base, name)}
        if changed and field not in changed:
            settings = dataclasses.replace(settings, **{field: getattr(kind(), field)})
    return settings


def _spell_out_flags(kind: type, words: Sequence[str]) -> list[str]:
    """Let `--name` and `--no-name` stand for the values of a field that is a bool or None, as for any other bool."""
    meaning: dict[str, list[str]] = {}
    for name, hint in typing.get_type_hints(kind).items():
        if hint == bool | None:
            flag = name.replace("_", "-")
            meaning |= {f"--{flag}": [f"--{flag}", "True"], f"--no-{flag}": [f"--{flag}", "False"]}
    spelled: list[str] = []
    for word, after in zip_longest(words, words[1:]):
        spelled += [word] if after in ("True", "False", "None") else meaning.get(word, [word])
    return spelled


def guarded(job: Callable[[], object]) -> int:
    """Do a job, and turn what goes wrong into one line and an exit code.

    Args:
        job: What the command does.

    Returns:
        0 if done, 2 for bad input, 1 for a failure that a run can meet, 130 when interrupted. A defect of
        ours is not caught: its traceback is the best report of it.
    """
    try:
        job()
    except InputError as error:
        complain(f"error: {error}")
        return BAD_INPUT
    except Failed as error:
        complain(f"stopped: {error}")
        return FAILURE
    except OSError as error:  # such as a disk that has become full
        where = f": {printable(str(error.filename))}" if error.filename else ""
        complain(f"stopped: {error.strerror or error}{where}")
        return FAILURE
    except MemoryError:
        complain("stopped: out of memory. Lower --image-size or --batch-size")
        return FAILURE
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    return OK
