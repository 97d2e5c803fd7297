"""What a study found, as a table and a figure: one row for each model and pool, over all seeds."""

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from recipes.parts import cost_tables
from recipes.parts.figures import figure_style
from recipes.parts.names import printable, shortened
from recipes.parts.run_folder import complete_or_absent
from zoo.errors import InputError

HEADINGS = ("model", "pool", "parameters", "multiply-adds, M", "seconds", "test accuracy", "mean")


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read the trainings that were written down, one JSON object a line.

    A last line without an end is that of a study which was killed while it wrote; it is taken away.

    Raises:
        InputError: If another line is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        rows = [json.loads(line) for line in whole.splitlines()]
        for row in rows:
            if not {"model", "pool", "seed"} < set(row):
                raise ValueError("a line is not the result of a training")
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{printable(str(path))} is damaged: {error}. Begin anew with another --out") from None
    if whole != text:
        with complete_or_absent(path) as beside:
            beside.write_text(whole, encoding="utf-8")
    return rows


def summarise(
    results: Sequence[dict[str, Any]], *, models: Sequence[str], pools: Sequence[str]
) -> list[dict[str, Any]]:
    """Bring the trainings of all seeds together.

    Args:
        results: What `read_results` gives; those that failed are left out.
        models: In which order the rows stand.
        pools: In which order those of a model stand.

    Returns:
        For each model and pool that has been trained: `model`, `pool`, `parameters`, `multiply_adds`, and of the
        seeds, the lowest first, `seconds` and `accuracy`.
    """
    rows = []
    for model in models:
        for pool in pools:
            own = [row for row in results if (row["model"], row["pool"]) == (model, pool) and "failed" not in row]
            if own:
                same = {name: own[0][name] for name in ("model", "pool", "parameters", "multiply_adds")}
                rows.append({**same, **{name: sorted(row[name] for row in own) for name in ("seconds", "accuracy")}})
    return rows


def study_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The table for a terminal."""
    made = cost_tables.table(*HEADINGS, words=2)
    for row in rows:
        cost_tables.add_row(made, _cells(row))
    return made


def write_tables(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `table.csv`, for programs, and `table.md`, for people."""
    with complete_or_absent(folder / "table.csv") as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = ("model", "pool", "parameters", "multiply_adds")
        spans = [f"{kind}_{end}" for kind in ("seconds", "accuracy") for end in ("lowest", "mean", "highest")]
        writer.writerow([*names, *spans, "seeds"])
        for row in rows:
            numbers = [number for kind in ("seconds", "accuracy") for number in _span(row[kind])]
            writer.writerow([*(row[name] for name in names), *numbers, len(row["accuracy"])])
    lines = [HEADINGS, ("---", "---", *["---:"] * 5), *map(_cells, rows)]
    with complete_or_absent(folder / "table.md") as beside:
        text = "\n".join(f"| {' | '.join(printable(cell).replace('|', '¦') for cell in line)} |" for line in lines)
        beside.write_text(text + "\n", encoding="utf-8")


def draw_study(path: Path, rows: Sequence[dict[str, Any]], *, title: str) -> None:
    """Draw accuracy and time of every pool, a column for each model.

    Args:
        path: Where to put the PNG.
        rows: What `summarise` gives.
        title: What was studied, in one line.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    with figure_style():
        most = max(sum(row["model"] == model for row in rows) for model in models)
        figure = Figure(figsize=(2 + 4 * len(models), 2 + 0.6 * most), layout="constrained")
        figure.suptitle(f"{title}\na dot for each seed, a line from the lowest to the highest, a tick at the mean")
        grid = figure.subplots(2, len(models), squeeze=False, sharex="row")
        for column, model in enumerate(models):
            own = [row for row in rows if row["model"] == model][::-1]
            for axes, kind, name in ((grid[0, column], "accuracy", "test accuracy"), (grid[1, column], "seconds", "s")):
                for place, row in enumerate(own):
                    low, mean, high = _span(row[kind])
                    axes.plot((low, high), (place, place), color="#0b6e99", linewidth=1.5)
                    axes.plot(row[kind], [place] * len(row[kind]), "o", color="#0b6e99", markersize=4)
                    axes.plot(mean, place, "|", color="black", markersize=11)
                axes.set_yticks(range(len(own)), [shortened(row["pool"], 24) for row in own])
                axes.set_xlabel(name if kind == "accuracy" else "seconds of training")
                axes.grid(axis="x", alpha=0.3)
                axes.spines[["top", "right"]].set_visible(False)
            grid[0, column].set_title(shortened(model, 40))
        grid[1, 0].set_xlim(left=0)  # of all, once everything is drawn
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)


def _span(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.fmean(values), max(values)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    seconds, accuracy = _span(row["seconds"]), _span(row["accuracy"])
    return (
        row["model"],
        row["pool"],
        cost_tables.count(row["parameters"]),
        cost_tables.millions(row["multiply_adds"]),
        f"{seconds[0]:.0f} to {seconds[2]:.0f}",
        f"{accuracy[0]:.4f} to {accuracy[2]:.4f}",
        f"{accuracy[1]:.4f}",
    )
