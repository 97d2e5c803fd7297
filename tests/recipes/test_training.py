"""Stages on a network small enough to train in a test, with every kind of layer that freezing has to care for."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from recipes.parts import prepared_stage
from recipes.parts.augment import PRESETS
from recipes.parts.batches import evaluation_batches
from recipes.parts.blocks import Block
from recipes.parts.callbacks import BestEpoch
from recipes.parts.class_means import set_nearest_class_mean_head
from recipes.parts.classifier import Classifier
from recipes.parts.dataset import DataSet, Split
from recipes.parts.fitting import balanced_class_weights, schedule
from recipes.parts.freezing import digests, unfrozen
from recipes.parts.inference import Inference
from recipes.parts.metrics import measure
from recipes.parts.mixing import Mixing
from recipes.parts.stage_events import StageCallback, StageResult
from recipes.parts.stages import Stage, TrainingFailed
from recipes.parts.training import StagedRun, run_stages

SIZE, CLASSES = 8, 3


def make_classifier():
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="preprocess")(image)
    for block in ("one", "two"):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"{block}_conv")(x)
        x = keras.layers.BatchNormalization(momentum=0.5, name=f"{block}_norm")(x)
        x = keras.layers.ReLU(name=f"{block}_relu")(x)
        x = keras.layers.Dropout(0.5, name=f"{block}_noise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dropout(0.1, name="head_dropout")(x)
    x = keras.layers.Dense(CLASSES, name="head_logits")(x)
    parts = ("conv", "norm", "relu", "noise")
    blocks = [Block(name, tuple(f"{name}_{part}" for part in parts)) for name in ("one", "two")]
    blocks.append(Block("head", ("head_pool", "head_dropout", "head_logits")))
    return Classifier(keras.Model(image, x), tuple(blocks))


def make_split(count, seed):
    """Images whose class shows in which colour is brightest."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % CLASSES).astype(np.int32)
    images = rng.integers(0, 128, (count, SIZE, SIZE, 3), np.uint8)
    images[np.arange(count), :, :, labels] += 100
    return Split(images=images, labels=labels, files=("",) * count, sha256=("",) * count)


@pytest.fixture(scope="module")
def data():
    return DataSet(
        classes=tuple("abc"),
        train=make_split(50, 0),
        validation=make_split(20, 1),
        test=make_split(20, 2),
        notices=(),
        unreadable=(),
        fingerprint="",
    )


def train(classifier, data, *stages, **changes):
    settings = {"batch_size": 16, "augmentation": PRESETS["none"], "seed": 0}
    return run_stages(classifier, stages, data, **{**settings, **changes})


def values(classifier):
    return {weight.path: weight.numpy() for weight in classifier.model.weights}


