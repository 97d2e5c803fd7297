"""What a search searches: hyperparameters, and what they make of a model."""

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from recipes.parts.names import printable
from recipes.parts.search.job import Recipe
from zoo.errors import InputError
from zoo.plugins import load_plugin
from zoo.registry import unknown_name

Sample: TypeAlias = Callable[[Any, Any], Any]
Function = TypeVar("Function", bound=Sample)

BUILT_IN = ("architecture", "finetune")


@dataclass(frozen=True)
class Space:
    """A space of candidates.

    Args:
        name: Of the space.
        recipe: The script that trains its candidates.
        sample: A function `(hp, base) -> candidate`. It asks `hp`, a `keras_tuner.HyperParameters`, for values and
            makes of them a `recipes.parts.search.candidates.Architecture` or `FineTuning`. `base` is what the search
            starts from: a `zoo.ModelSpec` for `train`, for `finetune` a
            `recipes.parts.search.finetune_space.Pretrained`. It gives the same for the same values, and touches
            nothing else, since it is called many times.
    """

    name: str
    recipe: Recipe
    sample: Sample

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or ":" in self.name:
            raise InputError(f"A space has a name without colons. Received: {self.name!r}")
        if self.recipe not in ("train", "finetune"):
            raise unknown_name("recipe", self.recipe, ("train", "finetune"))


# Of the file that is being loaded.
_declared: list[Space] = []


def space(name: str, *, recipe: Recipe = "train") -> Callable[[Function], Function]:
    """Return a decorator that makes a space of a function, for `zoo search --space FILE.py`.

    Args:
        name: Of the space; a file may hold several.
        recipe: The script that trains its candidates: `train` or `finetune`.

    Example:
        ```python
        # my_space.py
        from recipes.parts.search.candidates import Architecture
        from recipes.parts.search.space import space
        from zoo import vary


        @space("wide", recipe="train")
        def wide(hp, base):
            width = hp.Float("width", 0.5, 2.0, sampling="log", default=1.0)
            optimizer = hp.Choice("optimizer", ["sgd", "adamw"])
            rate = None
            with hp.conditional_scope("optimizer", ["adamw"]):
                rate = hp.Float("rate", 5e-4, 5e-3, sampling="log", default=2e-3)    # None with sgd
            return Architecture(spec=vary(base, width=width), optimizer=optimizer, learning_rate=rate)
        ```
    """

    def decorate(function: Function) -> Function:
        _declared.append(Space(name, recipe, function))
        return function

    return decorate


def load_space(name_or_file: str) -> Space:
    """Return a space of ours, or one in a Python file.

    Args:
        name_or_file: `architecture`, `finetune`, `FILE.py`, or `FILE.py:NAME` where a file holds several.

    Raises:
        InputError: If there is no such space, or the file fails; the message says where in the file.
    """
    if name_or_file == "architecture":
        from recipes.parts.search.architecture_space import sample_architecture

        return Space("architecture", "train", sample_architecture)
    if name_or_file == "finetune":
        from recipes.parts.search.finetune_space import sample_finetuning

        return Space("finetune", "finetune", sample_finetuning)
    place, name = split_file(name_or_file)
    if not place.endswith(".py"):
        raise unknown_name("space", name_or_file, (*BUILT_IN, "FILE.py", "FILE.py:NAME"))
    file = Path(place).expanduser()
    if not file.is_file():
        raise InputError(f"There is no file {printable(place)!r}. --space takes {', '.join(BUILT_IN)} or a file")
    return _choose(_spaces_in(file), name, printable(place))


def split_file(name_or_file: str) -> tuple[str, str]:
    """The file of a space and the name in it, which may be empty; the name of one of ours stands for a file."""
    place, _, name = name_or_file.rpartition(":") if ".py:" in name_or_file else (name_or_file, "", "")
    return place, name


def _spaces_in(file: Path) -> dict[str, Space]:
    _declared.clear()
    load_plugin(file)
    found: dict[str, Space] = {}
    for each in _declared:
        if each.name in found:
            raise InputError(f"{printable(str(file))} holds two spaces {each.name!r}. Give one another name")
        found[each.name] = replace(each, sample=_telling_where(each.sample, file))
    return found


def _choose(found: dict[str, Space], name: str, place: str) -> Space:
    if not found:
        raise InputError(f'{place} holds no space: put @space("NAME") of recipes.parts.search.space over a function')
    if name and name not in found:
        raise unknown_name(f"space in {place}:", name, found)
    if not name and len(found) > 1:
        first = next(iter(found))
        raise InputError(f"{place} holds several spaces: {', '.join(found)}. Say which, as in {place}:{first}")
    return found[name] if name else next(iter(found.values()))


def _telling_where(sample: Sample, file: Path) -> Sample:
    """Let errors of a user's function be one line with its file and line."""

    @functools.wraps(sample)
    def told(hp: Any, base: Any) -> Any:
        try:
            return sample(hp, base)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file.resolve()]
            where = f"{printable(str(file))}, line {lines[-1]}" if lines else printable(str(file))
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            raise InputError(f"{where}: {kind}{' '.join(str(error).split())}") from error

    return told
