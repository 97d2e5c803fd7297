"""Which weights a stage changes: freeze the rest for as long as it lasts, and prove that it did not move."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import keras

from recipes.parts.blocks import select
from recipes.parts.classifier import Classifier
from recipes.parts.stages import Stage

# Attributes by which layers of Keras and of keras.applications hold the strength of their noise.
NOISE = ("rate", "drop_path_rate", "stddev")


@contextmanager
def unfrozen(
    classifier: Classifier, unfreeze: str, *, batch_norm: Literal["frozen", "trained"] = "frozen"
) -> Iterator[tuple[str, ...]]:
    """Let some blocks train and freeze the others, as long as the context lasts.

    `base(x, training=False)` does not keep batch norm in inference mode under `fit`; only `trainable = False` on
    each BatchNormalization does. So that is what freezes it, and in fine-tuning it does so in blocks that train
    too: the statistics come from far more images than a fine-tuning set holds.

    Args:
        classifier: Model and blocks.
        unfreeze: As in `Stage.unfreeze`.
        batch_norm: As in `Stage.batch_norm`.

    Yields:
        The names of the blocks that train.
    """
    model = classifier.model
    chosen = select(classifier.blocks, unfreeze)
    training = {name for index in chosen for name in classifier.blocks[index].layers}
    quieted: list[tuple[keras.Layer, str, float]] = []
    for layer in model.layers:
        learns = layer.name in training
        layer.trainable = learns
        for part in layer._flatten_layers():  # itself, and what a layer of the user's own may hold
            if batch_norm == "frozen" and isinstance(part, keras.layers.BatchNormalization):
                part.trainable = False
            for attribute in NOISE:
                strength = getattr(part, attribute, None)
                if not learns and isinstance(strength, float) and strength > 0:
                    quieted.append((part, attribute, strength))
                    setattr(part, attribute, 0.0)
    try:
        yield tuple(classifier.blocks[index].name for index in chosen)
    finally:
        for layer, attribute, strength in quieted:
            setattr(layer, attribute, strength)
        for layer in model.layers:
            layer.trainable = True


def moving_weights(model: keras.Model, stage: Stage) -> list[keras.Variable]:
    """The weights that a stage changes: those that have a gradient, and the statistics of layers that train.

    Args:
        model: With `trainable` set as for the stage.
        stage: To come.
    """
    training = [layer for layer in model.layers if layer.trainable and stage.batch_norm == "trained"]
    return [*model.trainable_weights, *(weight for layer in training for weight in layer.non_trainable_weights)]


def own_generators(layer: keras.Layer) -> list[keras.Variable]:
    """The states of a layer's own random generators, such as dropout has one; not those of layers inside it."""
    others = {id(weight) for weight in layer.weights}
    others |= {id(variable) for part in layer._flatten_layers(include_self=False) for variable in part.variables}
    return [variable for variable in layer.variables if id(variable) not in others]


def count(weights: Sequence[keras.Variable]) -> int:
    """How many numbers some weights hold."""
    return sum(math.prod(weight.shape) for weight in weights)


def digests(weights: Sequence[keras.Variable]) -> list[str]:
    """SHA-256 of each weight's bytes."""
    return [hashlib.sha256(weight.numpy().tobytes()).hexdigest() for weight in weights]
