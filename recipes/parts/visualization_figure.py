"""What a network sees in one image, as one figure: kernels, evidence for a class, and feature maps stage by stage."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from recipes.parts.feature_maps import Reduction, select_channels
from recipes.parts.figures import figure_style
from recipes.parts.first_kernels import Kernels
from recipes.parts.names import shortened
from recipes.parts.run_folder import complete_or_absent

EXPLAINED, OTHER = "#0b6e99", "#9aa5b1"
MOST_KERNELS = 64
MOST_ROWS = 6
COLUMNS, MOST_CHANNELS = 8, 16
"""Of the mosaic in which the channels of a feature map are shown."""
_WIDTH, _TOP, _TITLE, _TILE = 13.0, 3.7, 0.55, 0.8  # inches
_FRAME = 0.6  # grey, so that a white picture can be told from the ground

Shown: TypeAlias = tuple[Reduction, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Grad-CAM of one class."""

    class_name: str
    layer: str
    """The layer whose feature map was weighed."""
    positions: tuple[int, int]
    """Height and width of that feature map."""
    heat: np.ndarray
    """`(height, width)` of the image, 0 or more."""


def draw_visualization(
    path: Path,
    *,
    title: str,
    image: np.ndarray,
    scores: Sequence[tuple[str, float]],
    evidence: Evidence | None,
    kernels: Kernels | None,
    reductions: Sequence[Shown],
) -> None:
    """Draw the figure; what a network does not have is left out, and a line says so.

    Args:
        path: Where to put the PNG.
        title: What was run on what, in one line.
        image: uint8 `(height, width, 3)`, as the network takes it.
        scores: Classes and their probabilities, the likeliest first.
        evidence: Grad-CAM, if the network has feature maps.
        kernels: Of the first convolution, if the network has one.
        reductions: Where feature maps become smaller, from input to head, each with the feature map before and after,
            `(height, width, channels)`. Of more than `MOST_ROWS`, the first are shown.
    """
    notes = _notes(evidence, kernels, len(reductions))
    shown = reductions[:MOST_ROWS]
    heights = [_TOP, *(_TITLE + _TILE * _tile_rows(before, after) for _, before, after in shown)]
    # Class and layer names are the user's: a dollar sign in one must not start a formula.
    with figure_style():
        layout = ConstrainedLayoutEngine(h_pad=0.08)
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5 + 0.17 * len(notes)), layout=layout)
        figure.suptitle(shortened(title, 120), fontsize=12)
        figure.supxlabel("\n".join(notes), fontsize=8, x=0.01, ha="left", color="#555555")
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        _top(figure.add_subfigure(grid[0]), image, scores, evidence, kernels)
        for row, (reduction, before, after) in enumerate(shown, start=1):
            _before_and_after(figure.add_subfigure(grid[row]), reduction, before, after)
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)


