r"""Between the weights before fine-tuning and those after it often lie better ones than either (Wortsman et al. 2022).

Fine-tuning that begins at a trained head moves weights a short way, along which the loss has no ridge. A point
$\alpha w_{before} + (1 - \alpha) w_{tuned}$ on that way keeps more of what pretraining knew, and costs nothing later.

Reference:
    - [Wortsman et al., Robust fine-tuning of zero-shot models](https://arxiv.org/abs/2109.01903)
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.table import Table

from recipes.parts.cost_tables import add_row, table

ALPHAS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, kw_only=True)
class Point:
    """What validation says of one mix of weights."""

    alpha: float
    """The share of the weights from before."""
    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """How good the weights between two states are."""

    points: tuple[Point, ...]
    """By rising alpha: the tuned weights first."""
    kept: float
    """The alpha of the weights that the model has now; 0 for the tuned ones."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; a loss that is no number is None."""
        points = [{**asdict(point), "loss": point.loss if math.isfinite(point.loss) else None} for point in self.points]
        return {"kept": self.kept, "points": points}


def interpolate(
    model: keras.Model,
    before: Mapping[str, np.ndarray],
    validate: Callable[[], Mapping[str, Any]],
    *,
    alphas: Sequence[float] = ALPHAS,
    reestimate: Callable[[], None] | None = None,
    of_tuned: Mapping[str, Any] | None = None,
) -> Interpolation:
    """Try weights between two states of a model, and keep the best of them if it beats the tuned ones.

    Args:
        model: With the tuned weights; it has the best ones afterwards, and the tuned ones again after an error.
        before: By `path`, the values of the weights that fine-tuning moved, from before it did, with the statistics
            of batch norm that trained. The head has to be trained already: between a random head and a trained one
            lies nothing good.
        validate: Measures the model on the validation split, see `recipes.parts.metrics.measure`.
        alphas: Shares of the weights from before, in [0, 1]. 0 is always tried.
        reestimate: Called for each mix of two states, to put right what cannot be mixed; see `BatchNormStatistics`. Not
            needed where batch norm was frozen, as its statistics are the same on both sides.
        of_tuned: What `validate` says of the tuned weights, if that is known.

    Returns:
        What was found. The lowest loss wins; where none is below that of the tuned weights, they are kept.
    """
    weights = [weight for weight in model.weights if weight.path in before]
    tuned = best = _values(weights)
    kept, lowest = 0.0, np.inf
    points: list[Point] = []
    try:
        for alpha in sorted({0.0, *alphas}):
            for weight, value in zip(weights, tuned, strict=True):
                weight.assign(alpha * before[weight.path] + (1 - alpha) * value)
            if reestimate and 0 < alpha < 1:
                reestimate()
            measured = of_tuned if of_tuned and not alpha else validate()
            points.append(Point(alpha=alpha, loss=measured["loss"], accuracy=measured["accuracy"]))
            if measured["loss"] < lowest:
                lowest, kept = measured["loss"], alpha
                best = _values(weights) if alpha else tuned
    except BaseException:
        _assign(weights, tuned)
        raise
    _assign(weights, best)
    return Interpolation(points=tuple(points), kept=kept)


def interpolation_table(found: Interpolation) -> Table:
    """A table with a row for each mix, for a terminal."""
    made = table("weights from before", "validation loss", "accuracy", "", words=0)
    for point in found.points:
        note = "kept" if point.alpha == found.kept else ""
        cells = f"{point.alpha:.0%}", f"{point.loss:.4f}", f"{point.accuracy:.4f}", note
        add_row(made, cells, style="bold" if note else "")
    return made


def _values(weights: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [weight.numpy().copy() for weight in weights]


def _assign(weights: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)


class BatchNormStatistics:
    """Means and variances of batch norm, estimated anew for the weights that a model has now.

    The statistics of two networks that were mixed are not those of their mix. Here they become the mean over some
    batches of what each batch says, rather than a moving average, which would have to forget the old ones first.

    Args:
        model: Its layers of `BatchNormalization` with `trainable` set are estimated; the others stay as they are. So
            use this while the blocks of a stage are unfrozen.
        batches: Tuples that begin with images, or activations, as for training; the same ones at each call.
    """

    def __init__(self, model: keras.Model, batches: Iterable[tuple[tf.Tensor, ...]]) -> None:
        self._layers = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        self._batches = batches

        # With a signature, or each batch size would be traced.
        @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.float32)])
        def forward(images: tf.Tensor) -> None:
            model(images, training=True)

        self._forward: Any = forward

    def __call__(self) -> None:
        """Estimate."""
        statistics = [weight for layer in self._layers for weight in (layer.moving_mean, layer.moving_variance)]
        sums = [np.zeros(weight.shape) for weight in statistics]
        images = 0
        momenta = [layer.momentum for layer in self._layers]
        try:
            for layer in self._layers:
                layer.momentum = 0.0  # the moving average of one batch is what that batch says
            for batch in self._batches:
                self._forward(batch[0])
                images += len(batch[0])
                for index, weight in enumerate(statistics):
                    sums[index] += len(batch[0]) * weight.numpy()
        finally:
            for layer, momentum in zip(self._layers, momenta, strict=True):
                layer.momentum = momentum
        for weight, total in zip(statistics, sums, strict=True):
            weight.assign(total / images)