def changed(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.mark.parametrize(
    ("unfreeze", "trains"),
    [
        ("none", set()),
        ("head", {"head_logits/kernel", "head_logits/bias"}),
        ("last:1", {"two_conv/kernel", "two_conv/bias", "head_logits/kernel", "head_logits/bias"}),
        ("from:two", {"two_conv/kernel", "two_conv/bias", "head_logits/kernel", "head_logits/bias"}),
        (
            "all",
            {f"{layer}/{weight}" for layer in ("one_conv", "two_conv", "head_logits") for weight in ("kernel", "bias")},
        ),
    ],
)
def test_exactly_the_chosen_blocks_train_and_batch_norm_never_does(data, unfreeze, trains):
    classifier = make_classifier()
    before = values(classifier)
    (result,) = train(classifier, data, Stage(name="s", unfreeze=unfreeze, epochs=2, learning_rate=0.05))
    assert changed(before, values(classifier)) == trains
    # 3 x 3 x 3 -> 4, 3 x 3 x 4 -> 4, 4 -> 3, each with its biases
    sizes = {"one_conv": 112, "two_conv": 148, "head_logits": 15}
    assert result.trainable_parameters == sum(sizes[path.split("/")[0]] for path in trains if "kernel" in path)
    assert result.parameters == sum(sizes.values()) + 2 * 4 * 4


def test_frameworks_own_freezing_would_move_batch_norm(data):
    """What we guard against: `training=False` does not keep batch norm in inference mode under `fit`."""
    classifier = make_classifier()
    classifier.model.get_layer("one_norm").trainable = True
    before = values(classifier)
    classifier.model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    classifier.model.fit(data.train.images.astype(np.float32), data.train.labels, verbose=0)
    assert {"one_norm/moving_mean", "one_norm/gamma"} <= changed(before, values(classifier))


def test_stages_follow_each_other_and_never_get_worse(data):
    classifier = make_classifier()
    results = train(
        classifier,
        data,
        Stage(name="head", unfreeze="head", epochs=20, learning_rate=0.05, patience=20),
        # So fast that it ruins everything: the weights from before it must come back.
        Stage(name="ruin", unfreeze="all", epochs=2, learning_rate=30.0),
        Stage(name="deep", unfreeze="all", epochs=10, learning_rate=0.01),
    )
    head, ruin, deep = results
    assert ruin.best_epoch is None
    assert ruin.validation_loss == head.validation_loss == min(row["val_loss"] for row in head.history)
    assert deep.validation_loss <= head.validation_loss
    logits = Inference(classifier.model)(evaluation_batches(data.validation, batch_size=16))
    found = measure(logits, data.validation.labels, data.classes)["loss"]
    assert found == pytest.approx(deep.validation_loss, rel=1e-5)


def test_a_stage_stops_when_it_no_longer_helps(data):
    (result,) = train(
        make_classifier(), data, Stage(name="s", unfreeze="head", epochs=50, learning_rate=5.0, patience=2)
    )
    assert result.epochs < 50
    assert result.epochs - (result.best_epoch or 0) == 2
    assert len(result.history) == result.epochs


def test_same_seed_same_weights_and_another_seed_others(data):
    def weights(seed):
        classifier = make_classifier()
        train(classifier, data, Stage(name="s", unfreeze="all", epochs=2, learning_rate=0.01), seed=seed)
        return digests(classifier.model.weights)

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)


def test_later_stages_go_on_with_the_epochs_data(data, monkeypatch):
    """A second stage must not see the first stage's order and augmentation again."""
    asked = []
    real = prepared_stage.training_batches

    def record(*arguments, first_epoch, **keywords):
        asked.append(first_epoch)
        return real(*arguments, first_epoch=first_epoch, **keywords)

    monkeypatch.setattr(prepared_stage, "training_batches", record)
    train(make_classifier(), data, Stage(name="a", epochs=2), Stage(name="b", epochs=3), Stage(name="c", epochs=1))
    assert asked == [0, 2, 5]


def test_noise_is_off_in_frozen_blocks_and_comes_back():
    classifier = make_classifier()

    def rates():
        return [classifier.model.get_layer(name).rate for name in ("one_noise", "two_noise", "head_dropout")]

    with unfrozen(classifier, "last:1") as blocks:
        assert blocks == ("two", "head")
        assert rates() == [0.0, 0.5, 0.1]
    assert rates() == [0.5, 0.5, 0.1]
    assert all(layer.trainable for layer in classifier.model.layers)


def test_noise_comes_back_after_an_error():
    classifier = make_classifier()
    with pytest.raises(KeyboardInterrupt), unfrozen(classifier, "head"):
        raise KeyboardInterrupt
    assert classifier.model.get_layer("one_noise").rate == 0.5


def test_a_loss_that_is_not_finite_stops_with_one_line(data):
    classifier = make_classifier()
    classifier.model.get_layer("head_logits").bias.assign([math.nan] * CLASSES)
    with pytest.raises(TrainingFailed, match=r"stage 'broken', step 1 of epoch 1: lower its learning rate") as error:
        train(classifier, data, Stage(name="broken", unfreeze="head", epochs=3, learning_rate=0.1))
    assert "\n" not in str(error.value)


