"""What networks cost at several depths, as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recipes.parts.figures import figure_style
from recipes.parts.run_folder import complete_or_absent


def draw_depths(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw parameters, multiply-adds and receptive field against depth, a line for each model.

    Args:
        path: Where to put the PNG.
        rows: For each model and depth, the shallowest first, `model`, `depth` (blocks a stage), `parameters`,
            `multiply_adds`, `receptive_field` and `input_shape` (pixels).
    """
    with figure_style():
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        parameters, multiply_adds, fields = figure.subplots(1, 3)
        for name in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == name]
            depths = [row["depth"] for row in own]
            (line,) = parameters.plot(depths, [row["parameters"] / 1e6 for row in own], marker="o", label=name)
            multiply_adds.plot(depths, [row["multiply_adds"] / 1e6 for row in own], marker="o")
            fields.plot(depths, [max(row["receptive_field"]) for row in own], marker="o")
            image = max(own[0]["input_shape"][:-1])
            fields.axhline(image, color=line.get_color(), linestyle=":", linewidth=1)
        parameters.set_ylabel("parameters, millions")
        multiply_adds.set_ylabel("multiply-adds an image, millions")
        fields.set_ylabel("receptive field, pixels (dotted: the image)")
        for axes in (parameters, multiply_adds, fields):
            axes.set_xlabel("blocks in each stage")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
        parameters.legend(frameon=False)
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)
