"""What an epoch costs in multiply-adds, with frozen layers and without, and whether it pays to run them once."""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import keras

from recipes.parts.frozen_prefix import Cut
from zoo.cost.describe import describe
from zoo.graph import Graph

MOST_VIEWS = 8
WORTH_IT = 0.95
"""Frozen layers run once where that leaves less than this fraction of the multiply-adds."""

_COUNTED: WeakKeyDictionary[keras.Model, dict[str, int]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Multiply-adds for one image in training."""

    prefix: int
    """Forward through the layers before the cut."""
    forward: int
    """Forward through the others."""
    backward: int
    """For the gradients: those of kernels that train, and those of what layers behind the first of these read."""

    def epoch(self, *, train_images: int, validation_images: int, cached: bool) -> int:
        """An epoch with its validation."""
        prefix = 0 if cached else self.prefix
        return train_images * (prefix + self.forward + self.backward) + validation_images * (prefix + self.forward)


def stage_cost(model: keras.Model, cut: Cut | None) -> StageCost:
    """Count the multiply-adds of a stage.

    Args:
        model: With `trainable` set as for the stage.
        cut: Where it is cut.
    """
    counted = multiply_adds(model)
    prefix = set() if cut is None else {call.name for call in Graph(cut.prefix).calls}
    before = sum(counted.get(name, 0) for name in prefix)
    backward, begun = 0, False
    for call in Graph(model).calls:
        trains = bool(getattr(call.operation, "trainable_weights", ()))
        # A gradient for the kernel takes as much as the pass forward, and one for the input as much again.
        backward += counted.get(call.name, 0) * (trains + begun)
        begun = begun or trains
    return StageCost(prefix=before, forward=sum(counted.values()) - before, backward=backward)


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """By its name, the multiply-adds of each layer for one image, with those of layers inside it."""
    if model not in _COUNTED:  # each stage of a run asks, and a large network takes a while
        counted = _COUNTED[model] = {}
        for layer in describe(model).layers:
            name = layer.name.split("/")[0]
            counted[name] = counted.get(name, 0) + layer.multiply_adds
    return _COUNTED[model]


@dataclass(frozen=True)
class Caching:
    """How a stage reads its images: anew in every epoch, or what frozen layers said of them."""

    cached: bool
    views: int = 0
    """Versions of each training image; 0 for the images as they are."""
    reason: str = ""
    """Why nothing is kept, if nothing is."""


def choose_caching(
    cost: StageCost,
    *,
    epochs: int,
    images_change: bool,
    views: int | None,
    train_images: int,
    validation_images: int,
    shared: bool = False,
) -> Caching:
    """Decide whether frozen layers run once, from counts alone, so that the same run always decides the same.

    Args:
        cost: Of the stage, one that has a cut.
        epochs: The most that it takes.
        images_change: Whether training images are augmented.
        views: Versions of each image to keep; None chooses one for every third epoch, from 2 to `MOST_VIEWS`.
        train_images: How many there are.
        validation_images: How many there are.
        shared: Whether a pass before this stage computes its activations on the way.

    Returns:
        What to do.
    """
    images = {"train_images": train_images, "validation_images": validation_images}
    if images_change and views == 0:
        return Caching(False, reason="augmentation changes the images")
    versions = 0
    if images_change:
        versions = min(MOST_VIEWS, max(2, math.ceil(epochs / 3))) if views is None else views
    fill = 0 if shared and not versions else cost.prefix * (max(1, versions) * train_images + validation_images)
    kept = fill + epochs * cost.epoch(cached=True, **images)
    anew = epochs * cost.epoch(cached=False, **images)
    # What is asked for is done.
    if kept > WORTH_IT * anew and not (images_change and views):
        what = f"{versions} versions of each image" if versions else "the images"
        left = f"{kept / max(anew, 1):.0%} of the multiply-adds of {epochs} epochs"
        return Caching(False, reason=f"keeping what they say of {what} would leave {left}")
    return Caching(True, versions)
