"""The one rule that chooses what the user left open, from the data."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What suits a data set."""

    image_size: int
    """Pixels a side."""
    batch_size: int
    epochs: int
    """Length of a stage, the unit that `recipes.parts.stages.plan_stages` counts in."""
    augmentation: Literal["none", "light", "medium"]
    """A preset of `recipes.parts.augment`."""
    reasons: dict[str, str]
    """For each of the fields above, one line that says what was chosen and why."""


def choose_defaults(
    *,
    train_images: int,
    num_classes: int,
    median_side: int,
    native_size: int,
    smallest_size: int,
    gpu: bool,
) -> Defaults:
    """Choose image size, batch size, epochs and augmentation.

    Args:
        train_images: Images to train on.
        num_classes: Classes that they show.
        median_side: Median over the images of their shorter side, in pixels.
        native_size: The size at which the backbone was trained, in pixels.
        smallest_size: The smallest that it takes, in pixels.
        gpu: Whether a GPU is there.
    """
    most = native_size if gpu else min(native_size, 160)
    wanted = 32 * round(median_side / 32)
    image_size = max(smallest_size, min(most, max(64, wanted)))
    batch_size = 32 if train_images < 10_000 else 64
    epochs = max(2, min(20, round(5_000 / train_images)))
    per_class = round(train_images / num_classes)
    augmentation: Literal["none", "light", "medium"]
    if median_side < 32:
        augmentation = "none"
        why = "no augmentation: it changes images below 32 px too much"
    else:
        augmentation = "medium" if per_class < 30 else "light"
        why = (
            f"{augmentation} augmentation: shifts, turns and changes of light, for about {per_class:,} images a class "
            "(medium below 30); no flips, which change some labels (--horizontal-flip)"
        )
    return Defaults(
        image_size=image_size,
        batch_size=batch_size,
        epochs=epochs,
        augmentation=augmentation,
        reasons={
            "image_size": f"image size {image_size}: the median shorter side, {median_side} px, to a multiple of 32, "
            f"from 64 to {most}" + ("" if gpu else " (without a GPU)"),
            "batch_size": f"batch size {batch_size}: 32 below 10,000 training images, 64 from there on",
            "epochs": f"stages are {epochs} epochs long, or a multiple: about 5,000 images, from 2 to 20 epochs",
            "augmentation": why,
        },
    )


def choose_training_defaults(
    *, train_images: int, median_side: int, native_size: int, output_stride: int, gpu: bool
) -> Defaults:
    """Choose the same for a network that begins with random weights.

    Args:
        train_images: Images to train on.
        median_side: Median over the images of their shorter side, in pixels.
        native_size: What the network was designed for, in pixels.
        output_stride: How many times smaller its last feature map is than its images.
        gpu: Whether a GPU is there.
    """
    least = 3 * output_stride
    # Networks for images of 32 pixels have more to see, and still enough to see it with, at 64.
    most = max(least, 64, native_size if gpu else min(native_size, 128))
    image_size = max(least, min(most, median_side))
    batch_size = 32 if train_images < 2_000 else 64
    epochs = max(12, min(60, round(30_000 / train_images)))
    return Defaults(
        image_size=image_size,
        batch_size=batch_size,
        epochs=epochs,
        augmentation="light",
        reasons={
            "image_size": f"image size {image_size}: the median shorter side is {median_side} px; from {least}, for a "
            f"feature map of 3 x 3 at the end, to {most}" + ("" if gpu else " (without a GPU)"),
            "batch_size": f"batch size {batch_size}: 32 below 2,000 training images, 64 from there on",
            "epochs": f"{epochs} epochs: about 30,000 images, from 12 to 60 epochs",
            "augmentation": "light augmentation: shifts, turns and changes of light; no flips, which change some "
            "labels (--horizontal-flip)",
        },
    )
