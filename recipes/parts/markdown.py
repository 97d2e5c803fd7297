"""Markdown with words in it that are somebody else's."""

from collections.abc import Iterable, Sequence

from recipes.parts.names import printable


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in the middle of a line, whatever characters are in it."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|~&#$" else letter for letter in printable(text))


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are Markdown."""
    return ["", *(f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)), ""]
