import io
import time

import pytest
from rich.console import Console

from recipes.parts.display import Display
from recipes.parts.search.final_runs import final_table
from recipes.parts.search.heartbeat import Pulse
from recipes.parts.search.job import Job
from recipes.parts.search.live_table import LiveTable, explained
from recipes.parts.search.records import Outcome, Trial


def job(**changes):
    values = {name: None for name in Job.__dataclass_fields__}
    return Job(**{**values, "objective": "accuracy", "max_trials": 10, "fix": {}, **changes})


def trial(number, score=None, *, status="done", values=None, reason="", seconds=8.0, objective="accuracy"):
    outcome = Outcome(status=status, validation={objective: score}, seconds=seconds, reason=reason)
    return Trial(
        id=f"{number:04d}",
        status=status,
        score=score,
        values=values or {},
        began=time.time(),
        outcome=outcome if status in ("done", "failed") else None,
    )


def final(kind, seed, accuracy):
    outcome = Outcome(status="done", validation={"accuracy": 0.9}, test={"accuracy": accuracy}, seconds=2.0)
    return Trial(id=f"{kind}-{seed}", status="done", score=0.9, outcome=outcome)


def shown(*, terminal, width=120):
    out = io.StringIO()
    return out, Display(Console(file=out, force_terminal=terminal, width=width, highlight=False, color_system=None))


def test_a_line_for_each_trial_where_there_is_no_terminal():
    out, display = shown(terminal=False, width=40)
    trials = [trial(3, 0.5)]
    with LiveTable(display, job()) as live:
        live.update(trials)
        assert out.getvalue() == ""  # had ended before
        trials.append(trial(4, 0.947, values={"pool_stage1": "max", "width": 0.5, "tuner/round": 1}))
        live.update(trials)
        live.update(trials)
        trials += [trial(5, 0.953), trial(6, status="failed", reason="[red]\x1b out of\nmemory"), trial(7, 0.9)]
        trials.append(trial(8, status="running"))
        live.update(trials, [Pulse(worker="w1", trial="0008", epoch=2, epochs=10, seconds=3.0)])
        live.say("w1 was ended by signal SIGKILL [bold]")
        live.update([*trials, final("winner", 0, 0.951)])
    assert out.getvalue().splitlines() == [
        "0004  done  accuracy 0.947  (the best so far)  8.0 s   pool_stage1=max width=0.5",
        "0005  done  accuracy 0.953  (the best so far)  8.0 s   ",
        "0006  failed  [red]\\x1b out of\\nmemory  8.0 s",
        "0007  done  accuracy 0.900  (best 0.953, 0005)  8.0 s   ",
        "w1 was ended by signal SIGKILL [bold]",
        "winner-0  done  test accuracy 0.951  2.0 s",
    ]


def test_less_is_better_for_the_loss():
    out, display = shown(terminal=False)
    with LiveTable(display, job(objective="loss")) as live:
        live.update([])
        live.update([trial(0, 0.2, objective="loss"), trial(1, 0.3, objective="loss")])
    assert "(best 0.200, 0000)" in out.getvalue().splitlines()[1]


def test_one_table_on_a_terminal():
    out, display = shown(terminal=True)
    trials = [
        trial(0, 0.91, values={"pool": "[bold]max", "width": 0.5, "depth": 1}),
        trial(1, 0.95, values={"pool": "[bold]avg", "width": 0.5, "depth": 2}),
        trial(2, status="running"),
        trial(3, status="waiting"),
        trial(4, status="failed", reason="too large"),
    ]
    running = [Pulse(worker="w1", trial="0002", epoch=3, epochs=10, seconds=75.0, memory_bytes=1_200_000_000)]
    with display, LiveTable(display, job(), defaults={"width": 0.5, "depth": 1}) as live:
        live.update([])
        live.update(trials, running, replaced=3)
        live.live.refresh()
    text = out.getvalue()
    assert "best accuracy 0.9500, trial 0001   pool=[bold]avg depth=2" in text
    line = next(line for line in text.splitlines() if "3 of 10" in line)
    assert line.split() == ["w1", "0002", "3", "of", "10", "1", "min", "15", "s", "1.20"]
    assert "2 done, 1 failed, 1 running, 6 waiting, 3 replaced, over a budget" in text
    assert "0004  failed  too large" in text
    assert "0000  done" not in text


def test_the_displays_own_bars_come_back():
    _, display = shown(terminal=True)
    with display:
        with LiveTable(display, job()):
            assert not display.live.is_started
        assert display.live.is_started


@pytest.mark.parametrize(
    ("changes", "workers", "spent", "expected"),
    [
        ({}, 1, 0.0, 80.0),  # one runs, one waits, six have not begun, of 10 s each
        ({}, 4, 0.0, 20.0),
        ({"max_total_seconds": 100.0}, 1, 70.0, 40.0),  # begins none after 30 s, and the last takes 10
        ({"max_total_seconds": 100.0}, 1, 200.0, 10.0),
    ],
)
def test_time_left(changes, workers, spent, expected):
    _, display = shown(terminal=False)
    trials = [trial(0, 0.9, seconds=8.0), trial(1, 0.9, seconds=12.0), trial(2, status="running")]
    trials.append(trial(3, status="waiting"))
    live = LiveTable(display, job(**changes), workers=workers, spent=spent)
    assert live._left(trials) == pytest.approx(expected, abs=1.0)
    assert live._left(trials[2:]) is None


def test_what_goes_with_the_score_is_told_first():
    words = [trial(index, (index % 3 == 0) + index / 1000, values={"a": "xyz"[index % 3]}) for index in range(12)]
    assert explained(words, "a") > 0.9
    numbers = [trial(index, index / 100, values={"a": 1e-4 * 1.1**index, "b": index % 2}) for index in range(12)]
    assert explained(numbers, "a") > 0.6
    assert explained(numbers, "b") < 0.1
    different = [trial(index, index / 100, values={"a": f"word {index}"}) for index in range(12)]
    assert explained(different, "a") == 0.0
    assert explained([trial(0, 0.5, values={"a": 1})], "a") == 0.0
    assert explained([trial(0, 0.5, values={"a": index}) for index in range(6)], "a") == 0.0


def test_final_table():
    finals = [final("winner", seed, 0.95 + seed / 100) for seed in range(3)] + [final("default", 0, 0.9)]
    out, display = shown(terminal=False, width=80)
    display.show(final_table(finals, "accuracy"))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert lines[2][:6] == ["winner", "3", "accuracy", "0.9500", "0.9600", "0.9700"]
    assert lines[3][:6] == ["default", "1", "accuracy", "0.9000", "0.9000", "0.9000"]
