import io

import pytest
from rich.console import Console

from recipes.parts import display as display_module
from recipes.parts.display import Clock, Display, duration

NUMBERS = {"loss": 0.5, "val_loss": 0.25, "val_accuracy": 0.75, "seconds": 1.25}


def run(display):
    with display:
        display.say("a [bold]name[/bold] \x1b here")
        with display.working("reading") as progress:
            progress(1, None)
            progress(2, 2)
        display.expect_stages(["head", "top"], [2, 3], [1.0, 2.0], [0.0, 0.5])
        for index, epochs in enumerate([2, 1]):
            display.begin_stage(index)
            for epoch in range(epochs):
                display.end_batch(index, epoch + 0.5)
                display.end_epoch(index, epoch + 1, NUMBERS)
            display.end_stage(index, epochs)


def test_plain_lines_where_there_is_no_terminal():
    out = io.StringIO()
    run(Display(Console(file=out, highlight=False, width=40)))
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("a [bold]name[/bold]")
    epoch = [line for line in lines if "epoch" in line]
    assert epoch == [
        "  head  epoch 1/2   loss 0.500   validation loss 0.250, accuracy 0.750   1.2 s",
        "  head  epoch 2/2   loss 0.500   validation loss 0.250, accuracy 0.750   1.2 s",
        "  top  epoch 1/3   loss 0.500   validation loss 0.250, accuracy 0.750   1.2 s",
    ]


def test_one_live_display_on_a_terminal():
    out = io.StringIO()
    run(Display(Console(file=out, force_terminal=True, width=120, highlight=False)))
    shown = out.getvalue()
    assert "head" in shown
    assert "top" in shown
    assert "left, less if a stage stops early" in shown
    assert "epoch 1/2" not in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_time_left_goes_by_the_cost_of_each_stage(monkeypatch):
    now = 100.0
    monkeypatch.setattr(display_module.time, "perf_counter", lambda: now)
    clock = Clock(epochs=[4, 2], costs=[1.0, 3.0], beginnings=[0.0, 0.0])
    assert clock.left() is None
    clock.begin(0)
    now += 2.0
    clock.advance(1)  # a unit takes 2 s, and 3 + 6 are left
    assert clock.left() == pytest.approx(18.0)
    now += 2.0
    clock.advance(2)
    clock.end(0, 2)  # stopped early: 4 s for 2 units, 6 are left
    assert clock.left() == pytest.approx(12.0)
    clock.begin(1)
    now += 6.0
    clock.advance(1)
    assert clock.left() == pytest.approx(6.0)
    now += 6.0
    clock.advance(2)
    clock.end(1, 2)
    assert clock.left() == 0.0


def test_time_left_knows_what_comes_before_the_first_epoch(monkeypatch):
    now = 100.0
    monkeypatch.setattr(display_module.time, "perf_counter", lambda: now)
    clock = Clock(epochs=[2, 1], costs=[1.0, 2.0], beginnings=[4.0, 3.0])
    clock.begin(0)
    assert clock.left() is None
    now += 10.0
    clock.advance(1)  # 5 units took 10 s; 1 + 3 + 2 are left
    assert clock.left() == pytest.approx(12.0)
    now += 2.0
    clock.advance(2)
    clock.end(0, 2)
    assert clock.left() == pytest.approx(10.0)
