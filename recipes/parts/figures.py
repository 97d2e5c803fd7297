"""What all figures of the recipes have in common."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw figures alike, and safely: names of files and classes are the user's.

    A dollar sign in one must not start a formula, and a letter that the font lacks is drawn as a box without a warning.
    """
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
