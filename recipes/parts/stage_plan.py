"""What the stages of a run will take, before it starts; and what they took, after it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from recipes.parts.display import duration
from recipes.parts.stage_events import StageResult


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage will take."""

    name: str
    blocks: tuple[str, ...]
    """That train."""
    trainable_parameters: int
    parameters: int
    epochs: int
    forward_multiply_adds: int
    """For one image, through the whole model."""
    backward_multiply_adds: int
    """For one image."""
    cut: str
    """The layer up to which frozen layers run once; empty if they run in every epoch."""
    views: int
    """Versions of each training image that are kept; 0 for the images as they are."""
    cache_bytes: int
    place: str
    """Where what frozen layers say is kept: `memory`, `disk`, or `` for nowhere."""
    fill_images: int
    """Images that frozen layers still have to see, those for later stages included."""
    fill_seconds: float
    epoch_seconds: float
    epoch_seconds_uncached: float | None
    """What an epoch would take through all layers; None where that was not timed, as all is there already."""
    seconds: float
    """With all epochs."""
    peak_bytes: int
    """Memory that the process alone holds, without mapped files."""
    reason: str
    """What is done about frozen layers and why, in one line."""


def plan_table(plans: Sequence[StagePlan], results: Sequence[StageResult] | None = None) -> Table:
    """A column for each stage.

    Args:
        plans: Of the stages.
        results: What they did; then times and memory stand as "predicted → actual".
    """
    table = Table("", title="plan" if results is None else "predicted → actual", title_justify="left")
    rows: dict[str, list[str]] = {}
    for index, plan in enumerate(plans):
        table.add_column(Text(plan.name))
        result = None if results is None else results[index]
        versions = f", {plan.views} versions" if plan.views else ""
        column = {
            "trains": _span(plan.blocks),
            "parameters": f"{plan.trainable_parameters:,}",
            "multiply-adds forward": f"{plan.forward_multiply_adds / 1e6:,.1f} M",
            "multiply-adds backward": f"{plan.backward_multiply_adds / 1e6:,.1f} M",
            "run once, up to": plan.cut or "-",
            "kept of it": f"{plan.cache_bytes / 1e6:,.0f} MB, {plan.place}{versions}" if plan.cut else "-",
            "to run it once": _both(_seconds, plan.fill_seconds, result.fill_seconds if result else None),
            "an epoch": _both(_seconds, plan.epoch_seconds, result.epoch_seconds if result else None),
            "an epoch through all": _optional(plan.epoch_seconds_uncached),
            "epochs, at most": _both(str, plan.epochs, result.epochs if result else None),
            "all of it": _both(_seconds, plan.seconds, result.seconds if result else None),
            "memory": _both(_megabytes, plan.peak_bytes, result.peak_bytes if result else None),
        }
        for heading, cell in column.items():
            rows.setdefault(heading, []).append(cell)
    for heading, cells in rows.items():
        table.add_row(heading, *map(Text, cells))
    took = "" if results is None else f", took {duration(sum(result.seconds for result in results))}"
    table.caption = f"all stages: {duration(sum(plan.seconds for plan in plans))} with all epochs{took}"
    table.caption_justify = "left"
    return table


def to_rows(plans: Sequence[StagePlan], results: Sequence[StageResult] | None = None) -> list[dict[str, Any]]:
    """The same for a file."""
    rows = [asdict(plan) for plan in plans]
    for row, result in zip(rows, results or (), strict=False):
        row["actual"] = {
            "fill_seconds": result.fill_seconds,
            "fill_images": result.fill_images,
            "epoch_seconds": result.epoch_seconds,
            "epochs": result.epochs,
            "seconds": result.seconds,
            "peak_bytes": result.peak_bytes,
        }
    return rows


def _both(show: Callable[[Any], str], predicted: Any, actual: Any) -> str:
    return show(predicted) if actual is None else f"{show(predicted)} → {show(actual)}"


def _seconds(value: float) -> str:
    return duration(value) if value >= 100 else f"{value:.3g} s"


def _optional(seconds: float | None) -> str:
    return "-" if seconds is None else _seconds(seconds)


def _megabytes(value: int) -> str:
    return f"{value / 1e6:,.0f} MB"


def _span(blocks: Sequence[str]) -> str:
    if len(blocks) <= 2:
        return ", ".join(blocks) or "nothing"
    return f"{blocks[0]} to {blocks[-1]} ({len(blocks)})"
