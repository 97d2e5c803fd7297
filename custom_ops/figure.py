"""Draws what each operator does to the same picture: `python -m custom_ops.figure PICTURE [--output FILE]`.

The picture is made grey and square, then pooled three times with windows of 2, so that the differences add up. A
second row starts from the picture with a twentieth of its pixels set to black or white: averages smear such noise,
the maximum collects it, and the median removes it.

Without a picture it draws a feature map of its own: an edge, a disc, stripes and a gradient.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from custom_ops import ops

Array = Any
ROUNDS = 3
# For separable pooling, three quarters and one quarter: the picture leans to the lower right.
WEIGHTS = np.log([[0.75], [0.25]]).astype("float32")

OPERATORS: dict[str, Callable[[Array], Array]] = {
    "max": ops.max_pool2d,
    "avg": ops.avg_pool2d,
    "lp, p = 3": lambda x: ops.lp_pool2d(x, 3.0) / 4 ** (1 / 3),
    "gem, p = 3": lambda x: ops.gem_pool2d(x, 3.0),
    "soft, beta = 8": lambda x: ops.soft_pool2d(x, beta=8.0),
    "lip, logits -8x": lambda x: ops.lip_pool2d(x, -8 * x),
    "mixed, 0.5": lambda x: ops.mixed_pool2d(x, 0.5),
    "gated": lambda x: ops.gated_pool2d(x, np.array([[4.0, -4.0], [4.0, -4.0]], "float32")),
    "stochastic": lambda x: ops.stochastic_pool2d(x, 0, True),
    "blur 3x3": lambda x: ops.blur_pool2d(x, 3, 2, "same"),
    "max_blur": lambda x: ops.max_blur_pool2d(x, padding="same"),
    "separable": lambda x: ops.separable_pool2d(x, WEIGHTS, WEIGHTS),
    "median": ops.median_pool2d,
}


def own_picture(size: int = 256) -> Array:
    """An edge, a disc, stripes of growing frequency and a gradient, in [0, 1]."""
    y, x = np.mgrid[0:size, 0:size] / size
    picture = 0.6 * y
    picture[x > 0.55] = 0.15
    picture[(x - 0.28) ** 2 + (y - 0.3) ** 2 < 0.04] = 1.0
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * (4 + 40 * x) * x * 3)
    picture[y > 0.7] = stripes[y > 0.7]
    return picture.astype("float32")


def read_picture(path: Path, size: int = 256) -> Array:
    """A square of the picture's middle, grey, in [0, 1]."""
    image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    side = min(image.shape[:2])
    image = tf.image.resize_with_crop_or_pad(image, side, side)
    image = tf.image.resize(tf.cast(image, tf.float32), (size, size), antialias=True)
    return tf.image.rgb_to_grayscale(image)[..., 0].numpy() / 255


def with_noise(picture: Array) -> Array:
    """The picture with a twentieth of its pixels black or white."""
    rng = np.random.default_rng(0)
    hit = rng.uniform(size=picture.shape)
    return np.where(hit < 0.025, 0.0, np.where(hit > 0.975, 1.0, picture)).astype("float32")


def draw(picture: Array, output: Path) -> None:
    """Writes the figure."""
    rows = [picture, with_noise(picture)]
    figure, axes = plt.subplots(len(rows), len(OPERATORS) + 1, figsize=(1.35 * (len(OPERATORS) + 1), 3.1))
    for start, row in zip(rows, axes, strict=True):
        row[0].imshow(start, cmap="gray", vmin=0, vmax=1)
        for axis, operator in zip(row[1:], OPERATORS.values(), strict=True):
            y = tf.constant(start[None, :, :, None])
            for _ in range(ROUNDS):
                y = operator(y)
            axis.imshow(y[0, :, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axis, title in zip(axes[0], ["input", *OPERATORS], strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes.ravel():
        axis.set_axis_off()
    figure.tight_layout(pad=0.3)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main() -> None:
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, help="a JPEG or PNG file; its own picture without one")
    parser.add_argument("--output", type=Path, default=Path("pooling.png"), help="file to write (pooling.png)")
    arguments = parser.parse_args()
    plt.switch_backend("agg")
    draw(own_picture() if arguments.picture is None else read_picture(arguments.picture), arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
