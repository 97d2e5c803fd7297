"""What augmentation does to an image, and that it does the same wherever it is done."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recipes.parts.augment import PRESETS, Augmentation, augment, draw, plan_changes
from zoo.errors import InputError

COLUMNS = ("shift_x", "shift_y", "zoom", "rotate", "brightness", "contrast", "horizontal_flip", "vertical_flip")


def drawn(**numbers):
    """Random numbers of one image, all 0 except those given."""
    return np.array([[numbers.get(column, 0.0) for column in COLUMNS]])


def picture(size=16):
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)


def apply(images, numbers, augmentation):
    height, width = images.shape[1:3]
    changes = plan_changes(numbers, augmentation, height=height, width=width)
    return augment(tf.constant(images), changes, augmentation).numpy()


def changed(augmentation, image=None, **numbers):
    return apply(picture() if image is None else image, drawn(**numbers), augmentation)[0]


def test_none_changes_nothing():
    images = picture()
    result = apply(images, draw(1, seed=0, epoch=0), PRESETS["none"])
    assert result.dtype == np.float32
    assert np.array_equal(result, images)


@pytest.mark.parametrize(("number", "moved"), [(0.25, 2), (-0.5, -4), (1.0, 8)])
def test_shift_is_a_fraction_of_the_side(number, moved):
    image = picture()
    across = changed(Augmentation(shift=0.5), shift_x=number)
    down = changed(Augmentation(shift=0.5), shift_y=number)
    inside = slice(max(0, -moved), 16 - max(0, moved))
    source = slice(max(0, moved), 16 - max(0, -moved))
    np.testing.assert_allclose(across[:, inside], image[0][:, source], atol=1e-2)
    np.testing.assert_allclose(down[inside], image[0][source], atol=1e-2)


def test_what_comes_in_over_the_edge_is_the_mirror_image():
    image = picture()
    across = changed(Augmentation(shift=0.5), shift_x=0.25)
    np.testing.assert_allclose(across[:, 14:], image[0][:, [15, 14]], atol=1e-2)


@pytest.mark.parametrize("turn", [-1.0, 1.0])
def test_rotation_is_about_the_centre(turn):
    expected = np.rot90(picture()[0], k=int(turn))
    np.testing.assert_allclose(changed(Augmentation(rotate=90), rotate=turn), expected, atol=1e-2)


def test_zoom_is_a_factor_about_the_centre():
    disc = np.zeros((1, 64, 64, 3), np.uint8)
    y, x = np.mgrid[0:64, 0:64] - 31.5
    disc[0][np.hypot(x, y) < 10] = 255
    area = disc.sum()
    larger = changed(Augmentation(zoom=0.5), disc, zoom=1.0)
    smaller = changed(Augmentation(zoom=0.5), disc, zoom=-1.0)
    assert larger.sum() / area == pytest.approx(1.5**2, rel=0.02)
    assert smaller.sum() / area == pytest.approx(1.5**-2, rel=0.02)
    for image in (larger, smaller):
        np.testing.assert_allclose(image, image[::-1, ::-1], atol=1e-2)


@pytest.mark.parametrize(("field", "axis"), [("horizontal_flip", 1), ("vertical_flip", 0)])
def test_flips_are_exact_and_happen_to_half_of_the_images(field, axis):
    augmentation = Augmentation(**{field: True})
    image = picture(15)
    np.testing.assert_array_equal(changed(augmentation, image, **{field: -0.1}), np.flip(image[0], axis))
    np.testing.assert_array_equal(changed(augmentation, image, **{field: 0.1}), image[0])
    column = COLUMNS.index(field)
    assert 4_800 < (draw(10_000, seed=0, epoch=0)[:, column] < 0).sum() < 5_200


def test_flips_are_off_unless_asked_for():
    assert not any(preset.horizontal_flip or preset.vertical_flip for preset in PRESETS.values())


def test_all_moves_together_are_one_affine_map():
    """Against the map written out in NumPy: every place in the result looks at one place in the image."""
    size = 32
    y, x = np.mgrid[0:size, 0:size]
    ramp = (np.stack([x, y, x + y], -1)[np.newaxis] * 4).astype(np.uint8)
    augmentation = Augmentation(shift=0.1, zoom=0.2, rotate=30, horizontal_flip=True)
    numbers = {"shift_x": 0.5, "shift_y": -1.0, "zoom": 0.7, "rotate": 0.4, "horizontal_flip": -1.0}
    result = changed(augmentation, ramp, **numbers)
    angle, scale = np.deg2rad(30 * 0.4), 1.2**-0.7
    center = (size - 1) / 2
    column, row = -(x - center), y - center
    look_x = center + scale * (np.cos(angle) * column - np.sin(angle) * row) + 0.1 * size * 0.5
    look_y = center + scale * (np.sin(angle) * column + np.cos(angle) * row) - 0.1 * size
    inside = (look_x > 0) & (look_x < size - 1) & (look_y > 0) & (look_y < size - 1)
    assert inside.mean() > 0.7
    np.testing.assert_allclose(result[..., 0][inside], 4 * look_x[inside], atol=0.01)
    np.testing.assert_allclose(result[..., 1][inside], 4 * look_y[inside], atol=0.01)


def test_brightness_is_a_fraction_of_the_range():
    image = np.full((1, 4, 4, 3), 100, np.uint8)
    np.testing.assert_allclose(changed(Augmentation(brightness=0.2), image, brightness=0.5), 125.5)
    np.testing.assert_allclose(changed(Augmentation(brightness=1.0), image, brightness=-1.0), 0)
    np.testing.assert_allclose(changed(Augmentation(brightness=1.0), image, brightness=1.0), 255)


def test_contrast_is_about_the_mean():
    image = np.array([[[[90] * 3, [110] * 3]]], np.uint8)
    np.testing.assert_allclose(changed(Augmentation(contrast=0.5), image, contrast=1.0)[0, :, 0], [85, 115])
    np.testing.assert_allclose(changed(Augmentation(contrast=0.5), image, contrast=-1.0)[0, :, 0], [95, 105])


def test_a_row_of_numbers_depends_on_seed_epoch_and_index_alone():
    numbers = draw(100, seed=3, epoch=5)
    assert numbers.shape == (100, len(COLUMNS))
    assert -1 <= numbers.min() < -0.95
    assert 0.95 < numbers.max() < 1
    np.testing.assert_array_equal(draw(17, seed=3, epoch=5), numbers[:17])
    assert not np.array_equal(draw(100, seed=3, epoch=6), numbers)
    assert not np.array_equal(draw(100, seed=4, epoch=5), numbers)
    # Columns and rows are not tied to one another.
    assert np.abs(np.corrcoef(draw(20_000, seed=0, epoch=0).T) - np.eye(len(COLUMNS))).max() < 0.03


@pytest.mark.parametrize("name", PRESETS)
def test_an_image_is_changed_alike_alone_and_in_any_company(name):
    preset = dataclasses.replace(PRESETS[name], horizontal_flip=True)
    images = np.random.default_rng(1).integers(0, 256, (37, 24, 24, 3), np.uint8)
    changes = plan_changes(draw(37, seed=0, epoch=0), preset, height=24, width=24)
    together = augment(images, changes, preset).numpy()
    for size in (1, 2, 16):
        parts = [augment(images[i : i + size], changes[i : i + size], preset).numpy() for i in range(0, 37, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    assert together.min() >= 0
    assert together.max() <= 255


RECIPE = """
import hashlib
import numpy as np
from recipes.parts.augment import PRESETS, augment, draw, plan_changes
images = (np.arange(5 * 24 * 24 * 3) % 251).reshape(5, 24, 24, 3).astype(np.uint8)
changes = plan_changes(draw(5, seed=7, epoch=2), PRESETS["strong"], height=24, width=24)
digest = hashlib.sha256(augment(images, changes, PRESETS["strong"]).numpy().tobytes()).hexdigest()
"""


@pytest.mark.slow
def test_another_process_changes_an_image_alike():
    here = {}
    exec(RECIPE, here)
    command = [sys.executable, "-c", RECIPE + "print(digest)"]
    there = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert there.strip() == here["digest"]


def test_stronger_presets_change_more():
    fields = [dataclasses.astuple(PRESETS[name])[:5] for name in ("none", "light", "medium", "strong")]
    for weak, strong in itertools.pairwise(fields):
        assert all(low < high for low, high in zip(weak, strong, strict=True))


@pytest.mark.parametrize(
    ("field", "value"),
    [("shift", -0.1), ("shift", 1.5), ("zoom", -1), ("rotate", 181), ("brightness", 2), ("contrast", float("nan"))],
)
def test_what_makes_no_sense_is_refused(field, value):
    with pytest.raises(InputError, match=f"{field} is a number from 0 to .* Received: {field}="):
        Augmentation(**{field: value})
