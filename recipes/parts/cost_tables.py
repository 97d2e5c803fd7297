"""What networks cost, as tables on a terminal and as rows for other programs."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from recipes.parts.names import printable
from zoo.cost.costs import Cost, Description, LayerCost

ROOMY = 100
"""Columns of a terminal from which the table of layers can hold all that is known."""


def table(*headings: str, words: int = 1, roomy: bool = True) -> Table:
    """An empty table of numbers, without lines.

    Args:
        headings: Of the columns.
        words: How many columns hold words; the others hold numbers.
        roomy: Whether columns stand two blanks apart, or one.
    """
    made = Table(box=None, padding=(0, 2 if roomy else 1, 0, 0), pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="left" if index < words else "right", vertical="bottom", overflow="fold")
    return made


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """A table of names, each with what there is to say of it."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for fact in facts:
        add_row(made, fact)
    return made


def add_row(target: Table, cells: Sequence[str], *, style: str = "") -> None:
    """Add plain text to a table: names are never read as markup."""
    target.add_row(*(Text(printable(cell)) for cell in cells), style=style)


def count(number: int) -> str:
    """A whole number; empty for nothing."""
    return f"{number:,}" if number else ""


def millions(number: int) -> str:
    """A count in millions, with three digits or so; empty for nothing."""
    value = number / 1e6
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:,.{digits}f}" if number else ""


def share(part: int, total: int) -> str:
    """A share in percent; empty for nothing."""
    return f"{100 * part / total:.1f}" if part else ""


def times(sizes: Sequence[float]) -> str:
    """Sizes along several axes: `7x7x1280`."""
    return "x".join(f"{size:g}" for size in sizes)


def square(sizes: Sequence[float]) -> str:
    """Sizes along several axes, once if all are the same: `32`, `851x500`."""
    return times(sizes if len(set(sizes)) > 1 else sizes[:1])


def field(cost: Cost) -> str:
    """A receptive field; `all` for the whole image."""
    return "all" if cost.sees_all else square(cost.receptive_field)


def layer_table(costs: Description, *, roomy: bool) -> Table:
    """A table with a row for each layer, below the name of its stage.

    Args:
        costs: Of a network.
        roomy: Whether the stride, and frozen parameters by themselves, are shown as well.
    """
    made = table(*_headings("layer", "trainable frozen" if roomy else "parameters", roomy=roomy), roomy=roomy)
    stage = None
    for layer in costs.layers:
        if layer.stage != stage:
            stage = layer.stage
            made.add_row(Text(printable(stage)), style="bold")
        name = f"  {layer.name.rpartition(f'{stage}_')[2]}"
        parameters = (layer.trainable, layer.frozen) if roomy else (layer.parameters,)
        add_row(made, _cells(name, layer, parameters, costs.total, roomy=roomy))
    return made


def stage_table(costs: Description, *, roomy: bool) -> Table:
    """A table with a row for each stage, and one for all of them.

    Args:
        costs: Of a network.
        roomy: Whether the stride is shown as well.
    """
    made = table(*_headings("stage", "trainable frozen", roomy=roomy), "param.\n%", roomy=roomy)
    total = costs.total
    for cost in (*costs.stages, total):
        name = "total" if cost is total else cost.name
        cells = _cells(name, cost, (cost.trainable, cost.frozen), total, roomy=roomy)
        if cost is total:  # its last output says nothing of it
            cells = [name, *([""] * (3 if roomy else 2)), *cells[4 if roomy else 3 :]]
        add_row(made, [*cells, share(cost.parameters, total.parameters)], style="bold" if cost is total else "")
    return made


def _headings(name: str, parameters: str, *, roomy: bool) -> list[str]:
    stride = ["stride"] if roomy else []
    return [name, "output", "field", *stride, *parameters.split(), "memory\nMB", "mult-\nadds M", "adds\n%"]


def _cells(name: str, cost: Cost, parameters: Sequence[int], total: Cost, *, roomy: bool) -> list[str]:
    return [
        name,
        times(cost.output_shape),
        field(cost),
        *([square(cost.stride)] if roomy else []),
        *map(count, parameters),
        millions(cost.activation_bytes),
        millions(cost.multiply_adds),
        share(cost.multiply_adds, total.multiply_adds),
    ]


def row(cost: Cost, total: Cost) -> dict[str, Any]:
    """What a layer or stage costs, for JSON.

    Args:
        cost: Of a layer or stage.
        total: Of the network, for shares, which are fractions from 0 to 1.
    """
    of_layer = {"stage": cost.stage, "layer": cost.name, "kind": cost.kind} if isinstance(cost, LayerCost) else {}
    return {
        **(of_layer or {"stage": cost.name}),
        "output_shape": cost.output_shape,
        "receptive_field": cost.receptive_field,
        "sees_all": cost.sees_all,
        "stride": cost.stride,
        "parameters": cost.parameters,
        "trainable": cost.trainable,
        "frozen": cost.frozen,
        "share_of_parameters": cost.parameters / max(total.parameters, 1),
        "multiply_adds": cost.multiply_adds,
        "share_of_multiply_adds": cost.multiply_adds / max(total.multiply_adds, 1),
        "activation_bytes": cost.activation_bytes,
    }


def write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as CSV below their headings, with shapes as `7x7x1280`; nothing if there are none."""
    if not rows:
        return
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for values in rows:
        writer.writerow({key: times(value) if isinstance(value, tuple) else value for key, value in values.items()})
