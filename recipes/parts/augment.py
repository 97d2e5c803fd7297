"""Random changes of training images, the same for the same seed, epoch and example wherever they are made."""

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
    """Stretch or squeeze the distance of every pixel from the image's mean by up to this fraction."""
    horizontal_flip: bool = False
    """Mirror every second image, on average, left to right; where that keeps the label."""
    vertical_flip: bool = False
    """Mirror every second image, on average, top to bottom; for images without an up and a down."""

    def __post_init__(self) -> None:
        most = {"shift": 1, "zoom": 10, "rotate": 180, "brightness": 1, "contrast": 1}
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


PRESETS = {
    "none": Augmentation(),
    "light": Augmentation(shift=0.05, zoom=0.1, rotate=5, brightness=0.05, contrast=0.1),
    "medium": Augmentation(shift=0.1, zoom=0.2, rotate=12, brightness=0.1, contrast=0.25),
    "strong": Augmentation(shift=0.15, zoom=0.35, rotate=25, brightness=0.2, contrast=0.5),
}
"""None of them flips, as that changes the label of digits, letters and signs, and none turns a 6 into a 9."""

# Random numbers that one image takes in one epoch, in this order, whether they are used or not: so switching
# one change on does not draw others anew.
_DRAWS = (
    "shift_x",
    "shift_y",
    "zoom",
    "rotate",
    "brightness",
    "contrast",
    "horizontal_flip",
    "vertical_flip",
)


def draw(examples: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draw all random numbers of an epoch.

    Args:
        examples: How many examples there are.
        seed: Not negative.
        epoch: Counted from 0.

    Returns:
        float32 `(examples, 8)`, in [-1, 1). A row depends on seed, epoch and its own index alone.
    """
    generator = np.random.default_rng([seed, epoch, 1])
    return generator.random((examples, len(_DRAWS)), np.float32) * 2 - 1


def augment(images: tf.Tensor, drawn: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Change a batch of images.

    Args:
        images: float32 `(batch, height, width, 3)`, from 0 to 255.
        drawn: float32 `(batch, 8)`, rows of what `draw` gives.
        augmentation: How much they may change.

    Returns:
        float32, of the same shape and range.
    """
    numbers = dict(zip(_DRAWS, tf.unstack(drawn, num=len(_DRAWS), axis=1), strict=True))
    if augmentation.moves_pixels:
        height, width = images.shape[1:3]
        images = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=_transforms(numbers, augmentation, height, width),
            output_shape=(height, width),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
    if augmentation.changes_light:
        added = 255 * augmentation.brightness * numbers["brightness"][:, None, None, None]
        factor = 1 + augmentation.contrast * numbers["contrast"][:, None, None, None]
        mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
        images = tf.clip_by_value((images - mean) * factor + mean + added, 0.0, 255.0)
    return images


def _transforms(numbers: dict[str, tf.Tensor], augmentation: Augmentation, height: int, width: int) -> tf.Tensor:
    """The matrices, as 8 numbers each, that take a place in the result to a place in the image."""
    angle = augmentation.rotate * (np.pi / 180) * numbers["rotate"]
    shrink = tf.exp(-np.log1p(augmentation.zoom) * numbers["zoom"])
    cosine, sine = tf.cos(angle) * shrink, tf.sin(angle) * shrink
    mirror_x = tf.where(numbers["horizontal_flip"] < 0, -1.0, 1.0) if augmentation.horizontal_flip else 1.0
    mirror_y = tf.where(numbers["vertical_flip"] < 0, -1.0, 1.0) if augmentation.vertical_flip else 1.0
    xx, xy = cosine * mirror_x, -sine * mirror_y
    yx, yy = sine * mirror_x, cosine * mirror_y
    # Everything turns about the centre.
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x0 = center_x - xx * center_x - xy * center_y + augmentation.shift * width * numbers["shift_x"]
    y0 = center_y - yx * center_x - yy * center_y + augmentation.shift * height * numbers["shift_y"]
    zero = tf.zeros_like(angle)
    return tf.stack([xx, xy, x0, yx, yy, y0, zero, zero], axis=1)
