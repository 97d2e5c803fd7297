"""Training on what frozen layers said once must be the same as training through them."""

import os
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest

from recipes import benchmark_cache
from recipes.parts.activation_store import ActivationStore
from recipes.parts.activations import FrozenLayers
from recipes.parts.augment import PRESETS
from recipes.parts.batches import training_batches
from recipes.parts.blocks import Block
from recipes.parts.classifier import Classifier, build_classifier
from recipes.parts.dataset import DataSet, Split
from recipes.parts.freezing import digests, unfrozen
from recipes.parts.frozen_prefix import cut_behind_frozen
from recipes.parts.stage_events import StageCallback
from recipes.parts.stages import Stage
from recipes.parts.training import StagedRun, run_stages
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
    Stage(name="head", unfreeze="head", epochs=4, learning_rate=0.05),
    Stage(name="top", unfreeze="last:1", epochs=4, learning_rate=0.02),
    Stage(name="deeper", unfreeze="last:2", epochs=6, learning_rate=0.01),
)


def train(classifier, data, *stages, folder=None, augmentation="none", callbacks=(), **settings):
    """Train with what frozen layers say kept in a folder; through all layers in every epoch without one."""
    frozen = None if folder is None else FrozenLayers(store=ActivationStore(folder), **settings)
    return run_stages(
        classifier,
        stages or STAGES,
        data,
        batch_size=16,
        augmentation=PRESETS[augmentation],
        seed=0,
        frozen_layers=frozen,
        callbacks=callbacks,
    )


def make_run(classifier, stages, folder, *, augmentation=PRESETS["none"], callbacks=(), **settings):
    return StagedRun(
        classifier,
        stages,
        make_data(),
        batch_size=16,
        augmentation=augmentation,
        seed=0,
        callbacks=callbacks,
        frozen_layers=FrozenLayers(store=ActivationStore(folder), **settings),
    )


def trained(data, folder=None, stages=(STAGES[0], STAGES[2]), **settings):
    """Weights after training."""
    classifier = make_classifier()
    train(classifier, data, *stages, folder=folder, **settings)
    return classifier.model.weights


