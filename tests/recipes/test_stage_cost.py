"""Whether frozen layers run once follows from multiply-adds, and these from the network."""

import keras
import pytest

from recipes.parts.frozen_prefix import cut_behind_frozen
from recipes.parts.stage_cost import Caching, StageCost, choose_caching, stage_cost

COST = StageCost(prefix=70, forward=30, backward=60)


def choose(cost=COST, **changes):
    settings = {"epochs": 9, "images_change": False, "views": None, "train_images": 100, "validation_images": 20}
    return choose_caching(cost, **{**settings, **changes})


def test_multiply_adds_of_a_network_that_one_can_count_by_hand():
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 1, name="first")(image)  # 4 * 4 * 3 * 2
    x = keras.layers.Conv2D(5, 1, name="second")(x)  # 4 * 4 * 2 * 5
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(7, name="third")(x))  # 5 * 7
    for trains, expected in (
        ((False, False, True), (96 + 160, 35, 35)),  # its kernel; nothing before it wants a gradient
        ((False, True, True), (96, 160 + 35, 160 + 2 * 35)),
        ((False, True, False), (96, 160 + 35, 160 + 35)),  # through the frozen last one
        ((True, True, True), (0, 96 + 160 + 35, 96 + 2 * 160 + 2 * 35)),
    ):
        for name, learns in zip(("first", "second", "third"), trains, strict=True):
            model.get_layer(name).trainable = learns
        cost = stage_cost(model, cut_behind_frozen(model))
        assert (cost.prefix, cost.forward, cost.backward) == expected


def test_an_epoch_counts_training_and_validation():
    images = {"train_images": 10, "validation_images": 2}
    assert COST.epoch(cached=False, **images) == 10 * (70 + 30 + 60) + 2 * (70 + 30)
    assert COST.epoch(cached=True, **images) == 10 * (30 + 60) + 2 * 30


@pytest.mark.parametrize(("epochs", "views"), [(3, 2), (6, 2), (7, 3), (24, 8), (60, 8)])
def test_versions_follow_from_the_epochs(epochs, views):
    cost = StageCost(prefix=1000, forward=1, backward=1)
    assert choose(cost, epochs=epochs, images_change=True) == Caching(True, views)


def test_as_many_versions_as_epochs_save_nothing():
    cost = StageCost(prefix=1000, forward=1, backward=1)
    assert not choose(cost, epochs=2, images_change=True, validation_images=1).cached


def test_it_pays_from_the_second_epoch_on_and_not_for_a_small_part():
    assert not choose(epochs=1).cached
    assert choose(epochs=2).cached
    assert choose(epochs=1, shared=True).cached
    small = choose(StageCost(prefix=5, forward=95, backward=190))
    assert not small.cached
    assert "would leave 98% of the multiply-adds of 9 epochs" in small.reason


def test_what_is_asked_for_is_done():
    assert choose(images_change=True, views=20) == Caching(True, 20)
    assert choose(images_change=True, views=0) == Caching(False, reason="augmentation changes the images")
    assert choose(views=5) == Caching(True, 0), "images that do not change have one version"
