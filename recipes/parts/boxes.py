"""Rectangles of whole pixels, one for each image: what random erasing and CutMix cut out."""

import numpy as np
import tensorflow as tf


def cut_boxes(
    center_y: np.ndarray, center_x: np.ndarray, sides_y: np.ndarray, sides_x: np.ndarray, *, height: int, width: int
) -> np.ndarray:
    """Rectangles around centres, without what would stand over the edge of the image.

    Args:
        center_y: `(n,)`, fractions of the height, in [0, 1).
        center_x: `(n,)`, fractions of the width, in [0, 1).
        sides_y: `(n,)`, heights of the rectangles, pixels.
        sides_x: `(n,)`, their widths, pixels.
        height: Of the images, pixels.
        width: Of the images, pixels.

    Returns:
        float32 `(n, 4)` of whole numbers: the first row, the row behind the last, the same for columns.
    """

    def ends(center: np.ndarray, side: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        first = np.rint(center * length - side / 2)
        return np.clip(first, 0, length), np.clip(first + np.rint(side), 0, length)

    return np.stack([*ends(center_y, sides_y, height), *ends(center_x, sides_x, width)], axis=1).astype(np.float32)


def inside(boxes: tf.Tensor, *, height: int, width: int) -> tf.Tensor:
    """Which pixels are in each image's rectangle.

    Args:
        boxes: float32 `(batch, 4)`, as `cut_boxes` gives them.
        height: Of the images, pixels.
        width: Of the images, pixels.

    Returns:
        bool `(batch, height, width, 1)`.
    """
    rows, columns = tf.range(float(height))[None, :, None, None], tf.range(float(width))[None, None, :, None]
    top, bottom, left, right = (boxes[:, index, None, None, None] for index in range(4))
    return (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right)
