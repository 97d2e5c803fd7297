"""Mixup, CutMix and random erasing, against their formulas in plain NumPy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.parts.augment import PRESETS, Augmentation
from recipes.parts.batches import training_batches
from recipes.parts.boxes import cut_boxes, inside
from recipes.parts.dataset import Split
from recipes.parts.erasing import AREA, erase, plan_erasing
from recipes.parts.mixing import Mixing, mix, plan_mixing
from zoo.errors import InputError

HEIGHT, WIDTH, CLASSES = 12, 20, 3
SIZES = {"height": HEIGHT, "width": WIDTH}


def make_batch(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (count, HEIGHT, WIDTH, 3)).astype(np.float32)
    return images, np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, count)]


def mixed(images, labels, plan):
    return [tensor.numpy() for tensor in mix(tf.constant(images), tf.constant(labels), tf.constant(plan))]


def test_mixup_is_the_formula():
    images, labels = make_batch(5)
    plan = plan_mixing(5, Mixing(mixup=0.4), **SIZES, seed=1, epoch=2)
    new_images, new_labels = mixed(images, labels, plan)
    for index in range(5):
        share, other = plan[index, 0], index - 1
        np.testing.assert_allclose(new_images[index], share * images[index] + (1 - share) * images[other], rtol=1e-5)
        np.testing.assert_allclose(new_labels[index], share * labels[index] + (1 - share) * labels[other], atol=1e-6)


def test_cutmix_pastes_a_rectangle_and_weighs_labels_by_its_area():
    images, labels = make_batch(40)
    plan = plan_mixing(40, Mixing(cutmix=1.0), **SIZES, seed=0, epoch=0)
    new_images, new_labels = mixed(images, labels, plan)
    for index in range(40):
        top, bottom, left, right = plan[index, 1:].astype(int)
        expected = images[index].copy()
        expected[top:bottom, left:right] = images[index - 1, top:bottom, left:right]
        np.testing.assert_array_equal(new_images[index], expected)
        share = 1 - (bottom - top) * (right - left) / (HEIGHT * WIDTH)
        np.testing.assert_allclose(
            new_labels[index], share * labels[index] + (1 - share) * labels[index - 1], atol=1e-6
        )


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha):
    shares = plan_mixing(20_000, Mixing(mixup=alpha), **SIZES, seed=0, epoch=0)[:, 0]
    # Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert abs(shares.mean() - 0.5) < 0.01
    assert abs(shares.var() * 4 * (2 * alpha + 1) - 1) < 0.05


def test_with_both_half_of_the_examples_are_cut():
    plan = plan_mixing(10_000, Mixing(mixup=1.0, cutmix=1.0), **SIZES, seed=0, epoch=0)
    by_cutmix = plan[:, 0] == 1
    assert 4_800 < by_cutmix.sum() < 5_200
    top, bottom, left, right = plan[~by_cutmix, 1:].T
    assert ((top == bottom) | (left == right)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), mixup=st.floats(0, 5), cutmix=st.floats(0, 5), count=st.integers(1, 9))
def test_labels_stay_distributions_and_pixels_in_range(seed, mixup, cutmix, count):
    mixing = Mixing(mixup=mixup, cutmix=cutmix)
    if mixing.changes_nothing:
        return
    images, labels = make_batch(count, seed)
    images, labels = mixed(images, labels, plan_mixing(count, mixing, **SIZES, seed=seed, epoch=0))
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
    assert (labels >= 0).all()
    assert (images >= 0).all()
    assert (images <= 255.001).all()


def test_a_single_image_is_mixed_with_itself():
    """The last batch of an epoch may hold one."""
    images, labels = make_batch(1)
    new_images, new_labels = mixed(images, labels, plan_mixing(1, Mixing(mixup=1.0), **SIZES, seed=0, epoch=0))
    np.testing.assert_allclose(new_images, images, rtol=1e-5)
    np.testing.assert_allclose(new_labels, labels, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    centers=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    sides=st.tuples(st.floats(0, 50), st.floats(0, 50)),
)
def test_rectangles_stay_in_the_image(centers, sides):
    values = [np.array([value]) for value in (*centers, *sides)]
    (box,) = cut_boxes(*values, **SIZES)
    top, bottom, left, right = box.astype(int)
    assert 0 <= top <= bottom <= HEIGHT
    assert 0 <= left <= right <= WIDTH
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(inside(tf.constant([box]), **SIZES).numpy()[0, ..., 0], expected)


def test_erasing_paints_one_rectangle_of_the_share_that_is_asked_for():
    plan = plan_erasing(5_000, 0.3, height=100, width=100, seed=0, epoch=0)
    areas = (plan[:, 1] - plan[:, 0]) * (plan[:, 3] - plan[:, 2]) / 100**2
    assert 1_400 < (areas > 0).sum() < 1_600
    assert areas.max() < AREA[1] + 0.01
    images, _ = make_batch(50)
    plan = plan_erasing(50, 1.0, **SIZES, seed=0, epoch=0)
    erased = erase(tf.constant(images), tf.constant(plan)).numpy()
    for image, result, row in zip(images, erased, plan, strict=True):
        top, bottom, left, right = row[:4].astype(int)
        expected = image.copy()
        expected[top:bottom, left:right] = row[4:]
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("changes", [{"mixup": -1}, {"cutmix": float("inf")}, {"mixup": float("nan")}])
def test_impossible_strengths_are_refused(changes):
    with pytest.raises(InputError, match="0 or more"):
        Mixing(**changes)


def make_split(count=10):
    rng = np.random.default_rng(0)
    return Split(
        images=rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
        labels=np.arange(count, dtype=np.int32) % CLASSES,
        files=("",) * count,
        sha256=("",) * count,
    )


def batches(count, **options):
    data = training_batches(
        make_split(), **{"batch_size": 4, "augmentation": PRESETS["none"], "seed": 0, "num_classes": CLASSES, **options}
    )
    return list(itertools.islice(data.as_numpy_iterator(), count))


def test_batches_are_mixed_alike_in_every_run_and_otherwise_in_every_epoch():
    options = {"mixing": Mixing(mixup=0.4, cutmix=1.0), "augmentation": Augmentation(shift=0.1, erase=0.5)}
    first, again = batches(6, **options), batches(6, **options)
    for one, other in zip(first, again, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)
    from_second_epoch = batches(3, **options, first_epoch=1)
    for one, other in zip(first[3:], from_second_epoch, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    assert not np.array_equal(first[0][0], first[3][0])


def test_soft_labels_without_mixing_are_one_hot():
    ((images, labels),) = batches(1)
    ((plain_images, numbers),) = batches(1, num_classes=None)
    np.testing.assert_array_equal(images, plain_images)
    np.testing.assert_array_equal(labels, np.eye(CLASSES)[numbers])


def test_a_mixed_label_weighs_what_its_parts_weigh():
    weights = np.array([1, 2, 4], np.float32)
    for _, labels, weighed in batches(3, mixing=Mixing(mixup=1.0), class_weights=weights):
        np.testing.assert_allclose(weighed, labels @ weights, rtol=1e-6)
