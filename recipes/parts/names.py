"""Names of files and classes in messages: on one line, printable, and not too many of them."""

from collections.abc import Sequence


def printable(text: str) -> str:
    r"""Return text that is safe to show on one line of a terminal.

    File names may hold newlines, terminal escapes and bytes that are no text at all. Whatever is not
    printable is written as in a Python string; everything else, brackets included, stays as it is. The result
    is plain text and must not be shown as rich markup.

    Args:
        text: Any string, lone surrogates included.

    Example:
        ```python
        printable("cat\x1b[2J.jpg")    # "cat\\x1b[2J.jpg"
        ```
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def shortened(name: str, length: int) -> str:
    """Return a name made printable, and cut to `length` characters, as figures need it."""
    shown = printable(name)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """Return the first few names, made printable, and how many more there are.

    Args:
        names: At least one.
        most: How many to spell out.

    Example:
        ```python
        listed(["a", "b", "c"], most=2)    # "a, b and 1 more"
        ```
    """
    shown = ", ".join(printable(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `counted(1, "file")` is "1 file", `counted(1200, "file")` "1,200 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
