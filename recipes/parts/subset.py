"""Train on fewer images than there are."""

import hashlib
import math
from collections import Counter, defaultdict
from dataclasses import replace

from recipes.parts.scan import Scan, ScannedImage
from recipes.parts.sources import SPLITS, SplitName
from zoo.errors import InputError


def take_training_images(scan: Scan, number: int, *, seed: int) -> Scan:
    """Leave out training images, and as large a part of the validation images.

    Which ones stay depends on the seed and on their contents alone: fewer images are some of those of a larger
    number. Every class loses the same part, within one image, and keeps one or more.

    Args:
        scan: What there is.
        number: How many training images stay.
        seed: Another seed takes others.

    Returns:
        The scan, with a remark; test images are as they were.

    Raises:
        InputError: If there are fewer training images, or fewer would stay than there are classes.
    """
    there = scan.count("train")
    if not len(scan.classes) <= number <= there:
        raise InputError(
            f"--train-images is a number from {len(scan.classes):,}, one a class, to {there:,}, all there are. "
            f"Received: {number}"
        )
    counts = Counter(image.split for image in scan.images)
    wanted = {"train": number, "validation": math.ceil(counts["validation"] * number / there), "test": counts["test"]}
    kept = {image.file for split in SPLITS for image in _first(scan, split, seed)[: wanted[split]]}
    part = replace(scan, images=tuple(image for image in scan.images if image.file in kept))
    remark = f"of {there:,} training images {number:,} are used, spread evenly over the classes"
    return replace(part, remarks=(*scan.remarks, remark))


def _first(scan: Scan, split: SplitName, seed: int) -> list[ScannedImage]:
    """The images of a split in such an order that any first part of it has the same part of every class."""
    classes: dict[int, list[ScannedImage]] = defaultdict(list)
    for image in scan.images:
        if image.split == split:
            classes[image.label].append(image)
    places: list[tuple[float, int, ScannedImage]] = []
    for label, images in classes.items():
        images.sort(key=lambda image: hashlib.sha256(f"{seed} {image.sha256}".encode()).digest())
        places += [(rank / len(images), label, image) for rank, image in enumerate(images)]
    return [image for _, _, image in sorted(places, key=lambda place: place[:2])]
