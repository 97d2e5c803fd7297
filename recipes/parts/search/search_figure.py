"""`search.png`: how a search went, what its models cost, and what its hyperparameters are worth."""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from recipes.parts.figures import figure_style
from recipes.parts.names import shortened
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.final_runs import FinalRuns, final_runs
from recipes.parts.search.importance import Importances
from recipes.parts.search.pareto import Cost, cost_of, pareto_front
from recipes.parts.search.point_names import name_points
from recipes.parts.search.records import Objective, Trial, sign
from recipes.parts.search.trial_lists import OBJECTIVES, score, scored, searched

# Told apart by any kind of colour vision (Okabe and Ito 2008), and by their marks.
TRIAL, BEST, FAILED = "#0b6e99", "#d55e00", "#555555"
FINALS: dict[str, tuple[str, str]] = {"winner": ("*", "#009e73"), "default": ("D", "#000000")}

COSTS: Mapping[Cost, str] = {
    "parameters": "parameters",
    "latency_ms": "latency of an image, ms",
    "multiply_adds": "multiply-adds of an image",
}
MOST_BARS = 20
FAR = 3.0
"""In interquartile ranges, the distance from the middle half of the scores at which the axis ends."""


def draw_search(
    path: Path, trials: Sequence[Trial], objective: Objective, importances: Importances, *, title: str
) -> None:
    """Draw a search, under way or over.

    Args:
        path: Where to put the PNG.
        trials: Of the search, in any state.
        objective: What the scores are.
        importances: Of its hyperparameters.
        title: What was searched, in a line or two.
    """
    finals = final_runs(trials)
    done = scored(trials)
    timed = any(cost_of(trial, "latency_ms") for trial in done)
    costs: tuple[Cost, Cost] = ("parameters", "latency_ms" if timed or not done else "multiply_adds")
    # Names of hyperparameters are the user's: a dollar sign in one must not start a formula.
    with figure_style():
        bars = min(len(importances.hyperparameters), MOST_BARS)
        figure = Figure(figsize=(13, 7.2 + max(0, bars - 10) * 0.17), layout="constrained")
        figure.suptitle(title, fontsize=12)
        halves = figure.subfigures(2, 1, squeeze=False, hspace=0.05)[:, 0]
        over_trials, worth = halves[0].subplots(1, 2, width_ratios=(1.25, 1))
        fronts = halves[1].subplots(1, 2)
        limits = _limits(done, finals, objective)
        _draw_trials(over_trials, trials, finals, objective, limits)
        _draw_importance(worth, importances)
        names = [
            _draw_cost(axes, done, finals, objective, cost, limits) for axes, cost in zip(fronts, costs, strict=True)
        ]
        figure.draw_without_rendering()  # names are put where there is room, which is known now
        for axes, cost, front in zip(fronts, costs, names, strict=True):
            points = {trial.id: (_cost(trial, cost), score(trial)) for trial in reversed(front)}
            name_points(axes, points, upwards=sign(objective) > 0)
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)


def _limits(done: Sequence[Trial], finals: Sequence[FinalRuns], objective: Objective) -> tuple[float, float] | None:
    """Where the axis of scores ends: at the worst score, unless that lies far from most; None without scores."""
    values = [score(trial) for trial in done]
    if not values:
        return None
    low, high = min(values), max(values)
    lower, upper = np.percentile(values, (25, 75))
    reach = FAR * (upper - lower)
    if reach > 0 and sign(objective) > 0:
        low = min(value for value in values if value >= lower - reach)
    elif reach > 0:
        high = max(value for value in values if value <= upper + reach)
    means = [value for final in finals if (value := final.validated(objective)) is not None]
    low, high = min(low, *means, high), max(high, *means, low)
    room = (high - low) * 0.06 or max(abs(high) * 0.05, 0.01)
    return low - room, high + room


