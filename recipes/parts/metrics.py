"""How good a classifier is on a split, as the numbers that `metrics.json` holds."""

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from recipes.parts.names import printable


def log_softmax(logits: npt.ArrayLike) -> np.ndarray:
    """Log-probabilities in float64 from logits `(n, num_classes)`; any finite logits are safe."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def calibration_error(scores: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error: how far scores are from how often they are right (Naeini et al. 2015).

    Examples are put into bins by the score of their predicted class. In each bin the mean score is compared with the
    share of right answers; the error is the mean distance of the two, each bin counted by its examples.

    Args:
        scores: Softmax scores `(n, num_classes)`.
        labels: Integers `(n,)`.
        bins: How many, of equal width.

    Returns:
        A number from 0 to 1.

    Reference:
        - [Guo et al., On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599)
    """
    highest = scores.max(axis=1)
    right = scores.argmax(axis=1) == labels
    bin_of = np.minimum((highest * bins).astype(int), bins - 1)
    # In each bin, |right - scores| of the sums: what the means differ by, times the examples.
    return float(np.abs(np.bincount(bin_of, weights=right - highest)).sum() / len(labels))


def measure(
    logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], *, temperature: float = 1.0
) -> dict[str, Any]:
    """The usual measures of a classifier.

    Args:
        logits: `(n, num_classes)`.
        labels: Integers `(n,)`.
        classes: Names of the classes, in the order of the logits.
        temperature: What the logits are divided by before the softmax (Guo et al. 2017).

    Returns:
        `accuracy`, `macro_f1` (mean F1 over the classes that occur), `loss` (mean cross-entropy in nats),
        `calibration_error` (see above), `images`, `per_class` (a list of `class`, `precision`, `recall`, `f1`,
        `support`) and `confusion_matrix`, rows by true class, columns by predicted class. All None but `images` where
        there is no image.
    """
    if not len(labels):
        return {
            "accuracy": None,
            "macro_f1": None,
            "loss": None,
            "calibration_error": None,
            "images": 0,
            "per_class": [],
            "confusion_matrix": None,
        }
    predicted = logits.argmax(axis=-1)
    indexes = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=indexes, zero_division=0.0
    )
    log_probabilities = log_softmax(logits / temperature)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "macro_f1": float(np.mean(f1[support > 0])),
        "loss": float(0.0 - np.mean(log_probabilities[np.arange(len(labels)), labels])),  # not -0.0
        "calibration_error": calibration_error(np.exp(log_probabilities), labels),
        "images": len(labels),
        "per_class": [
            {
                "class": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(classes)
        ],
        "confusion_matrix": confusion_matrix(labels, predicted, labels=indexes).tolist(),
    }


def metrics_table(metrics: dict[str, dict[str, Any]]) -> Table:
    """A table with a row for each split."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("split", "images", "accuracy", "macro F1", "loss", "calibration error"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, values in metrics.items():
        if values["images"]:
            table.add_row(
                split,
                f"{values['images']:,}",
                f"{values['accuracy']:.4f}",
                f"{values['macro_f1']:.4f}",
                f"{values['loss']:.4f}",
                f"{values['calibration_error']:.4f}",
            )
    return table


def class_table(values: dict[str, Any]) -> Table:
    """A table with a row for each class, the hardest first."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("class", "images", "precision", "recall", "F1"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in sorted(values["per_class"], key=lambda row: row["f1"]):
        if row["support"]:
            table.add_row(
                Text(printable(row["class"])),
                f"{row['support']:,}",
                f"{row['precision']:.3f}",
                f"{row['recall']:.3f}",
                f"{row['f1']:.3f}",
            )
    return table
