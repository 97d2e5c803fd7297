"""`report.png`: how the run went, which classes are confused, and the worst mistakes as pictures."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from recipes.parts.figures import figure_style
from recipes.parts.metrics import log_softmax
from recipes.parts.names import shortened
from recipes.parts.run_folder import complete_or_absent

TRAINING, VALIDATION = "#9aa5b1", "#0b6e99"
MOST_MISTAKES = 12
MOST_NAMED_CLASSES = 30


def draw_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    stages: Sequence[dict[str, Any]],
    metrics: dict[str, Any],
    classes: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray,
    logits: np.ndarray,
    temperature: float = 1.0,
    notices: Sequence[str] = (),
) -> None:
    """Draw the report of a run.

    Args:
        path: Where to put the PNG.
        title: What was run, in one line.
        subtitle: What came out, in one line.
        stages: Each with `name` and `history`, as in `metrics.json`.
        metrics: Of the test split, as `measure` gives them.
        classes: Names, in the order of the logits.
        images: Test images, uint8 `(n, height, width, 3)`.
        labels: Their classes `(n,)`.
        logits: What the model says of them `(n, num_classes)`.
        temperature: What the logits are divided by before the softmax.
        notices: What should be known about the data, one line each.
    """
    # Class names are the user's: a dollar sign in one must not start a formula.
    with figure_style():
        figure = Figure(figsize=(13, 9.5), layout="constrained")
        figure.suptitle(f"{title}\n{subtitle}", fontsize=12)
        grid = figure.add_gridspec(2, 1, height_ratios=(1.45, 1))
        upper, lower = (figure.add_subfigure(grid[row]) for row in range(2))
        columns = upper.add_gridspec(1, 2, width_ratios=(1, 1.1))
        curves, confusion = (upper.add_subfigure(columns[column]) for column in range(2))
        loss, accuracy = curves.subplots(2, 1, sharex=True)
        _curves(loss, stages, "loss", label_stages=True)
        _curves(accuracy, stages, "accuracy", label_stages=False)
        accuracy.set_xlabel("epoch")
        _confusion(confusion.subplots(), metrics["confusion_matrix"], classes)
        _mistakes(lower, images, labels, log_softmax(logits / temperature), classes)
        if notices:
            footer = "\n".join(textwrap.shorten(notice, 190, placeholder=" …") for notice in notices)
            figure.supxlabel(footer, fontsize=8, x=0.01, ha="left", color="#555555")
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)


def _curves(axes: Axes, stages: Sequence[dict[str, Any]], name: str, *, label_stages: bool) -> None:
    """One measure over all epochs of all stages, training and validation, a band a stage."""
    first = 1
    for index, stage in enumerate(stages):
        epochs = np.arange(first, first + len(stage["history"]))
        if not len(epochs):
            continue
        axes.axvspan(first - 0.5, epochs[-1] + 0.5, color="black", alpha=0.05 if index % 2 else 0.0, linewidth=0)
        for key, color, label in ((name, TRAINING, "training"), (f"val_{name}", VALIDATION, "validation")):
            values = [row[key] for row in stage["history"]]
            axes.plot(epochs, values, color=color, marker=".", label=label if first == 1 else None)
        if stage["best_epoch"]:
            best = stage["best_epoch"] - 1
            axes.plot(
                epochs[best],
                stage["history"][best][f"val_{name}"],
                "o",
                mfc="none",
                mec=VALIDATION,
                markersize=10,
            )
        if label_stages:
            axes.annotate(
                stage["name"],
                (epochs.mean(), 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
            )
        first += len(epochs)
    if first == 1:
        axes.text(0.5, 0.5, "nothing was trained", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="circle: epoch kept" if label_stages else None)


def _confusion(axes: Axes, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Confusion matrix, each row in shares of its true class, with the counts written in while they can be read."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("confusion matrix of the test split")
    if len(classes) > MOST_NAMED_CLASSES:
        return
    ticks = np.arange(len(classes))
    shown = [shortened(name, 16) for name in classes]
    axes.set_yticks(ticks, shown)
    if max(map(len, shown)) * len(shown) <= 50:
        axes.set_xticks(ticks, shown)
    else:
        axes.set_xticks(ticks, shown, rotation=45, ha="right", rotation_mode="anchor")
    size = max(5.0, min(9.0, 160 / len(classes)))
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=size)


def _mistakes(
    figure: Any, images: np.ndarray, labels: np.ndarray, log_probabilities: np.ndarray, classes: Sequence[str]
) -> None:
    """The mistakes to which the model gave the true class least probability."""
    predicted = log_probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(log_probabilities[wrong, labels[wrong]], kind="stable")][:MOST_MISTAKES]
    figure.suptitle(
        f"the worst of {len(wrong)} mistakes on {len(labels)} test images"
        if len(wrong)
        else f"no mistake on {len(labels)} test images",
        fontsize=10,
    )
    if not len(worst):
        return
    columns = max(6, math.ceil(len(worst) / 2))
    grid = figure.subplots(math.ceil(len(worst) / columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, index in zip(grid.flat, worst, strict=False):
        score = math.exp(log_probabilities[index, predicted[index]])
        axes.imshow(images[index])
        true, taken = (classes[label] for label in (labels[index], predicted[index]))
        title: Text = axes.set_title(f"{shortened(true, 18)}\ntaken for {shortened(taken, 14)} ({score:.2f})")
        title.set_fontsize(8)