def test_a_frozen_weight_that_moves_is_noticed(data):
    class Meddle(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            moving = classifier.model.get_layer("one_norm").moving_mean
            moving.assign_add([1e-7] * 4)

    classifier = make_classifier()
    with pytest.raises(AssertionError, match="frozen weight changed in stage 'head'"):
        train(classifier, data, Stage(name="head", unfreeze="head", epochs=1), callbacks=[Meddle()])


def test_running_out_of_memory_says_what_to_lower(data):
    class Exhaust(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    with pytest.raises(TrainingFailed, match=r"stage 's': lower --batch-size, which is 16"):
        train(make_classifier(), data, Stage(name="s", epochs=1), callbacks=[Exhaust()])


def test_listeners_hear_of_stages(data):
    heard = []

    class Listener(StageCallback):
        def on_stage_begin(self, start):
            heard.append(("begin", start.stage.name, start.index, start.blocks, start.steps_per_epoch))

        def on_epoch_end(self, epoch, logs=None):
            heard.append(("epoch", epoch, {"loss", "val_loss", "val_accuracy", "seconds"} <= logs.keys()))

        def on_stage_end(self, result):
            heard.append(("end", result.name, result.epochs))

    train(make_classifier(), data, Stage(name="only", unfreeze="head", epochs=2), callbacks=[Listener()])
    assert heard == [
        ("begin", "only", 0, ("head",), 4),
        ("epoch", 0, True),
        ("epoch", 1, True),
        ("end", "only", 2),
    ]


def test_schedule_warms_up_and_decays():
    rate = schedule(Stage(name="s", epochs=10, learning_rate=0.5, warmup=0.2), steps_per_epoch=10)
    curve = [float(rate(step)) for step in range(101)]
    assert curve[0] == 0.0
    assert curve[10] == pytest.approx(0.25)
    assert curve[20] == pytest.approx(0.5)
    assert curve[60] == pytest.approx(0.25, abs=1e-6)
    assert curve[100] == pytest.approx(0.0, abs=1e-6)
    assert float(schedule(Stage(name="s", epochs=1, learning_rate=0.5, warmup=0.0), 1)(0)) == pytest.approx(0.5)
    # So few steps that warm-up would take them all.
    assert float(schedule(Stage(name="s", epochs=1, learning_rate=0.5, warmup=0.9), 4)(3)) == pytest.approx(0.5)


def test_balanced_class_weights_make_classes_count_alike():
    labels = np.array([0] * 8 + [1] * 2, np.int32)
    weights = balanced_class_weights(labels, 2)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [10 / 16, 10 / 4])
    assert np.mean(weights[labels]) == pytest.approx(1)


def test_class_weights_reach_the_loss(data):
    def loss(weights):
        (result,) = train(
            make_classifier(),
            data,
            Stage(name="s", unfreeze="head", epochs=1, learning_rate=1e-9),
            class_weights=weights,
        )
        return result.history[0]["loss"]

    assert loss(np.full(3, 2.0, np.float32)) == pytest.approx(2 * loss(None), rel=0.05)


def test_nearest_class_mean_head_chooses_the_nearest_mean(data):
    classifier = make_classifier()
    set_nearest_class_mean_head(classifier.model, evaluation_batches(data.train, batch_size=7))
    extract = keras.Model(classifier.model.input, classifier.model.get_layer("head_pool").output)
    means = np.stack(
        [extract.predict(data.train.images[data.train.labels == c].astype("f4"), verbose=0).mean(0) for c in range(3)]
    )
    features = extract.predict(data.test.images.astype("f4"), verbose=0)
    nearest = np.argmin(np.linalg.norm(features[:, None] - means[None], axis=-1), axis=1)
    logits = classifier.model.predict(data.test.images.astype("f4"), verbose=0)
    np.testing.assert_array_equal(logits.argmax(axis=1), nearest)


def test_the_best_epoch_keeps_copies_not_views(data):
    """On a CPU a NumPy array of a variable may share its memory."""
    classifier = make_classifier()
    result = StageResult(name="", unfreeze="", blocks=(), trainable_parameters=0, parameters=0)
    keeper = BestEpoch(result, Stage(name="s"), classifier.model.trainable_weights, dict)
    keeper.set_model(classifier.model)
    keeper.on_train_begin()
    before = digests(classifier.model.trainable_weights)
    for weight in classifier.model.trainable_weights:
        weight.assign_add(keras.ops.ones_like(weight))
    keeper.on_train_end()
    assert digests(classifier.model.trainable_weights) == before


FROM_SCRATCH = Stage(name="all", unfreeze="all", epochs=3, learning_rate=0.05, optimizer="sgd", batch_norm="trained")


def test_batch_norm_trains_where_the_stage_says_so(data):
    classifier = make_classifier()
    before = values(classifier)
    train(classifier, data, FROM_SCRATCH)
    assert changed(before, values(classifier)) == set(before)


def test_batch_norm_of_frozen_blocks_keeps_its_statistics_in_any_case(data):
    classifier = make_classifier()
    before = values(classifier)
    train(classifier, data, Stage(name="s", unfreeze="last:1", epochs=2, batch_norm="trained"))
    moved = changed(before, values(classifier))
    assert {path for path in before if path.startswith("two_norm/")} <= moved
    assert not {path for path in moved if path.startswith("one_")}


def test_the_best_epoch_comes_back_with_its_statistics(data):
    """Weights of one epoch with the statistics of another would be a model that nobody has validated."""
    classifier = make_classifier()
    # At this rate the last epochs are worse than the first.
    (result,) = train(classifier, data, replace(FROM_SCRATCH, epochs=6, learning_rate=5.0, warmup=0.0, patience=6))
    assert result.best_epoch is None or result.best_epoch < 6
    logits = Inference(classifier.model)(evaluation_batches(data.validation, batch_size=16))
    assert measure(logits, data.validation.labels, data.classes)["loss"] == pytest.approx(result.validation_loss)


def test_the_average_is_what_is_validated_and_kept(data):
    kept = make_classifier()
    (result,) = train(kept, data, FROM_SCRATCH, average=0.9)
    logits = Inference(kept.model)(evaluation_batches(data.validation, batch_size=16))
    assert measure(logits, data.validation.labels, data.classes)["loss"] == pytest.approx(result.validation_loss)
    plain = make_classifier()
    train(plain, data, FROM_SCRATCH)
    assert digests(kept.model.weights) != digests(plain.model.weights)


@pytest.mark.parametrize("changes", [{"mixing": Mixing(mixup=0.4, cutmix=1.0)}, {"label_smoothing": 0.1}])
def test_soft_labels_train(data, changes):
    classifier = make_classifier()
    (result,) = train(classifier, data, replace(FROM_SCRATCH, epochs=12, patience=12), **changes)
    losses = [row["loss"] for row in result.history]
    assert losses[-1] < losses[0]
    assert result.history[-1]["val_accuracy"] > 0.8


def test_a_result_says_how_good_the_weights_are_that_were_kept(data):
    classifier = make_classifier()
    good = Stage(name="head", unfreeze="head", epochs=8, learning_rate=0.05, patience=8)
    first, second = train(classifier, data, good, Stage(name="ruin", unfreeze="all", epochs=1, learning_rate=30.0))
    logits = Inference(classifier.model)(evaluation_batches(data.validation, batch_size=16))
    expected = measure(logits, data.validation.labels, data.classes)
    assert second.best_epoch is None
    for result in (first, second):
        assert result.validation_accuracy == expected["accuracy"] == first.history[first.best_epoch - 1]["val_accuracy"]
        assert result.validation_macro_f1 == expected["macro_f1"]
        assert result.validation_loss == pytest.approx(expected["loss"])


def test_whole_epochs_at_once_come_to_the_same_weights(data):
    weights, heard = [], []

    class Batches(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            heard.append(batch)

    for whole_epochs in (False, True):
        classifier = make_classifier()
        train(classifier, data, FROM_SCRATCH, whole_epochs=whole_epochs, callbacks=[Batches()])
        weights.append(digests(classifier.model.weights))
    assert weights[0] == weights[1]
    assert heard == [*[0, 1, 2, 3] * 3, *[3] * 3]


@pytest.mark.slow
def test_epochs_that_patience_spared_count_as_if_they_had_been_run(data):
    stages = (
        Stage(name="head", unfreeze="head", epochs=50, learning_rate=5.0, patience=2),
        Stage(name="deep", unfreeze="last:1", epochs=2),
    )

    def run(until):
        settings = {"batch_size": 16, "augmentation": PRESETS["none"], "seed": 0}
        return StagedRun(make_classifier(), stages, data, **settings).run(until=until)

    (head,) = run(30)
    assert head.epochs < 30
    assert [result.epochs for result in run(51)] == [head.epochs, 1]


def test_a_stage_that_does_not_augment_does_not_mix(data):
    stage = Stage(name="head", epochs=2, augment=False)
    mixed, plain = make_classifier(), make_classifier()
    train(mixed, data, stage, mixing=Mixing(mixup=1.0), augmentation=PRESETS["strong"])
    train(plain, data, stage)
    assert digests(mixed.model.weights) == digests(plain.model.weights)
