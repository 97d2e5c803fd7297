"""Random changes of training images, the same for the same seed, epoch and example wherever they are made."""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much a training image may change; nothing by default.

    Every change is drawn afresh for each example and epoch, evenly between its extremes, most of them in both
    directions. What comes in over the edge of the image is its mirror image.
    """

    shift: float = 0.0
    """Move by up to this fraction of the image's side, along each axis."""
    zoom: float = 0.0
    """Enlarge or shrink by a factor of up to 1 + zoom."""
    rotate: float = 0.0
    """Turn by up to this many degrees."""
    brightness: float = 0.0
    """Add or take up to this fraction of the range from black to white."""
    contrast: float = 0.0
    """Stretch or squeeze the distance of every level from the image's mean by up to this fraction."""
    horizontal_flip: bool = False
    """Mirror every second image, on average, left to right; where that keeps the label."""
    vertical_flip: bool = False
    """Mirror every second image, on average, top to bottom; for images without an up and a down."""
    erase: float = 0.0
    """Paint over a rectangle of this fraction of the images; see `recipes.parts.erasing`."""

    def __post_init__(self) -> None:
        most = {"shift": 1, "zoom": 10, "rotate": 180, "brightness": 1, "contrast": 1, "erase": 1}
        for name, limit in most.items():
            if not 0 <= getattr(self, name) <= limit:
                raise InputError(f"{name} is a number from 0 to {limit}. Received: {name}={getattr(self, name)}")

    @property
    def moves_pixels(self) -> bool:
        """Whether it changes where things are."""
        return bool(self.shift or self.zoom or self.rotate or self.horizontal_flip or self.vertical_flip)

    @property
    def changes_light(self) -> bool:
        """Whether it changes how bright things are."""
        return bool(self.brightness or self.contrast)

    @property
    def changes_nothing(self) -> bool:
        """Whether images stay as they are."""
        return not (self.moves_pixels or self.changes_light or self.erase)


PRESETS = {
    "none": Augmentation(),
    "light": Augmentation(shift=0.05, zoom=0.1, rotate=5, brightness=0.05, contrast=0.1),
    "medium": Augmentation(shift=0.1, zoom=0.2, rotate=12, brightness=0.1, contrast=0.25),
    "strong": Augmentation(shift=0.15, zoom=0.35, rotate=25, brightness=0.2, contrast=0.5),
}
"""None of them flips, as that changes the label of digits, letters and signs, and none turns a 6 into a 9."""

# Random numbers that one image takes in one epoch, whether they are used or not: so switching one change on
# does not draw the others anew.
_DRAWS = ("shift_x", "shift_y", "zoom", "rotate", "brightness", "contrast", "horizontal_flip", "vertical_flip")


def draw(examples: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draw all random numbers of an epoch.

    Args:
        examples: How many examples there are.
        seed: Not negative.
        epoch: Counted from 0.

    Returns:
        float64 `(examples, 8)`, in [-1, 1). A row depends on seed, epoch and its own index alone.
    """
    generator = np.random.default_rng([seed, epoch, 1])
    return generator.random((examples, len(_DRAWS))) * 2 - 1


def plan_changes(drawn: np.ndarray, augmentation: Augmentation, *, height: int, width: int) -> np.ndarray:
    """Turn random numbers into what is done to each image.

    Here and not in a TensorFlow op per batch, because there the cosine of a number depends in its last bit on
    where in the batch it stands.

    Args:
        drawn: What `draw` gives.
        augmentation: How much images may change.
        height: Of the images, in pixels.
        width: Of the images, in pixels.

    Returns:
        float32 `(examples, 10)`: the first two rows of the matrix that takes a place in the result to a place
        in the image (x before y), two zeros, the factor of contrast, and the levels of brightness to add.
    """
    numbers = dict(zip(_DRAWS, drawn.T, strict=True))
    angle = np.deg2rad(augmentation.rotate) * numbers["rotate"]
    shrink = (1 + augmentation.zoom) ** -numbers["zoom"]
    mirror_x = np.where(augmentation.horizontal_flip & (numbers["horizontal_flip"] < 0), -1, 1)
    mirror_y = np.where(augmentation.vertical_flip & (numbers["vertical_flip"] < 0), -1, 1)
    xx, xy = shrink * np.cos(angle) * mirror_x, -shrink * np.sin(angle) * mirror_y
    yx, yy = shrink * np.sin(angle) * mirror_x, shrink * np.cos(angle) * mirror_y
    # Everything turns about the centre.
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x0 = center_x - xx * center_x - xy * center_y + augmentation.shift * width * numbers["shift_x"]
    y0 = center_y - yx * center_x - yy * center_y + augmentation.shift * height * numbers["shift_y"]
    none = np.zeros_like(angle)
    contrast = 1 + augmentation.contrast * numbers["contrast"]
    brightness = 255 * augmentation.brightness * numbers["brightness"]
    return np.stack([xx, xy, x0, yx, yy, y0, none, none, contrast, brightness], axis=1).astype(np.float32)


def augment(images: tf.Tensor, changes: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Change a batch of images. What becomes of one does not depend on the others.

    Args:
        images: uint8 `(batch, height, width, 3)`.
        changes: float32 `(batch, 10)`, rows of what `plan_changes` gives.
        augmentation: How much they may change.

    Returns:
        float32 `(batch, height, width, 3)`, from 0 to 255.
    """
    changed = tf.cast(images, tf.float32)
    if augmentation.moves_pixels:
        changed = tf.raw_ops.ImageProjectiveTransformV3(
            images=changed,
            transforms=changes[:, :8],
            output_shape=images.shape[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
    if augmentation.changes_light:
        # A sum of whole numbers, as a sum of fractions depends in its last bit on the order of adding.
        total = tf.reduce_sum(tf.cast(images, tf.int32), axis=(1, 2, 3), keepdims=True)
        mean = tf.cast(total, tf.float32) / math.prod(images.shape[1:])
        contrast, brightness = (changes[:, column, None, None, None] for column in (8, 9))
        changed = tf.clip_by_value((changed - mean) * contrast + (mean + brightness), 0.0, 255.0)
    return changed
