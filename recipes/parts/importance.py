r"""Which blocks of a pretrained network new images ask to change: their relative gradient norms (Lee et al. 2022).

Images that differ from those of the pretraining in their pixels ask early blocks to change, others the late ones. What
a block is asked for shows in its gradient $g$ against its weights $w$, $\lVert g \rVert / \lVert w \rVert$. Auto-RGN
lets each train at a rate in proportion to that; here, blocks far below the largest do not train at all.

The head has to be trained first: the gradients of a random head say nothing about what is before it.

Reference:
    - [Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts](https://arxiv.org/abs/2210.11466)
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from recipes.parts.blocks import HEAD
from recipes.parts.classifier import Classifier
from recipes.parts.cost_tables import add_row, count, millions, table
from recipes.parts.figures import figure_style
from recipes.parts.freezing import unfrozen
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.stage_cost import multiply_adds

THRESHOLD = 0.5
"""Blocks with less than this fraction of the largest relative gradient norm stay frozen."""


@dataclass(frozen=True, kw_only=True)
class BlockImportance:
    """What a block is asked for, and what it would cost to give it."""

    name: str
    relative_gradient_norm: float
    """Norm of the gradient over the norm of the weights, of all that would train in the block; mean over batches."""
    relative: float
    """The same, with the largest of all blocks before the head at 1."""
    parameters: int
    """Of those that would train."""
    multiply_adds: int
    """Of one image, forward."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What was measured of every block."""

    blocks: tuple[BlockImportance, ...]
    """From input to head; the head is measured, but always trains."""
    images: int
    """How many were looked at."""
    loss: float
    """Their mean cross-entropy, in nats."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `auto` comes to."""

    unfreeze: str
    """As in `Stage.unfreeze`."""
    factors: dict[str, float]
    """By the name of a block that trains, what its learning rate is multiplied by, in (0, 1]; for
    `recipes.parts.optimizers.block_factors`."""


def measure_importance(
    classifier: Classifier,
    batches: Iterable[tuple[tf.Tensor, ...]],
    *,
    num_batches: int = 10,
    batch_norm: Literal["frozen", "trained"] = "frozen",
) -> Importance:
    """Measure relative gradient norms. No weight is changed.

    Gradients are those of inference mode: norms have their moving statistics, and nothing is dropped.

    Args:
        classifier: Model, with a trained head and nothing frozen, and blocks.
        batches: `(images, labels)` of the training split, as training sees them, with integer labels; `num_batches`
            of them or more.
        num_batches: How many to look at.
        batch_norm: As in `Stage.batch_norm`; where it is frozen, its scales and offsets do not count.

    Returns:
        What was found.
    """
    model = classifier.model
    with unfrozen(classifier, "all", batch_norm=batch_norm):
        weights = [
            [weight for name in block.layers for weight in model.get_layer(name).trainable_weights]
            for block in classifier.blocks
        ]
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def gradient_norms(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        values = [[weight.value for weight in own] for own in weights]
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = cross_entropy(labels, model(images, training=False))
        gradients = tape.gradient(loss, values, unconnected_gradients="zero")
        return tf.stack([tf.linalg.global_norm(own) if own else tf.constant(0.0) for own in gradients]), loss

    norms, losses, images = [], [], 0
    for batch in islice(batches, num_batches):
        batch_norms, loss = gradient_norms(*batch[:2])
        norms.append(batch_norms.numpy())
        losses.append(float(loss))
        images += len(batch[0])
    sizes = [math.sqrt(sum(float(np.sum(np.square(weight.numpy()))) for weight in own)) for own in weights]
    found = [norm / size if size else 0.0 for norm, size in zip(np.mean(norms, axis=0).tolist(), sizes, strict=True)]
    largest = max(found[:-1], default=0.0)
    costs = multiply_adds(model)
    return Importance(
        blocks=tuple(
            BlockImportance(
                name=block.name,
                relative_gradient_norm=norm,
                relative=norm / largest if largest else 0.0,
                parameters=sum(math.prod(weight.shape) for weight in own),
                multiply_adds=sum(costs.get(name, 0) for name in block.layers),
            )
            for block, own, norm in zip(classifier.blocks, weights, found, strict=True)
        ),
        images=images,
        loss=float(np.mean(losses)),
    )


def choose_blocks(importance: Importance, *, threshold: float = THRESHOLD) -> Choice:
    """The blocks to train, with the head, and how fast each of them.

    Args:
        importance: What was measured.
        threshold: Fraction of the largest relative gradient norm, in (0, 1], from which on a block trains.

    Returns:
        The blocks from the threshold on, each at a rate in proportion to its norm; the head at the full rate. The head
        alone if no block has any gradient.
    """
    factors = {
        block.name: block.relative for block in importance.blocks if block.name != HEAD and block.relative >= threshold
    }
    return Choice(unfreeze=f"blocks:{','.join(factors)}" if factors else HEAD, factors={**factors, HEAD: 1.0})


def importance_table(importance: Importance, choice: Choice) -> Table:
    """A table with a row for each block, for a terminal."""
    made = table("block", "relative gradient norm", "of the largest", "parameters", "multiply-adds, M", "learning rate")
    for block in importance.blocks:
        factor = choice.factors.get(block.name)
        add_row(
            made,
            (
                block.name,
                f"{block.relative_gradient_norm:.2e}",
                "" if block.name == HEAD else f"{block.relative:.2f}",
                count(block.parameters),
                millions(block.multiply_adds),
                "frozen" if factor is None else f"x {factor:.2f}",
            ),
            style="dim" if factor is None else "",
        )
    return made


def draw_importance(
    path: Path, importance: Importance, choice: Choice, *, title: str, threshold: float = THRESHOLD
) -> None:
    """Draw a bar for each block.

    Args:
        path: Where to put the PNG.
        importance: What was measured.
        choice: What follows from it.
        title: One line.
        threshold: As it was given to `choose_blocks`.
    """
    blocks = [block for block in importance.blocks if block.name != HEAD]
    with figure_style():
        figure = Figure(figsize=(max(5.0, 1.6 + 0.32 * len(blocks)), 3.8), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        for trains, color, label in ((True, "#0b6e99", "trains"), (False, "#c3cbd3", "stays frozen")):
            places = [index for index, block in enumerate(blocks) if (block.name in choice.factors) == trains]
            axes.bar(places, [blocks[index].relative for index in places], color=color, label=label, width=0.8)
        axes.axhline(threshold, color="black", linestyle=":", linewidth=1)
        axes.set_xticks(range(len(blocks)), [block.name for block in blocks], rotation=90)
        axes.set_xlim(-0.7, len(blocks) - 0.3)
        axes.set_xlabel("block, from input to head")
        axes.set_ylabel("relative gradient norm,\nfraction of the largest")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 1.16)  # room for the legend above the largest
        axes.legend(frameon=False, ncols=2, loc="upper left")
        with complete_or_absent(path) as beside:
            FigureCanvasAgg(figure).print_png(beside)