def _top(
    figure: SubFigure,
    image: np.ndarray,
    scores: Sequence[tuple[str, float]],
    evidence: Evidence | None,
    kernels: Kernels | None,
) -> None:
    """The image, the evidence on it, the scores, and the kernels."""
    widths = [1.0, *([1.0] if evidence else []), 0.8, *([1.0] if kernels else [])]
    panels = iter(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    height, width = image.shape[:2]
    axes = next(panels)
    axes.imshow(image)
    axes.set_title("what the network sees")
    axes.set_xlabel(f"{height} × {width} pixels")
    _bare(axes)
    if evidence:
        _evidence(next(panels), image, evidence)
    _scores(next(panels), scores, evidence.class_name if evidence else scores[0][0])
    if kernels:
        _kernels(next(panels), kernels)


def _evidence(axes: Axes, image: np.ndarray, evidence: Evidence) -> None:
    largest = float(evidence.heat.max())
    heat = evidence.heat / largest if largest > 0 else evidence.heat
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    # Opaque where there is most of it, so that the rest of the image stays as it is.
    axes.imshow(heat, cmap="plasma", vmin=0, vmax=1, alpha=0.75 * heat)
    bar = axes.inset_axes((1.02, 0, 0.04, 1))
    bar.imshow(np.linspace(1, 0, 256)[:, np.newaxis], cmap="plasma", aspect="auto", extent=(0, 1, 0, 1))
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.set_yticks([0, 1], ["0", "max"])
    axes.set_title(f"Grad-CAM: evidence for {shortened(evidence.class_name, 24)}")
    height, width = evidence.positions
    axes.set_xlabel(f"{shortened(evidence.layer, 36)}, {height} × {width} positions")
    if largest <= 0:
        words = "no position\nspeaks for this class"
        ground = {"facecolor": "black", "edgecolor": "none", "alpha": 0.7}
        axes.text(0.5, 0.5, words, color="white", ha="center", va="center", transform=axes.transAxes, bbox=ground)
    _bare(axes)


def _scores(axes: Axes, scores: Sequence[tuple[str, float]], explained: str) -> None:
    places = np.arange(len(scores))
    colors = [EXPLAINED if name == explained else OTHER for name, _ in scores]
    axes.barh(places, [score for _, score in scores], color=colors, height=0.28)
    for place, (name, score) in zip(places, scores, strict=True):
        axes.text(0, place - 0.22, shortened(name, 22), va="bottom")
        axes.text(1, place - 0.22, f"{score:.3f}", va="bottom", ha="right")
    axes.set_xlim(0, 1)
    axes.set_ylim(max(len(scores), 5) - 0.5, -0.7)
    axes.set_title("scores")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _kernels(axes: Axes, kernels: Kernels) -> None:
    total, height, width = kernels.pictures.shape[:3]
    pictures = kernels.pictures[:MOST_KERNELS]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    if pictures.ndim == 3:
        pictures = mpl.colormaps["gray"](pictures)[..., :3]
    axes.imshow(mosaic(pictures, rows, columns))
    axes.set_title("kernels of the first convolution")
    counted = f"{len(pictures)} of {total}" if len(pictures) < total else f"{total}"
    size = f"{shortened(kernels.layer, 28)}: {counted}, {height} × {width}"
    axes.set_xlabel("\n".join(filter(None, (size, kernels.meaning))))
    _bare(axes)


def _before_and_after(figure: SubFigure, reduction: Reduction, before: np.ndarray, after: np.ndarray) -> None:
    """Some channels of the same or of two feature maps, left and right."""
    panels = figure.subplots(1, 2)
    selected = select_channels(reduction, before, after, MOST_CHANNELS)
    for axes, maps, channels in zip(panels, (before, after), selected, strict=True):
        axes.imshow(mosaic(_scaled(maps[..., channels].transpose(2, 0, 1)), _tile_rows(before, after), COLUMNS))
        _bare(axes)
    layer, kind, source = (
        shortened(name, 50) for name in (reduction.call.name, type(reduction.call.operation).__name__, reduction.source)
    )
    old, new = (" × ".join(map(str, maps.shape)) for maps in (before, after))
    panels[0].set_title(f"before {layer}: {old}\nfrom {source}", loc="left", fontsize=9)
    same = ", the same channels" if reduction.keeps_channels else ""
    panels[1].set_title(f"after {layer}: {new}\n{kind}{same}", loc="left", fontsize=9)


def _tile_rows(before: np.ndarray, after: np.ndarray) -> int:
    return math.ceil(min(max(before.shape[-1], after.shape[-1]), MOST_CHANNELS) / COLUMNS)


def _scaled(maps: np.ndarray) -> np.ndarray:
    """Each map from its own smallest value to its own largest, in colours."""
    low, high = (function(maps, axis=(1, 2), keepdims=True) for function in (np.min, np.max))
    return mpl.colormaps["viridis"]((maps - low) / np.where(high > low, high - low, 1))[..., :3]


def mosaic(pictures: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Lay small pictures out on a white ground, each in a frame, enlarged so that gaps and frames stay narrow.

    Args:
        pictures: `(n, height, width, 3)` from 0 to 1, at most `rows * columns`.
        rows: Rows of the mosaic.
        columns: Columns of the mosaic.

    Returns:
        `(height, width, 3)` of the mosaic.
    """
    factor = math.ceil(64 / max(pictures.shape[1:3]))
    tiles = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = tiles.shape[1:3]
    gap = max(4, round(0.05 * max(height, width)))
    canvas = np.ones((rows * (height + gap) - gap + 2, columns * (width + gap) - gap + 2, 3))
    for place, tile in enumerate(tiles):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        canvas[top : top + height + 2, left : left + width + 2] = _FRAME
        canvas[top + 1 : top + height + 1, left + 1 : left + width + 1] = tile
    return canvas


def _notes(evidence: Evidence | None, kernels: Kernels | None, reductions: int) -> list[str]:
    """How to read the figure, and what is not in it."""
    notes = []
    if evidence is None:
        notes.append("This network has no feature map, so there is no Grad-CAM.")
    elif evidence.positions == (1, 1):
        notes.append(
            "Grad-CAM: the feature map has one position, which is the whole image; choose a layer before it with "
            "--layer, or larger images."
        )
    else:
        notes.append(
            "Grad-CAM: the channels of the layer's feature map, weighted by how much each raises the score of the "
            "class, scaled to the largest value, enlarged by linear interpolation."
        )
    if kernels is None:
        notes.append("This network has no convolution, so there are no kernels to show.")
    else:
        notes.append("Kernels: each divided by its own largest magnitude; middle grey is a weight of 0.")
    if not reductions:
        notes.append("No layer makes a feature map smaller, so there is nothing to show before and after.")
    else:
        more = f" Later ones are left out: {reductions - MOST_ROWS}." if reductions > MOST_ROWS else ""
        notes.append(
            f"Feature maps: the {MOST_CHANNELS} channels that vary most over the image, each from its own "
            f"minimum (dark) to its own maximum (bright), wherever pooling or strides lead to another size.{more}"
        )
    return [line for note in notes for line in textwrap.wrap(note, 200)]


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
