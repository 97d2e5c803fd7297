r"""Mixup and CutMix: training images that are partly one example and partly another, with labels to match.

For an example $(x, y)$, another one $(x', y')$ and $\lambda \sim \mathrm{Beta}(\alpha, \alpha)$, mixup trains on
$\lambda x + (1 - \lambda) x'$. CutMix puts a rectangle of $x'$ that takes $1 - \lambda$ of the area in its place in
$x$. Both train on the label $\lambda y + (1 - \lambda) y'$.

Where frozen layers have run before, what is mixed is not images but what these layers say of them, and the mix takes
place in the middle of the network, as in manifold mixup. A rectangle is one of the feature map then. Pooled features
have no places that a rectangle could cover; there CutMix mixes them in the proportion of its area, which is what
pooling makes of rectangles on average over their places.

Reference:
    - [Zhang et al., mixup: Beyond Empirical Risk Minimization](https://arxiv.org/abs/1710.09412)
    - [Yun et al., CutMix](https://arxiv.org/abs/1905.04899)
    - [Verma et al., Manifold Mixup](https://arxiv.org/abs/1806.05236)
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from recipes.parts.boxes import cut_boxes, inside
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How strongly examples are mixed; not at all by default. With both, each example is drawn one or the other."""

    mixup: float = 0.0
    """The alpha of mixup, 0 for none: 0.2 mixes little, 1 draws every share alike."""
    cutmix: float = 0.0
    """The alpha of CutMix, 0 for none; 1 in the paper."""

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is a number, 0 or more. Received: {name}={getattr(self, name)}")

    @property
    def changes_nothing(self) -> bool:
        """Whether examples stay as they are."""
        return not (self.mixup or self.cutmix)


def plan_mixing(examples: int, mixing: Mixing, *, height: int, width: int, seed: int, epoch: int) -> np.ndarray:
    """Draw how the examples of an epoch are mixed.

    Args:
        examples: How many there are.
        mixing: How strongly.
        height: Of the images, pixels, or of the feature maps; 1 for features without places.
        width: The same.
        seed: Not negative.
        epoch: Counted from 0.

    Returns:
        float32 `(examples, 5)`: the share of the example itself wherever no rectangle is cut, 1 for CutMix; and the
        rectangle, as `recipes.parts.boxes.cut_boxes` gives it, empty for mixup. Where there is one place only, nothing
        is cut: a rectangle would be all of an example or nothing.
    """
    generator = np.random.default_rng([seed, epoch, 3])
    # Of two that are both wanted, each has half of the examples.
    by_mixup = generator.random(examples) < (mixing.mixup > 0) / (1 + (mixing.cutmix > 0))
    alpha = np.where(by_mixup, mixing.mixup, mixing.cutmix)
    share = generator.beta(alpha, alpha)
    center_y, center_x = generator.random((2, examples))
    whole = by_mixup | (height == width == 1)
    side = np.where(whole, 0, np.sqrt(1 - share))  # of a rectangle with the proportions of the image
    boxes = cut_boxes(center_y, center_x, side * height, side * width, height=height, width=width)
    return np.column_stack([np.where(whole, share, 1), boxes]).astype(np.float32)


def mix(images: tf.Tensor, labels: tf.Tensor, plan: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each example of a batch with the one before it, the first with the last.

    Args:
        images: float32 `(batch, height, width, channels)`, images or feature maps, or features `(batch, channels)`.
        labels: float32 `(batch, num_classes)`, each row a distribution, such as one-hot.
        plan: float32 `(batch, 5)`, rows of what `plan_mixing` gives for this height and width.

    Returns:
        Images and labels of the same shapes. What a label keeps of its own is the share of the pixels that the image
        keeps, also where a rectangle was cut at the edge.
    """
    if images.shape.rank == 2:
        maps, labels = mix(images[:, None, None, :], labels, plan)
        return maps[:, 0, 0, :], labels
    height, width = images.shape[1:3]
    cut = inside(plan[:, 1:], height=height, width=width)
    own = tf.where(cut, 0.0, plan[:, 0, None, None, None])  # of every pixel
    share = tf.reduce_mean(own, axis=(1, 2))
    return (
        own * images + (1 - own) * tf.roll(images, shift=1, axis=0),
        share * labels + (1 - share) * tf.roll(labels, shift=1, axis=0),
    )