@pytest.mark.parametrize(
    ("unfreeze", "place"),
    [
        ("none", None),
        ("head", "head_pool"),
        # Not in the middle of a branch, though nothing before `two_conv` trains.
        ("last:1", "two_add"),
        # Noise that is off gives what it is given.
        ("last:2", "one_relu"),
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


def test_weights_are_the_same_bit_for_bit_in_memory_and_in_a_file(tmp_path):
    data = make_data()
    through = digests(trained(data))
    assert digests(make_classifier().model.weights) != through
    # The second time from what the first left.
    for budget in (10**9, 0):
        assert digests(trained(data, tmp_path, fold=False, memory_budget_bytes=budget)) == through


def test_weights_are_the_same_to_1e_5_with_folded_batch_norm_and_a_smaller_last_batch(tmp_path):
    data = make_data(50)
    folded, through = trained(data, tmp_path), trained(data)
    for mine, theirs in zip(folded, through, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert digests(folded) != digests(through)


@pytest.mark.slow
def test_half_the_space_rounds(tmp_path):
    data = make_data()
    sizes, weights = [], []
    for dtype in ("float32", "float16"):
        weights.append(digests(trained(data, tmp_path / dtype, STAGES[2:], dtype=dtype)))
        sizes.append(sum(file.stat().st_size for file in (tmp_path / dtype).iterdir()))
    assert weights[0] != weights[1]
    assert 0.5 < sizes[1] / sizes[0] < 0.7


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


def test_epochs_begin_at_the_cut_and_one_pass_serves_all_stages(tmp_path):
    record = Record()
    train(make_classifier(), make_data(), folder=tmp_path, callbacks=[record])
    assert record.inputs == [(4,), (SIZE, SIZE, 4), (SIZE, SIZE, 4)]
    assert record.notes[0] == "layers up to head_pool are frozen and run once: 0 MB of activations"
    assert record.progress == [(16, 64), (32, 64), (48, 64), (64, 64)]


def test_a_later_run_finds_what_an_earlier_one_left(tmp_path):
    data = make_data()
    train(make_classifier(), data, STAGES[0], folder=tmp_path)
    record = Record()
    train(make_classifier(), data, STAGES[0], folder=tmp_path, callbacks=[record])
    assert record.progress == []


def change_a_weight(classifier):
    kernel = classifier.model.get_layer("one_conv").kernel
    kernel.assign(kernel.numpy() * 1.01)


def change_the_graph(classifier):
    classifier.model.get_layer("preprocess").scale = 1 / 127


@pytest.mark.parametrize("change", [change_a_weight, change_the_graph])
def test_other_layers_do_not_find_it(tmp_path, change):
    train(make_classifier(), make_data(), STAGES[0], folder=tmp_path)
    classifier, record = make_classifier(), Record()
    change(classifier)
    train(classifier, make_data(), STAGES[0], folder=tmp_path, callbacks=[record])
    assert record.progress[-1] == (64, 64)


def test_names_of_layers_do_not_matter_to_what_is_computed():
    cuts = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        image = keras.Input((SIZE, SIZE, 3))
        x = keras.layers.ReLU()(keras.layers.Conv2D(2, 3)(image))  # with automatic names
        model = keras.Model(image, keras.layers.Dense(2)(x))
        model.layers[1].trainable = False
        cuts.append(cut_behind_frozen(model))
    assert cuts[0].layer != cuts[1].layer
    assert cuts[0].digest() == cuts[1].digest()
    cuts[1].prefix.weights[0].assign(cuts[1].prefix.weights[0] + 1)
    assert cuts[0].digest() != cuts[1].digest()


def test_what_later_stages_read_is_made_anew_if_an_earlier_one_changes_it(tmp_path):
    """Also where a plan has traced, and folded, what the later stage would read before it was changed."""
    record = Record()
    classifier = make_classifier()
    stages = (replace(STAGES[2], name="deep first"), STAGES[0])
    run = make_run(classifier, stages, tmp_path, callbacks=[record])
    assert [plan.fill_images for plan in run.plan()] == [64, 64]
    run.run()
    assert record.progress == [(16, 64), (32, 64), (48, 64), (64, 64)] * 2
    plain = make_classifier()
    train(plain, make_data(), *stages)
    for mine, theirs in zip(classifier.model.weights, plain.model.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_versions_are_what_the_first_epochs_would_have_seen(tmp_path):
    data, record = make_data(), Record()
    stage = replace(STAGES[1], epochs=3, unfreeze="head")
    train(make_classifier(), data, stage, folder=tmp_path, augmentation="light", views=3, callbacks=[record])
    assert record.inputs == [(4,)]
    assert "in 3 versions of each image" in record.notes[0]
    assert record.progress[-1] == (3 * 48 + 16,) * 2

    run = make_run(make_classifier(), [stage], tmp_path, augmentation=PRESETS["light"], views=3)
    prepared = run._prepare(0)
    versions, _ = run.activations.load(prepared.requests)
    images = training_batches(data.train, batch_size=16, augmentation=PRESETS["light"], seed=0)
    for epoch in range(3):
        order = np.random.default_rng([0, epoch, 0]).permutation(48)
        seen = np.concatenate([prepared.cut.prefix(x) for x, _ in images.skip(3 * epoch).take(3)])
        np.testing.assert_allclose(versions.images[order + 48 * epoch], seen, atol=1e-5)


def test_each_image_goes_through_all_its_versions():
    """Image `i` in version `v` is the number 100 v + i here."""
    rows = np.concatenate([np.arange(48) + 100 * version for version in range(3)]).astype(np.float32)
    split = replace(make_split(48, 0), images=rows[:, np.newaxis])
    batches = training_batches(split, batch_size=48, augmentation=PRESETS["none"], seed=0, views=3)
    drawn = []
    for numbers, labels in batches.take(3):
        version, image = np.divmod(numbers.numpy()[:, 0].astype(int), 100)
        np.testing.assert_array_equal(labels, split.labels[image])
        assert sorted(image) == list(range(48))
        assert set(version) == {0, 1, 2}, "an epoch draws from all versions"
        drawn.append(version[np.argsort(image)])
    np.testing.assert_array_equal(np.sort(drawn, axis=0).T, [[0, 1, 2]] * 48)


class Holder(keras.layers.Layer):
    """A layer of the user's own, with a layer inside."""

    def __init__(self, inner, **keywords):
        super().__init__(**keywords)
        self.inner = inner

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: keras.layers.GaussianNoise(1.0, name="noise"), "relu"),  # quiet in a frozen block
        (lambda: Holder(keras.layers.Dropout(0.5), name="noise"), "relu"),
        (lambda: Holder(keras.layers.RandomFlip(), name="noise"), "conv"),  # has no strength to set to nothing
    ],
)
def test_noise_inside_and_of_other_kinds_is_seen(make, place):
    image = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.ReLU(name="relu")(make()(x))
    model = keras.Model(image, keras.layers.Dense(2, name="head_logits")(x))
    blocks = (Block("body", ("conv", "noise", "relu")), Block("head", ("head_logits",)))
    with unfrozen(Classifier(model, blocks), "head"):
        assert cut_behind_frozen(model).layer == place
    model.get_layer("conv").trainable = False
    assert cut_behind_frozen(model).layer == "conv"  # nothing is quiet any more


def test_frozen_layers_run_in_every_epoch_where_images_change_and_no_versions_are_wanted(tmp_path):
    record = Record()
    head = replace(STAGES[0], augment=True)
    train(make_classifier(), make_data(), head, folder=tmp_path, augmentation="light", views=0, callbacks=[record])
    assert record.inputs == [(SIZE, SIZE, 3)]
    assert record.notes == ["frozen layers run in every epoch: augmentation changes the images"]


def test_a_stage_without_augmentation_sees_the_images_as_they_are(tmp_path):
    record = Record()
    head = replace(STAGES[0], augment=False)
    classifier = make_classifier()
    train(classifier, make_data(), head, folder=tmp_path, augmentation="strong", callbacks=[record])
    assert record.inputs == [(4,)]
    plain = make_classifier()
    train(plain, make_data(), head, folder=tmp_path)
    assert digests(classifier.model.weights) == digests(plain.model.weights)


def test_one_epoch_does_not_pay(tmp_path):
    record = Record()
    train(make_classifier(), make_data(), replace(STAGES[0], epochs=1), folder=tmp_path, callbacks=[record])
    assert record.inputs == [(SIZE, SIZE, 3)]
    assert "would leave" in record.notes[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", ["before", "while filling"])
def test_frozen_layers_run_in_every_epoch_where_there_is_no_space(tmp_path, monkeypatch, when):
    def refuse(*arguments, **settings):
        raise InputError("No space for 12 GB of activations")

    monkeypatch.setattr(ActivationStore, "require_room" if when == "before" else "fill", refuse)
    record = Record()
    classifier = make_classifier()
    (result,) = train(classifier, make_data(), STAGES[0], folder=tmp_path, callbacks=[record])
    assert record.notes[-1] == "frozen layers run in every epoch: No space for 12 GB of activations"
    assert result.epochs == 4
    plain = make_classifier()
    train(plain, make_data(), STAGES[0])
    assert digests(classifier.model.weights) == digests(plain.model.weights)


def test_ctrl_c_stops_frozen_layers_between_two_batches_and_what_is_done_is_kept(tmp_path):
    class Interrupt(Record):
        def on_frozen_progress(self, done, total):
            super().on_frozen_progress(done, total)
            if len(self.progress) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    interrupt, again = Interrupt(), Record()
    with pytest.raises(KeyboardInterrupt):
        train(make_classifier(), make_data(), STAGES[0], folder=tmp_path, callbacks=[interrupt])
    assert len(interrupt.progress) in (2, 3)  # the signal may arrive after the next batch has begun
    assert not interrupt.inputs
    train(make_classifier(), make_data(), STAGES[0], folder=tmp_path, callbacks=[again])
    assert again.progress[-1][1] in (16, 32)


def test_a_plan_changes_nothing(tmp_path):
    """Steps are timed on real weights; all must be as if they had not been."""
    weights = []
    for planned in (False, True):
        classifier = make_classifier()
        run = make_run(classifier, STAGES, tmp_path / str(planned), fold=False)
        if planned:
            plans = run.plan()
            assert [plan.cut for plan in plans] == ["head_pool", "two_add", "one_relu"]
            assert [plan.fill_images for plan in plans] == [64, 0, 0]
            assert all(plan.epoch_seconds > 0 for plan in plans)
            assert plans[1].cache_bytes == 64 * SIZE * SIZE * 4 * 4
        run.run()
        weights.append(digests(classifier.model.weights))
    assert weights[0] == weights[1]


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


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path, capsys):
    """Of a cache ten times the budget and more, what is held is the budget and what TensorFlow takes for itself."""
    grown = benchmark_cache.grow(tmp_path, (200, 800, 3_200))
    capsys.readouterr()
    for cache, budget, held in grown[1:]:
        assert held < budget + 150e6, (cache, budget, held)
    cache, budget, _ = grown[-1]
    assert cache >= 10 * budget
