from dataclasses import fields

import pytest

from recipes.parts.defaults import Defaults, choose_defaults, choose_training_defaults


def choose(**changes):
    settings = {
        "train_images": 1500,
        "num_classes": 10,
        "median_side": 100,
        "native_size": 224,
        "smallest_size": 32,
        "gpu": False,
    }
    return choose_defaults(**{**settings, **changes})


@pytest.mark.parametrize(
    ("median_side", "gpu", "smallest", "size"),
    [
        (8, False, 32, 64),
        (100, False, 32, 96),
        (480, False, 32, 160),
        (480, True, 32, 224),
        (8, True, 75, 75),
    ],
)
def test_image_size(median_side, gpu, smallest, size):
    assert choose(median_side=median_side, gpu=gpu, smallest_size=smallest).image_size == size


def test_more_images_fewer_epochs():
    epochs = [choose(train_images=count).epochs for count in (1, 300, 1500, 10_000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 2


def test_tiny_images_are_not_augmented():
    assert choose(median_side=8).augmentation == "none"
    assert choose(median_side=32).augmentation == "light"


def test_few_images_a_class_are_augmented_more():
    assert choose(num_classes=100).augmentation == "medium"
    assert choose(num_classes=100, median_side=8).augmentation == "none"


def test_every_choice_has_its_reason_on_one_line():
    for found in (choose(), choose(median_side=8, gpu=True)):
        assert set(found.reasons) == {field.name for field in fields(Defaults)} - {"reasons"}
        assert not any("\n" in reason for reason in found.reasons.values())
        assert str(found.image_size) in found.reasons["image_size"]
        assert str(found.epochs) in found.reasons["epochs"]


def training_defaults(**changes):
    facts = {"train_images": 5_000, "median_side": 40, "native_size": 32, "output_stride": 8, "gpu": False}
    return choose_training_defaults(**{**facts, **changes})


def test_from_scratch_the_image_size_is_that_of_the_images_within_what_the_network_can_use():
    assert training_defaults(median_side=28).image_size == 28
    assert training_defaults(median_side=8).image_size == 24  # 3 x 3 positions at the end
    assert training_defaults(median_side=500).image_size == 64
    assert training_defaults(median_side=500, native_size=224, output_stride=32).image_size == 128
    assert training_defaults(median_side=500, native_size=224, output_stride=32, gpu=True).image_size == 224


def test_from_scratch_fewer_images_are_shown_more_often():
    epochs = [training_defaults(train_images=images).epochs for images in (100, 1_250, 100_000)]
    assert epochs == [60, 24, 12]


def test_every_reason_from_scratch_says_its_number():
    defaults = training_defaults()
    for name in ("image_size", "batch_size", "epochs"):
        assert str(getattr(defaults, name)) in defaults.reasons[name]
