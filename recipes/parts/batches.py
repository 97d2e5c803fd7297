"""Batches of decoded images for training and evaluation."""

import os

import numpy as np
import tensorflow as tf

from recipes.parts.augment import Augmentation, augment, draw, plan_changes
from recipes.parts.dataset import Split
from recipes.parts.erasing import erase, plan_erasing
from recipes.parts.mixing import Mixing, mix, plan_mixing
from zoo.errors import InputError

graph_only = tf.autograph.experimental.do_not_convert
"""No tensor decides what Python does in these functions, so that they need not be translated, which takes a while."""
PARALLEL_CALLS = min(16, os.cpu_count() or 1)
"""Batches whose images are changed at the same time."""


def training_batches(
    split: Split,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    first_epoch: int = 0,
    mixing: Mixing | None = None,
    num_classes: int | None = None,
    class_weights: np.ndarray | None = None,
    views: int = 1,
) -> tf.data.Dataset:
    """Batches for ever, epoch after epoch.

    Every epoch has each image once, in an order and with changes that follow from seed and epoch alone. So a
    run that goes on from an epoch's end gets the batches that it would have got, and no state needs to be
    saved.

    Args:
        split: Images and labels.
        batch_size: Images a batch; the last of an epoch may be smaller.
        augmentation: How much images change.
        seed: Not negative.
        first_epoch: Counted from 0.
        mixing: How images of a batch are mixed with each other; None for not at all. Needs `num_classes`.
        num_classes: Makes labels distributions over so many classes, as mixing and label smoothing need them.
        class_weights: Weight of each class in the loss `(num_classes,)`; None for no weights. A mixed label weighs
            what its parts weigh.
        views: How many versions of each image the split holds, one after the other: image `i` stands in the rows
            `i`, `n + i` and so on. Every epoch draws one of them for each image.

    Returns:
        An endless data set of `(images, labels)`, or `(images, labels, weights)`: float32
        `(batch, size, size, 3)` from 0 to 255 (or whatever else the split holds in place of images), int32
        `(batch,)` or float32 `(batch, num_classes)`, float32 `(batch,)`. Give `fit` its
        `steps_per_epoch=ceil(n / batch_size)`, and `shuffle=False`.

    Raises:
        InputError: If there are no images, or `batch_size` is not positive.
    """
    _check(split, batch_size)
    examples = len(split)
    mixing = mixing or Mixing()

    def plan(epoch: np.ndarray) -> tuple[np.ndarray, ...]:
        order = np.random.default_rng([seed, int(epoch), 0]).permutation(examples)
        changes, erased = _plan_augmentation(split, augmentation, seed=seed, epoch=int(epoch))
        mixed = np.empty((examples, 0), np.float32)
        if not mixing.changes_nothing:
            mixed = plan_mixing(examples, mixing, **_sides(split), seed=seed, epoch=int(epoch))
        rows = order
        if views > 1:
            # From a start of its own, each image goes through all its versions before one comes again.
            starts = np.random.default_rng([seed, 4]).integers(views, size=examples)
            rows = order + examples * ((starts[order] + int(epoch)) % views)
        return rows, changes[order], erased[order], mixed[order]

    @graph_only
    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order, *plans = tf.numpy_function(plan, [epoch], (tf.int64, *[tf.float32] * 3), stateful=False)
        plans = [tf.ensure_shape(rows, (examples, None)) for rows in plans]
        return tf.data.Dataset.from_tensor_slices((tf.ensure_shape(order, (examples,)), *plans)).batch(batch_size)

    @graph_only
    def load(rows: tf.Tensor, *plans: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return *_gather(split, rows), *plans

    @graph_only
    def finish(
        images: tf.Tensor, labels: tf.Tensor, changes: tf.Tensor, erased: tf.Tensor, mixed: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        images = augment(images, changes, augmentation)
        if augmentation.erase:
            images = erase(images, erased)
        if num_classes is not None:
            labels = tf.one_hot(labels, num_classes)
        if not mixing.changes_nothing:
            images, labels = mix(images, labels, mixed)
        if class_weights is None:
            return images, labels
        weights = tf.constant(class_weights, tf.float32)
        if num_classes is None:
            return images, labels, tf.gather(weights, labels)
        return images, labels, tf.linalg.matvec(labels, weights)

    batches = tf.data.Dataset.counter(first_epoch).flat_map(epoch_batches).map(load)
    return _made_ready(batches.map(finish, num_parallel_calls=PARALLEL_CALLS, deterministic=True))


def evaluation_batches(split: Split, *, batch_size: int, first: int = 0) -> tf.data.Dataset:
    """Batches of all images once, in their order, unchanged.

    Args:
        split: Images and labels.
        batch_size: Images a batch; the last may be smaller.
        first: The image to begin with.

    Returns:
        A data set of `(images, labels)`: float32 `(batch, size, size, 3)` from 0 to 255, int32 `(batch,)`.

    Raises:
        InputError: If there are no images, or `batch_size` is not positive.
    """
    _check(split, batch_size)

    @graph_only
    def load(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = _gather(split, rows)
        return tf.cast(images, tf.float32), labels

    return _made_ready(tf.data.Dataset.range(first, len(split)).batch(batch_size).map(load))


def view_batches(
    split: Split, *, batch_size: int, augmentation: Augmentation, seed: int, view: int, first: int = 0
) -> tf.data.Dataset:
    """Batches of all images once, in their order, changed as `training_batches` changes them in one of its epochs.

    Args:
        split: Images and labels.
        batch_size: Images a batch; the last may be smaller.
        augmentation: How much images change.
        seed: As in `training_batches`.
        view: The number of the epoch.
        first: The image to begin with.

    Returns:
        A data set of `(images, labels)` as of `evaluation_batches`.
    """
    _check(split, batch_size)
    changes, erased = _plan_augmentation(split, augmentation, seed=seed, epoch=view)

    @graph_only
    def load(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = _gather(split, rows)
        images = augment(images, tf.gather(changes, rows), augmentation)
        return (erase(images, tf.gather(erased, rows)) if augmentation.erase else images), labels

    rows = tf.data.Dataset.range(first, len(split)).batch(batch_size)
    return _made_ready(rows.map(load, num_parallel_calls=PARALLEL_CALLS, deterministic=True))


def _made_ready(batches: tf.data.Dataset) -> tf.data.Dataset:
    """The same two batches ahead, and without autotuning.

    Its thread looks at the data set after 10, 20, 40 ms and so on, up to a minute, and often it is not woken at the end
    of an iteration, which then lasts until the next look. With TensorFlow 2.21 that was 2.55, 5.11, 10.2, 20.5 or 41 s
    after the beginning: a `fit` with 33 s of work took 41, and so did, in proportion, 10 of 24 shorter ones.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


def _plan_augmentation(
    split: Split, augmentation: Augmentation, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """What happens to each image in an epoch: rows of `plan_changes` and `plan_erasing`, empty where nothing does."""
    drawing: dict[str, int] = {"seed": seed, "epoch": epoch}
    changes = erased = np.empty((len(split), 0), np.float32)
    if augmentation.moves_pixels or augmentation.changes_light:
        changes = plan_changes(draw(len(split), **drawing), augmentation, **_sides(split))
    if augmentation.erase:
        erased = plan_erasing(len(split), augmentation.erase, **_sides(split), **drawing)
    return changes, erased


def _gather(split: Split, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Copy rows out of the arrays, which stay where they are: neither in the graph nor on a GPU."""

    def gather(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(split.images[rows]), split.labels[rows % len(split)]

    dtype = tf.as_dtype(split.images.dtype)
    images, labels = tf.numpy_function(gather, [rows], (dtype, tf.int32), stateful=False)
    return tf.ensure_shape(images, (None, *split.images.shape[1:])), tf.ensure_shape(labels, (None,))


def _sides(split: Split) -> dict[str, int]:
    """Height and width of images or feature maps; pooled features `(n, channels)` have one place."""
    height, width = split.images.shape[1:3] if len(split.images.shape) == 4 else (1, 1)
    return {"height": height, "width": width}


def _check(split: Split, batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"A batch holds 1 image or more. Received: batch_size={batch_size}")
    if not len(split):
        raise InputError("There are no images to make batches of")
