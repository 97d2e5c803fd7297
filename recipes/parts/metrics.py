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
        `accuracy`, `macro_f1` (mean F1 over the classes that occur), `loss` (mean cross-entropy in nats), `images`,
        `per_class` (a list of `class`, `precision`, `recall`, `f1`, `support`) and `confusion_matrix`, rows by true
        class, columns by predicted class. All None but `images` where there is no image.
    """
    if not len(labels):
        return {
            "accuracy": None,
            "macro_f1": None,
            "loss": None,
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
        "loss": float(-np.mean(log_probabilities[np.arange(len(labels)), labels])),
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
    for heading in ("split", "images", "accuracy", "macro F1", "loss"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, values in metrics.items():
        if values["images"]:
            table.add_row(
                split,
                f"{values['images']:,}",
                f"{values['accuracy']:.4f}",
                f"{values['macro_f1']:.4f}",
                f"{values['loss']:.4f}",
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
