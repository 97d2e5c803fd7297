"""Which learning rate a stage can bear: raise it step by step until the loss breaks away (Smith 2017).

Reference:
    - [Smith, Cyclical Learning Rates for Training Neural Networks](https://arxiv.org/abs/1506.01186)
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from recipes.parts.figures import figure_style
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.stages import TrainingFailed
from zoo.errors import InputError

DIVERGED = 4.0
"""The loss has broken away once its moving average is more than so many times its lowest."""
FLOOR = 0.1
"""Lower losses, in nats, count as this one: where nearly all images are right, they jump from batch to batch."""
SMOOTHING = 0.9
"""Weight of the past in the moving average of the loss."""
FEWEST = 10
"""Steps before the loss breaks away from which on that says something of the rate, and not of a single batch."""
MARGIN = 10.0
"""How many times below the rate at which the loss breaks away the suggestion stays."""


@dataclass(frozen=True, kw_only=True)
class LearningRateCurve:
    """What became of the loss while the learning rate rose."""

    rates: tuple[float, ...]
    """Of each step, rising."""
    losses: tuple[float, ...]
    """Of each step's batch, before its update."""
    smoothed: tuple[float, ...]
    """Their moving average, without the bias of its start."""
    suggestion: float
    """A peak learning rate: a tenth of the last rate that was tried."""
    diverged: bool
    """Whether the loss broke away at that rate; if not, higher ones might do as well."""

    @property
    def found(self) -> bool:
        """Whether the suggestion is one: not where the loss never broke away, or did so at once, as on few images that
        are classified without a mistake.
        """
        return self.diverged and len(self.rates) >= FEWEST

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "found": self.found}


def find_learning_rate(
    model: keras.Model,
    batches: Iterable[tuple[tf.Tensor, ...]],
    make_optimizer: Callable[[keras.optimizers.schedules.LearningRateSchedule], keras.optimizers.Optimizer],
    *,
    steps: int = 100,
    low: float = 1e-6,
    high: float = 10.0,
) -> LearningRateCurve:
    """Train for some steps with a learning rate that rises exponentially, and take all of it back.

    It stops where the loss breaks away: where its moving average is four times its lowest. The suggestion is a tenth of
    that rate. The rate of the lowest loss or of the steepest descent, which are often read off instead, mean nothing
    where a stage begins at a head that has been trained: the loss hardly falls there before it breaks away.

    Args:
        model: Compiled as for the stage, whose loss counts. Its weights and the states of its random numbers are put
            back bit for bit; its own optimizer is not used.
        batches: `(images, labels)` or `(images, labels, weights)` as for training, `steps` of them or more.
        make_optimizer: Makes the stage's optimizer, built for `model.trainable_variables`, from a schedule.
        steps: Batches.
        low: The first learning rate.
        high: The last one.

    Returns:
        The curve.

    Raises:
        InputError: If `steps`, `low` and `high` make no rise.
        TrainingFailed: If the loss is no number at the first step already.
    """
    if not (steps >= 2 and 0 < low < high < math.inf):
        raise InputError(
            "A search for a learning rate takes 2 steps or more from a lower to a higher rate. "
            f"Received: steps={steps}, low={low}, high={high}"
        )
    rates = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    with _put_back(model):
        train = _training_step(model, make_optimizer(_ExponentialRise(low, high, steps)))
        for step, batch in zip(range(steps), batches, strict=False):
            loss = float(train(*batch))
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            if not math.isfinite(loss):
                diverged = True
                break
            losses.append(loss)
            smoothed.append(average / (1 - SMOOTHING ** (step + 1)))
            diverged = smoothed[-1] > DIVERGED * max(FLOOR, min(smoothed))
            if diverged:
                break
    if not losses:
        raise TrainingFailed("The loss is no number before anything has been trained: look at the weights and images")
    rates = rates[: len(losses)]
    return LearningRateCurve(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        suggestion=rates[-1] / MARGIN,
        diverged=diverged,
    )


class _ExponentialRise(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, low: float, high: float, steps: int) -> None:
        self.low = low
        self.growth = math.log(high / low) / (steps - 1)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.low * tf.exp(self.growth * tf.cast(step, tf.float32))


def _training_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable[..., tf.Tensor]:
    """What `fit` does with a batch, but for metrics, traced for all batch sizes at once."""
    weights = model.trainable_variables

    @tf.function(reduce_retracing=True)
    def train(images: tf.Tensor, labels: tf.Tensor, sample_weight: tf.Tensor | None = None) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            loss = model.compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=sample_weight)
            scaled = optimizer.scale_loss(loss)
        optimizer.apply(tape.gradient(scaled, [weight.value for weight in weights]), weights)
        return loss

    step: Callable[..., tf.Tensor] = train
    return step


@contextmanager
def _put_back(model: keras.Model) -> Iterator[None]:
    """Let a model be trained, and have it again afterwards as it was, with the states of its random numbers."""
    kept = [(variable, variable.numpy().copy()) for variable in model.variables]
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


def draw_learning_rates(path: Path, curve: LearningRateCurve, *, title: str) -> None:
    """Draw the loss against the learning rate.

    Args:
        path: Where to put the PNG.
        curve: What was found.
        title: One line.
    """
    with figure_style():
        figure = Figure(figsize=(6.5, 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        axes.plot(curve.rates, curve.losses, color="#9aa5b1", linewidth=1, label="loss of a batch")
        axes.plot(curve.rates, curve.smoothed, color="#0b6e99", label="smoothed")
        if curve.found:
            axes.axvline(curve.suggestion, color="#c4501b", linestyle="--", linewidth=1)
            axes.annotate(
                f"suggested: {curve.suggestion:.2g}",
                (curve.suggestion, 0.0),
                xycoords=("data", "axes fraction"),
                xytext=(4, 6),
                textcoords="offset points",
                color="#c4501b",
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")  # by default a formula
        axes.xaxis.set_minor_formatter(NullFormatter())
        # What is far above what the stage began with says no more than that it is.
        axes.set_ylim(0, 1.3 * max(curve.smoothed[0], DIVERGED * min(curve.smoothed)))
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)