def _draw_trials(
    axes: Axes,
    trials: Sequence[Trial],
    finals: Sequence[FinalRuns],
    objective: Objective,
    limits: tuple[float, float] | None,
) -> None:
    """The score of each trial in the order in which they began, and the best up to each."""
    own = [trial for trial in searched(trials) if trial.status in ("done", "failed")]
    place = {trial.id: index for index, trial in enumerate(own, 1)}
    done = scored(own)
    axes.set_xlabel("trial, in the order in which they began")
    axes.set_ylabel(OBJECTIVES[objective])
    axes.set_xlim(0, len(own) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    _tidy(axes)
    if limits is not None:
        axes.set_ylim(limits)
        _draw_scores(axes, [place[trial.id] for trial in done], done, limits)
        direction = sign(objective)
        best = direction * np.maximum.accumulate([direction * score(trial) for trial in done])
        places = [*(place[trial.id] for trial in done), len(own) + 1]
        axes.step(places, [*best, best[-1]], where="post", color=BEST, linewidth=1.4, label="best so far", zorder=2)
        for final in finals:
            mean = final.validated(objective)
            if mean is not None:
                color = FINALS[final.kind][1]
                label = f"{final.kind}, trained in full"
                axes.axhline(mean, color=color, linestyle="--" if final.kind == "default" else ":", label=label)
    else:
        _say(axes, "no trial is done")
        axes.set_yticks([])
    failed = [place[trial.id] for trial in own if trial.status == "failed"]
    if failed:
        axes.plot(
            failed,
            [0.0] * len(failed),
            "x",
            color=FAILED,
            markersize=6,
            clip_on=False,
            zorder=5,
            transform=axes.get_xaxis_transform(),
            label=f"failed ({len(failed)})",
        )
    _explain(axes)


def _draw_scores(axes: Axes, x: Sequence[float], trials: Sequence[Trial], limits: tuple[float, float]) -> None:
    """A dot for each trial, in a colour for each of Hyperband's budgets; a triangle at the edge for one beyond it."""
    budgets = sorted({trial.values.get("tuner/epochs", 0) for trial in trials})
    colors = [TRIAL] if len(budgets) == 1 else colormaps["viridis"](np.linspace(0, 0.85, len(budgets)))
    low, high = limits
    outside: list[tuple[float, float]] = []
    for budget, color in zip(budgets, colors, strict=True):
        own = [
            (place, score(trial))
            for place, trial in zip(x, trials, strict=True)
            if trial.values.get("tuner/epochs", 0) == budget
        ]
        inside = [point for point in own if low <= point[1] <= high]
        outside += [point for point in own if point not in inside]
        label = "trial" if len(budgets) == 1 else f"budget {budget}"
        size = 5 if len(trials) <= 100 else 3.5
        axes.plot(*_columns(inside), "o", color=color, markersize=size, markeredgewidth=0, alpha=0.8, label=label)
    for mark, edge, own in (
        ("v", low, [point for point in outside if point[1] < low]),
        ("^", high, [point for point in outside if point[1] > high]),
    ):
        if own:
            farthest = min(own, key=lambda point: point[1]) if mark == "v" else max(own, key=lambda point: point[1])
            label = f"off the scale, to {farthest[1]:.3g}"
            places = [point[0] for point in own]
            room = (high - low) * (0.02 if mark == "v" else -0.02)
            axes.plot(places, [edge + room] * len(own), mark, color=FAILED, mfc="none", markersize=5, label=label)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [point[1] for point in points]


def _draw_cost(
    axes: Axes,
    done: Sequence[Trial],
    finals: Sequence[FinalRuns],
    objective: Objective,
    cost: Cost,
    limits: tuple[float, float] | None,
) -> list[Trial]:
    """The score of each trial against what its model costs, and the front of those that no other beats."""
    known = [trial for trial in done if cost_of(trial, cost) is not None]
    axes.set_xlabel(COSTS[cost])
    axes.set_ylabel(OBJECTIVES[objective])
    _tidy(axes)
    if not known or limits is None:
        _say(axes, "no trial is done" if not done else "not measured")
        axes.set_xticks([])
        axes.set_yticks([])
        return []
    axes.set_ylim(limits)
    costs = [_cost(trial, cost) for trial in known]
    _draw_scores(axes, costs, known, limits)
    for line in axes.lines:  # the panel above says what they are
        line.set_label("_")
    front = pareto_front(known, cost, sign=sign(objective))
    points = [(_cost(trial, cost), score(trial)) for trial in front]
    for final in finals:
        mean = final.validated(objective)
        if mean is not None and final.runs and cost_of(final.runs[0], cost) is not None:
            own = statistics.median(_cost(run, cost) for run in final.runs if cost_of(run, cost) is not None)
            costs.append(own)
            mark, color = FINALS[final.kind]
            size = 13 if mark == "*" else 7
            label = f"{final.kind}, trained in full"
            axes.plot(own, mean, mark, color=color, mec="white", markersize=size, zorder=4, linestyle="", label=label)
    _scale(axes, costs, StrMethodFormatter("{x:g}") if cost == "latency_ms" else EngFormatter(sep=""))
    edge = axes.get_xlim()[1]
    axes.step(*_columns([*points, (edge, points[-1][1])]), where="post", color=BEST, linewidth=1.4, zorder=2)
    axes.plot(*_columns(points), "o", mfc="none", mec=BEST, markersize=8, label="none is better and cheaper")
    _explain(axes)
    return front


def _cost(trial: Trial, cost: Cost) -> float:
    value = cost_of(trial, cost)
    assert value is not None
    return value


def _scale(axes: Axes, values: Sequence[float], formatter: Formatter) -> None:
    """An axis of costs: by factors where they span a decade, with few ticks that can be read."""
    low, high = min(values), max(values)
    if high >= 10 * low:
        room = (high / low) ** 0.06
        axes.set_xscale("log")
        axes.set_xlim(low / room, high * room)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 1000 * low else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        room = (high - low) * 0.06 or high * 0.1
        axes.set_xlim(max(0, low - room), high + room)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(formatter)


def _draw_importance(axes: Axes, importances: Importances) -> None:
    """A bar for each hyperparameter, the most important on top, with its interval."""
    bars = importances.hyperparameters[:MOST_BARS]
    _tidy(axes)
    axes.set_title("what each hyperparameter is worth", fontsize=9)
    if not bars:
        _say(axes, importances.notice)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    places = range(len(bars))
    trusted = not importances.notice
    axes.barh(places, [bar.share for bar in bars], color=TRIAL if trusted else "#c4cbd2", height=0.7)
    axes.hlines(places, [bar.low for bar in bars], [bar.high for bar in bars], color="black", linewidth=1)
    axes.set_yticks(places, [shortened(bar.name, 28) for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("share of how trials rank that it explains, with an interval of 90 %")
    hidden = len(importances.hyperparameters) - len(bars)
    told = [f"R2 out of bag {importances.r2:z.2f}, {importances.trials} trials"]
    if not trusted:
        told.append("not trustworthy")
    if hidden:
        told.append(f"{hidden} less important left out")
    axes.text(0.99, 0.03, "\n".join(told), transform=axes.transAxes, ha="right", va="bottom", fontsize=8)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _explain(axes: Axes) -> None:
    """A legend above the panel, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        look = {"frameon": False, "fontsize": 8, "handlelength": 1.5, "columnspacing": 1.2, "borderpad": 0.1}
        columns = max(1, 100 // (max(map(len, labels)) + 6))
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, **look)


def _say(axes: Axes, text: str) -> None:
    """Say why a panel is empty."""
    axes.grid(visible=False)
    axes.text(0.5, 0.5, textwrap.fill(text, 50), ha="center", va="center", transform=axes.transAxes)
