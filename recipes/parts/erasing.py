"""Random erasing: a rectangle of a training image is painted over, so that no single part decides.

Reference:
    - [Zhong et al., Random Erasing Data Augmentation](https://arxiv.org/abs/1708.04896)
"""

import numpy as np
import tensorflow as tf

from recipes.parts.boxes import cut_boxes, inside

AREA = (0.02, 0.4)
"""Least and most of the image that a rectangle takes, as in the paper; what would stand over the edge is left out."""
ASPECT = (0.3, 1 / 0.3)
"""Least and most of its height over its width."""


def plan_erasing(examples: int, probability: float, *, height: int, width: int, seed: int, epoch: int) -> np.ndarray:
    """Draw the rectangles of an epoch.

    Args:
        examples: How many examples there are.
        probability: That an image loses one, in [0, 1].
        height: Of the images, pixels.
        width: Of the images, pixels.
        seed: Not negative.
        epoch: Counted from 0.

    Returns:
        float32 `(examples, 7)`: the rectangle, as `recipes.parts.boxes.cut_boxes` gives it, empty for an image that
        stays whole, and the colour it is painted with, levels from 0 to 255. A row depends on seed, epoch and its own
        index alone.
    """
    drawn = np.random.default_rng([seed, epoch, 2]).random((examples, 8))
    chosen, area, aspect, center_y, center_x = drawn[:, :5].T
    pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * height * width * (chosen < probability)
    ratio = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect  # evenly in its logarithm: as often 2 : 1 as 1 : 2
    boxes = cut_boxes(center_y, center_x, np.sqrt(pixels * ratio), np.sqrt(pixels / ratio), height=height, width=width)
    return np.concatenate([boxes, np.floor(256 * drawn[:, 5:])], axis=1).astype(np.float32)


def erase(images: tf.Tensor, plan: tf.Tensor) -> tf.Tensor:
    """Paint over one rectangle of each image.

    Args:
        images: float32 `(batch, height, width, 3)`, from 0 to 255.
        plan: float32 `(batch, 7)`, rows of what `plan_erasing` gives.

    Returns:
        Images of the same shape.
    """
    height, width = images.shape[1:3]
    return tf.where(inside(plan[:, :4], height=height, width=width), plan[:, None, None, 4:], images)
