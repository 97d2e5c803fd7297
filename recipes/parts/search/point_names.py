"""Names of points in a figure, written where nothing else is drawn."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from recipes.parts.names import shortened

NEAR, FAR = 5, 13
"""Distances at which a name may stand, in points; from the larger a line leads to it."""

_HORIZONTAL = {-1: "right", 0: "center", 1: "left"}
_VERTICAL = {-1: "top", 0: "center", 1: "bottom"}


def name_points(axes: Axes, points: Mapping[str, tuple[float, float]], *, upwards: bool) -> None:
    """Write names beside points, as long as there is room. Whatever changes the layout must have been drawn before.

    Args:
        axes: Where the points are.
        points: By their names, in data coordinates; the first are served first.
        upwards: Whether there is more room above them than below; it is taken to be to their left.
    """
    taken = _drawn(axes)
    inside = axes.get_window_extent()
    up = 1 if upwards else -1
    places = [
        (away * x, away * y * up) for away in (NEAR, FAR) for x, y in ((-1, 1), (0, 1.2), (-1.2, 0), (1, 1), (1, -1))
    ]
    for name, point in points.items():
        for x, y in places:
            text = axes.annotate(
                shortened(name, 12),
                point,
                xytext=(x, y),
                textcoords="offset points",
                ha=_HORIZONTAL[np.sign(x)],
                va=_VERTICAL[np.sign(y)],
                fontsize=8,
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#555555"}
                if max(abs(x), abs(y)) >= FAR
                else None,
            )
            text.set_in_layout(False)
            text.get_window_extent()  # puts it into its place
            box = Text.get_window_extent(text).padded(1)  # without its line
            if inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def _drawn(axes: Axes) -> list[Bbox]:
    """Where marks and lines are, in pixels."""
    boxes = []
    for line in axes.lines:
        points = line.get_transform().transform(line.get_path().vertices)
        if line.get_linestyle() != "None":  # stairs: each part is upright or level
            corners = itertools.pairwise(points)
            boxes += [Bbox([np.minimum(one, other), np.maximum(one, other)]).padded(0.5) for one, other in corners]
        radius = line.get_markersize() / 2 * axes.figure.dpi / 72
        if line.get_marker() != "None":
            boxes += [Bbox([point - radius, point + radius]) for point in points]
    return boxes
