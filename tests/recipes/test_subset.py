"""Training on fewer images than there are."""

from collections import Counter

import pytest

from recipes.parts.scan import scan
from recipes.parts.sources import open_source
from recipes.parts.subset import take_training_images
from zoo.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return scan(open_source("digits"), seed=0)


def files(found, split):
    return {image.file for image in found.images if image.split == split}


def test_a_part_of_every_class_stays_and_all_test_images(digits):
    part = take_training_images(digits, 400, seed=0)
    assert part.count("train") == 400
    assert part.count("test") == digits.count("test")
    assert part.count("validation") == pytest.approx(digits.count("validation") * 400 / digits.count("train"), abs=1)
    classes = Counter(image.label for image in part.images if image.split == "train")
    assert max(classes.values()) - min(classes.values()) <= 4
    assert "are used" in " ".join(part.notices)


def test_fewer_are_some_of_more_and_another_seed_takes_others(digits):
    few, more = (files(take_training_images(digits, number, seed=0), "train") for number in (100, 300))
    assert few < more < files(digits, "train")
    assert few != files(take_training_images(digits, 100, seed=1), "train")


@pytest.mark.parametrize("number", [9, 1_000_000])
def test_a_number_out_of_range_is_refused(digits, number):
    with pytest.raises(InputError, match="--train-images is a number from 10"):
        take_training_images(digits, number, seed=0)
