"""Names for things: the parts that a spec refers to, and the models themselves."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from zoo.errors import InputError

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A mapping from names to entries that refuses to forget or to guess.

    A name is given once: registering another entry under it is an error. Registering the same entry again is
    not (an equal value, or a function or class of the same module and qualified name, as when a notebook cell
    runs twice); the newer one then counts.

    Args:
        kind: What the entries are, in the singular, for error messages: `"block"`, `"model"`.

    Example:
        ```python
        BLOCKS: Registry[Block] = Registry("block")


        @BLOCKS.register("mine")
        def my_block(inputs, *, filters, strides, style, name): ...
        ```
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Register `entry` under `name`.

        Raises:
            InputError: If the name is taken by something else.
        """
        if name in self._entries and not _same(self._entries[name], entry):
            raise InputError(
                f"The {self.kind} name {name!r} is taken by {_origin(self._entries[name])}. "
                f"Choose another name for {_origin(entry)}."
            )
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[Function], Function]:
        """Return a decorator that registers a function or class under `name`."""

        def decorate(function: Function) -> Function:
            # The decorator only makes sense where T is a function or class; Generic cannot say so.
            self.add(name, cast(T, function))
            return function

        return decorate

    def __getitem__(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            InputError: If there is none; the message holds the closest names and the list of all.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist: what was received, what is close to it, and what there is.

    Args:
        kind: What was looked for, in the singular: `"model"`, `"strategy"`.
        name: What was received.
        known: The names that exist, in the order in which to list them.

    Returns:
        The exception, to be raised by the caller.
    """
    names = list(known)
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower_case, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(by_lower_case[match] for match in close)}?" if close else ""
    return InputError(f"Unknown {kind} {name!r}.{hint} Available: {', '.join(names) or 'none'}.")


def _same(first: object, second: object) -> bool:
    if callable(first) and callable(second):
        return _origin(first) == _origin(second)
    return first == second


def _origin(entry: object) -> str:
    """Where a function or class was defined; for a value, the value."""
    if hasattr(entry, "__qualname__"):
        return f"{entry.__module__}.{entry.__qualname__}"
    return repr(entry)
