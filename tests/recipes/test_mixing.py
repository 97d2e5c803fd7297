"""Mixup, CutMix and random erasing, against their formulas in plain NumPy."""

import itertools
from dataclasses import replace

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


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (3, 3), (4, 4), (5, 4), (7, 7)])
def test_feature_maps_of_any_size_are_mixed(size):
    """What frozen layers say of images is small, and of any range."""
    height, width = size
    rng = np.random.default_rng(0)
    maps, labels = rng.normal(size=(200, height, width, 6)).astype("f4"), make_batch(200)[1]
    plan = plan_mixing(200, Mixing(cutmix=1.0), height=height, width=width, seed=0, epoch=0)
    mixed_maps, mixed_labels = mixed(maps, labels, plan)
    own = np.isclose(mixed_maps, maps).all(axis=-1)  # which places still are the example's own
    other = np.isclose(mixed_maps, np.roll(maps, 1, axis=0)).all(axis=-1)
    if height * width > 1:
        assert (own ^ other).all()
        share = own.mean(axis=(1, 2))
        # Of Beta(1, 1), less what stands over the edge: all kinds of shares occur.
        assert len(np.unique(share)) > min(height * width, 5) / 2
    else:
        share = plan[:, 0]
        assert abs(share.mean() - 0.5) < 0.06
        expected = share[:, None, None, None] * maps + (1 - share)[:, None, None, None] * np.roll(maps, 1, axis=0)
        np.testing.assert_allclose(mixed_maps, expected, atol=1e-6)
    expected = share[:, None] * labels + (1 - share)[:, None] * np.roll(labels, 1, axis=0)
    np.testing.assert_allclose(mixed_labels, expected, atol=1e-6)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(mixup=0.4, cutmix=1.0)])
def test_pooled_features_are_mixed_as_mixup_does(mixing):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(300, 6)).astype("f4"), make_batch(300)[1]
    plan = plan_mixing(300, mixing, height=1, width=1, seed=0, epoch=0)
    mixed_features, mixed_labels = mixed(features, labels, plan)
    share = plan[:, :1]
    np.testing.assert_allclose(mixed_features, share * features + (1 - share) * np.roll(features, 1, axis=0), atol=1e-6)
    np.testing.assert_allclose(mixed_labels, share * labels + (1 - share) * np.roll(labels, 1, axis=0), atol=1e-6)
    # Each example has the share that it would have on a map, where it is drawn for the same of the two.
    on_maps = plan_mixing(300, mixing, height=64, width=64, seed=0, epoch=0)
    np.testing.assert_array_equal(share[:, 0][on_maps[:, 0] < 1], on_maps[:, 0][on_maps[:, 0] < 1])
    assert ((share > 0) & (share < 1)).mean() > 0.95


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


@pytest.mark.parametrize("shape", [(6,), (3, 2, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_batches_of_activations_are_mixed(shape, dtype):
    activations = np.random.default_rng(0).normal(size=(10, *shape)).astype(dtype)
    split = replace(make_split(), images=activations)
    options = {"batch_size": 4, "augmentation": PRESETS["none"], "num_classes": CLASSES, "seed": 0}
    order = np.random.default_rng([0, 0, 0]).permutation(10)
    data = training_batches(split, mixing=Mixing(mixup=0.4, cutmix=1.0), **options)
    batch, labels = next(data.as_numpy_iterator())
    sides = dict(zip(("height", "width"), shape if len(shape) > 1 else (1, 1), strict=False))
    plan = plan_mixing(10, Mixing(mixup=0.4, cutmix=1.0), **sides, seed=0, epoch=0)[order[:4]]
    one_hot = np.eye(CLASSES, dtype="f4")[split.labels[order[:4]]]
    expected, expected_labels = mixed(activations[order[:4]].astype("f4"), one_hot, plan)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, expected, rtol=1e-6)
    np.testing.assert_allclose(labels, expected_labels, rtol=1e-6)


def test_a_mixed_label_weighs_what_its_parts_weigh():
    weights = np.array([1, 2, 4], np.float32)
    for _, labels, weighed in batches(3, mixing=Mixing(mixup=1.0), class_weights=weights):
        np.testing.assert_allclose(weighed, labels @ weights, rtol=1e-6)
