"""Batches: every image once an epoch, in an order that can be repeated from any epoch on."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.parts.augment import PRESETS, augment, draw, plan_changes
from recipes.parts.batches import evaluation_batches, training_batches
from recipes.parts.dataset import Split
from zoo.errors import InputError

NONE, STRONG = PRESETS["none"], PRESETS["strong"]


@pytest.fixture(scope="module")
def split():
    """Twenty images, of which each can be told by its level of red."""
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(20)
    return Split(
        images=images,
        labels=np.arange(20, dtype=np.int32) % 4,
        files=tuple(map(str, range(20))),
        sha256=tuple(map(str, range(20))),
    )


def epochs(data, batches, count=1):
    """Gather whole epochs: images and labels, in order."""
    steps = itertools.islice(data.as_numpy_iterator(), batches * count)
    columns = [np.concatenate(column) for column in zip(*steps, strict=True)]
    return [np.split(column, count) for column in columns]


def train(split, **options):
    return training_batches(split, **{"batch_size": 6, "augmentation": NONE, "seed": 0, **options})


def test_an_epoch_has_every_image_once_with_its_label(split):
    (images,), (labels,) = epochs(train(split), 4)
    order = images[:, 0, 0, 0].astype(int)
    assert sorted(order) == list(range(20))
    assert list(order) != list(range(20))
    np.testing.assert_array_equal(images, split.images[order].astype(np.float32))
    np.testing.assert_array_equal(labels, split.labels[order])


def test_batches_are_what_fit_needs(split):
    data = train(split)
    assert data.element_spec == (tf.TensorSpec((None, 8, 8, 3), tf.float32), tf.TensorSpec((None,), tf.int32))
    assert [len(labels) for _, labels in itertools.islice(data.as_numpy_iterator(), 8)] == [6, 6, 6, 2] * 2


def test_epochs_differ_and_runs_do_not(split):
    images, labels = epochs(train(split, augmentation=STRONG), 4, count=3)
    again, _ = epochs(train(split, augmentation=STRONG), 4, count=3)
    np.testing.assert_array_equal(images, again)
    assert not np.array_equal(labels[0], labels[1])
    other, _ = epochs(train(split, augmentation=STRONG, seed=1), 4, count=3)
    assert not np.array_equal(images[0], other[0])


def test_going_on_from_an_epoch_gives_the_batches_that_would_have_come(split):
    whole, _ = epochs(train(split, augmentation=STRONG), 4, count=5)
    rest, _ = epochs(train(split, augmentation=STRONG, first_epoch=3), 4, count=2)
    np.testing.assert_array_equal(rest, whole[3:])


@pytest.mark.parametrize("batch_size", [1, 7, 20, 64])
def test_order_and_changes_do_not_depend_on_the_batch_size(split, batch_size):
    (expected,), _ = epochs(train(split, augmentation=STRONG), 4)
    (images,), _ = epochs(train(split, augmentation=STRONG, batch_size=batch_size), -(-20 // batch_size))
    np.testing.assert_array_equal(images, expected)


def test_augmentation_does_not_change_the_order(split):
    _, (plain,) = epochs(train(split), 4)
    _, (changed,) = epochs(train(split, augmentation=STRONG), 4)
    np.testing.assert_array_equal(plain, changed)


def test_changes_belong_to_an_example_and_not_to_its_place_in_the_epoch(split):
    (images,), _ = epochs(train(split, augmentation=STRONG, seed=5, first_epoch=2), 4)
    (plain,), _ = epochs(train(split, seed=5, first_epoch=2), 4)
    order = plain[:, 0, 0, 0].astype(int)
    changes = plan_changes(draw(20, seed=5, epoch=2), STRONG, height=8, width=8)
    np.testing.assert_array_equal(images, augment(split.images, changes, STRONG).numpy()[order])


def test_class_weights_follow_the_labels(split):
    weights = np.array([1.0, 2.0, 0.5, 4.0])
    data = train(split, class_weights=weights)
    assert data.element_spec[2] == tf.TensorSpec((None,), tf.float32)
    _, (labels,), (weighted,) = epochs(data, 4)
    np.testing.assert_array_equal(weighted, weights[labels])


def test_evaluation_has_every_image_once_in_order_and_unchanged(split):
    data = evaluation_batches(split, batch_size=6)
    assert data.cardinality() == 4
    assert data.element_spec == train(split).element_spec
    for _ in range(2):
        images, labels = (np.concatenate(column) for column in zip(*data.as_numpy_iterator(), strict=True))
        np.testing.assert_array_equal(images, split.images.astype(np.float32))
        np.testing.assert_array_equal(labels, split.labels)


def test_images_in_a_file_are_read_alike(split, tmp_path):
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=split.images.shape)
    mapped[:] = split.images
    on_disk = Split(images=mapped, labels=split.labels, files=split.files, sha256=split.sha256)
    np.testing.assert_array_equal(
        epochs(train(on_disk, augmentation=STRONG), 4)[0], epochs(train(split, augmentation=STRONG), 4)[0]
    )


def test_fit_evaluate_and_predict_take_them(split):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    validation = evaluation_batches(split, batch_size=6)
    history = model.fit(
        train(split, class_weights=np.ones(4)),
        validation_data=validation,
        epochs=3,
        steps_per_epoch=4,
        shuffle=False,
        verbose=0,
    )
    assert len(history.history["val_loss"]) == 3
    logits = model.predict(validation, verbose=0)
    accuracy = np.mean(logits.argmax(1) == split.labels)
    assert model.evaluate(validation, verbose=0)[1] == pytest.approx(accuracy)


class Listener(keras.Model):
    """A model that learns nothing and remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def train_step(self, data):
        images, labels = data
        self.shown.append((images.numpy(), labels.numpy()))
        return {"loss": 0.0}


def test_fit_goes_through_whole_epochs_one_after_the_other(split):
    """Keras must neither start again nor skip what has been prefetched, or going on from an epoch would not work."""
    model = Listener()
    model.compile(run_eagerly=True)
    model.fit(train(split, augmentation=STRONG), epochs=3, steps_per_epoch=4, shuffle=False, verbose=0)
    images, labels = (np.concatenate(column) for column in zip(*model.shown, strict=True))
    expected, expected_labels = epochs(train(split, augmentation=STRONG), 4, count=3)
    np.testing.assert_array_equal(images, np.concatenate(expected))
    np.testing.assert_array_equal(labels, np.concatenate(expected_labels))


def test_nothing_to_make_batches_of(split):
    empty = Split(images=split.images[:0], labels=split.labels[:0], files=(), sha256=())
    with pytest.raises(InputError, match="no images"):
        train(empty)
    with pytest.raises(InputError, match="batch_size=0"):
        train(split, batch_size=0)
    with pytest.raises(InputError, match="batch_size=-1"):
        evaluation_batches(split, batch_size=-1)
