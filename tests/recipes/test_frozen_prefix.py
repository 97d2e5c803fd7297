"""Training on what frozen layers said once must be the same as training through them."""

import os
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest

from recipes.parts import frozen_prefix
from recipes.parts.augment import PRESETS
from recipes.parts.blocks import Block
from recipes.parts.classifier import Classifier, build_classifier
from recipes.parts.dataset import DataSet, Split
from recipes.parts.frozen_prefix import FrozenPrefix, cut_behind_frozen
from recipes.parts.stage_events import StageCallback
from recipes.parts.stages import Stage
from recipes.parts.training import digests, run_stages, unfrozen
from zoo.errors import InputError

SIZE = 8


def make_classifier():
    """Three blocks, the second with a branch, each with batch norm and noise."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="preprocess")(image)
    for block in ("one", "two", "three"):
        before = x
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{block}_norm")(x)
        x = keras.layers.ReLU(name=f"{block}_relu")(x)
        x = keras.layers.Dropout(0.3, name=f"{block}_noise")(x)
        if block == "two":
            x = keras.layers.Add(name="two_add")([before, x])
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dropout(0.1, name="head_dropout")(x)
    x = keras.layers.Dense(2, name="head_logits")(x)
    model = keras.Model(image, x)
    head = ("head_pool", "head_dropout", "head_logits")
    layers = [layer.name for layer in model.layers]
    blocks = [Block(n, tuple(layer for layer in layers if layer.startswith(n))) for n in ("one", "two", "three")]
    return Classifier(model, (*blocks, Block("head", head)))


def make_split(count, seed):
    labels = (np.arange(count) % 2).astype(np.int32)
    images = np.random.default_rng(seed).integers(0, 200, (count, SIZE, SIZE, 3), np.uint8)
    images[labels == 1, :, :, 0] += 50
    return Split(images=images, labels=labels, files=("",) * count, sha256=("",) * count)


def make_data(train_images=48):
    return DataSet(
        classes=("a", "b"),
        train=make_split(train_images, 0),
        validation=make_split(16, 1),
        test=make_split(16, 2),
        notices=(),
        unreadable=(),
        fingerprint="",
    )


STAGES = (
    Stage(name="head", unfreeze="head", epochs=2, learning_rate=0.05),
    Stage(name="top", unfreeze="last:1", epochs=2, learning_rate=0.02),
    Stage(name="deeper", unfreeze="last:2", epochs=2, learning_rate=0.01),
)


def train(classifier, data, *stages, augmentation="none", **settings):
    return run_stages(
        classifier, stages or STAGES, data, batch_size=16, augmentation=PRESETS[augmentation], seed=0, **settings
    )


def trained(data, monkeypatch=None, **settings):
    """Weights after training; through all layers in every epoch if there is a `monkeypatch`."""
    classifier = make_classifier()
    stages = (STAGES[0], replace(STAGES[2], epochs=1))
    if monkeypatch is not None:
        with monkeypatch.context() as patch:
            patch.setattr(frozen_prefix, "cut_behind_frozen", lambda model: None)
            train(classifier, data, *stages, **settings)
    else:
        train(classifier, data, *stages, **settings)
    return classifier.model.weights


@pytest.mark.parametrize(
    ("unfreeze", "place"),
    [
        ("none", None),
        ("head", "head_pool"),
        # Not in the middle of a branch, though nothing before `two_conv` trains.
        ("last:1", "two_add"),
        ("last:2", "one_noise"),
        # `preprocess` alone is not worth it.
        ("all", None),
    ],
)
def test_the_cut_is_the_last_place_before_anything_that_trains(unfreeze, place):
    classifier = make_classifier()
    with unfrozen(classifier, unfreeze):
        cut = cut_behind_frozen(classifier.model)
    assert (cut.layer if cut else None) == place
    if cut:
        images = make_split(4, 3).images.astype(np.float32)
        np.testing.assert_array_equal(cut.suffix(cut.prefix(images)), classifier.model(images))
        assert cut.suffix.layers[-1] is classifier.model.layers[-1]


def test_noise_that_is_not_off_stays_behind_the_cut():
    classifier = make_classifier()
    for layer in classifier.model.layers:
        layer.trainable = layer.name == "head_logits"
    cut = cut_behind_frozen(classifier.model)
    assert cut is not None
    assert cut.layer == "one_relu"  # what follows would drop anew in every step


@pytest.mark.parametrize("budget", [10**9, 0])
def test_weights_are_the_same_bit_for_bit_in_memory_and_in_a_file(monkeypatch, tmp_path, budget):
    data = make_data()
    weights = trained(data, memory_budget_bytes=budget, scratch_dir=tmp_path)
    assert digests(weights) == digests(trained(data, monkeypatch))
    assert digests(weights) != digests(make_classifier().model.weights)
    assert not list(tmp_path.iterdir())


def test_weights_are_the_same_to_1e_5_with_a_smaller_last_batch(monkeypatch):
    data = make_data(50)
    for mine, through in zip(trained(data), trained(data, monkeypatch), strict=True):
        np.testing.assert_allclose(mine, through, atol=1e-5)


class Record(StageCallback):
    def __init__(self):
        super().__init__()
        self.notes, self.inputs, self.progress = [], [], []

    def on_frozen_layers(self, note):
        self.notes.append(note)

    def on_frozen_progress(self, done, total):
        self.progress.append((done, total))

    def on_train_begin(self, logs=None):
        self.inputs.append(self.model.input.shape[1:])


def test_epochs_begin_at_the_cut():
    record = Record()
    train(make_classifier(), make_data(), callbacks=[record])
    assert record.inputs == [(4,), (SIZE, SIZE, 4), (SIZE, SIZE, 4)]
    assert record.notes[0] == "layers up to head_pool are frozen and run once: 0 MB of activations, kept in memory"
    assert record.progress[:4] == [(16, 64), (32, 64), (48, 64), (64, 64)]


def test_frozen_layers_run_in_every_epoch_where_images_change():
    record = Record()
    train(make_classifier(), make_data(), STAGES[0], augmentation="light", callbacks=[record])
    assert record.inputs == [(SIZE, SIZE, 3)]
    assert record.notes == ["frozen layers run in every epoch, as augmentation changes the images"]


def test_a_stage_without_augmentation_sees_the_images_as_they_are():
    record = Record()
    head = replace(STAGES[0], augment=False)
    classifier = make_classifier()
    train(classifier, make_data(), head, augmentation="strong", callbacks=[record])
    assert record.inputs == [(4,)]
    plain = make_classifier()
    train(plain, make_data(), head)
    assert digests(classifier.model.weights) == digests(plain.model.weights)


def test_frozen_layers_run_in_every_epoch_where_there_is_no_space(monkeypatch):
    def refuse(*arguments, **settings):
        raise InputError("No space for 12 GB of activations")

    monkeypatch.setattr(frozen_prefix, "allocate", refuse)
    record = Record()
    (result,) = train(make_classifier(), make_data(), STAGES[0], callbacks=[record])
    assert record.notes == ["frozen layers run in every epoch: No space for 12 GB of activations"]
    assert result.epochs == 2


def test_ctrl_c_stops_frozen_layers_between_two_batches():
    class Interrupt(Record):
        def on_frozen_progress(self, done, total):
            super().on_frozen_progress(done, total)
            if len(self.progress) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    interrupt = Interrupt()
    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), make_data(), callbacks=[interrupt])
    assert len(interrupt.progress) in (2, 3)  # the signal may arrive after the next batch has begun
    assert not interrupt.inputs


def build_classifier_without_weights(name, size):
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.parts.classifier.check_weights", lambda *arguments: None)
        patch.setattr("recipes.parts.classifier.load_weights", lambda *arguments: None)
        return build_classifier(name, image_size=size, num_classes=3, weights="nothing.h5")


def test_part_of_the_graph_may_be_no_layer():
    """In MobileNetV3 some operations stand between layers; they have to be on one side of the cut."""
    classifier = build_classifier_without_weights("MobileNetV3Small", 32)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    for unfreeze in ("head", "last:2", "last:7"):
        with unfrozen(classifier, unfreeze):
            cut = cut_behind_frozen(classifier.model)
        np.testing.assert_array_equal(cut.suffix(cut.prefix(images)), classifier.model(images))


def test_splits_stay_as_they_were():
    """`report.png` draws images after training."""
    data = make_data()
    before = data.train.images.copy()
    classifier = make_classifier()
    with unfrozen(classifier, "head"):
        frozen = FrozenPrefix(
            classifier.model,
            (data.train,),
            images_change=False,
            batch_size=16,
            memory_budget_bytes=10**9,
            scratch_dir=None,
        )
        (activations,) = frozen.run(lambda done, total: None)
    assert activations.images.dtype == np.float32
    assert activations.labels is data.train.labels
    np.testing.assert_array_equal(data.train.images, before)
