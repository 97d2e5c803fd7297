"""Names from outside cannot break a line, move a cursor or hide."""

from hypothesis import given
from hypothesis import strategies as st

from recipes.parts.names import counted, listed, printable


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_printable_line(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_what_is_printable_stays_and_the_rest_is_escaped():
    assert printable("Straße [red] é 猫.jpg") == "Straße [red] é 猫.jpg"
    assert printable("a\nb\x1b[2J\udcff\u202e") == "a\\nb\\x1b[2J\\udcff\\u202e"


def test_a_long_list_is_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed([*"abcde"]) == "a, b, c, d, e"
    assert listed(["x"] * 1205, most=2) == "x, x and 1,203 more"
    assert listed(["a\nb"]) == "a\\nb"


def test_numbers_have_the_right_noun():
    assert [counted(number, "file") for number in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]
