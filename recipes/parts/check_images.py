"""The images on which an export is compared with the model that was trained: its own, and all that is awkward."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from recipes.parts.finished_run import FinishedRun
from recipes.parts.ordered import Progress
from recipes.parts.recorded import SplitRecord, scan_recorded
from recipes.parts.sources import open_source
from zoo.errors import InputError

LEAST = 64
"""How many images an export is compared on."""

_OWN = 48
_OWN_BYTES = 16_000_000  # they stay with the export, so that it can be checked anywhere


@dataclass(frozen=True, kw_only=True)
class CheckImages:
    """Encoded images."""

    encoded: tuple[bytes, ...]
    """`LEAST` of them or more."""
    own: int
    """How many of them, the first ones, are validation images of the run."""


def gather_check_images(
    finished: FinishedRun, records: Sequence[SplitRecord], *, progress: Progress | None = None
) -> CheckImages:
    """Gather images to compare on: validation images of the run if they can still be found, and made-up ones.

    Args:
        finished: The run.
        records: What it recorded.
        progress: Is told of every validation image.

    Returns:
        The images.
    """
    own = tuple(_own_images(finished, records, progress))
    awkward = tuple(awkward_images(finished.image_size))
    missing = LEAST - len(own) - len(awkward)
    photos = (encode(photo(120 + 7 * seed, 160, seed), "JPEG") for seed in range(missing))
    return CheckImages(encoded=(*own, *awkward, *photos), own=len(own))


def photo(height: int, width: int, seed: int) -> Image.Image:
    """A made-up photo: soft shapes of all colours, with some grain.

    Args:
        height: Pixels.
        width: Pixels.
        seed: Of the random numbers.
    """
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(0, 256, (5, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grain = generator.integers(-6, 7, (min(height, 512), min(width, 512), 3))
    repeated = np.tile(grain, (-(-height // 512), -(-width // 512), 1))[:height, :width]
    return Image.fromarray(np.clip(np.asarray(shapes) + repeated, 0, 255).astype(np.uint8))


def awkward_images(size: int) -> list[bytes]:
    """Encoded images of every kind that the decoder knows, and of unusual sizes.

    Args:
        size: Pixels a side of what the model takes; one image has just this size.
    """
    usual = photo(90, 130, 1)
    transparent = usual.copy()
    transparent.putalpha(photo(90, 130, 2).convert("L"))
    deep = Image.fromarray(np.asarray(usual.convert("L"), np.uint16) * 257)
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (photo(1, 1, 3), "PNG", {}),
        (photo(2, 300, 4), "PNG", {}),
        (photo(300, 2, 5), "PNG", {}),
        (photo(2000, 3000, 6), "JPEG", {"quality": 70}),
        (photo(size, size, 7), "PNG", {}),
        (usual, "JPEG", {"progressive": True}),
        (usual.convert("L"), "JPEG", {}),
        (usual.convert("CMYK"), "JPEG", {}),
        (usual.convert("L"), "PNG", {}),
        (usual.convert("1"), "PNG", {}),
        (usual.convert("P"), "PNG", {}),
        (deep, "PNG", {}),
        (transparent, "PNG", {}),
        (usual, "BMP", {}),
        (usual.convert("P"), "GIF", {}),
        (usual, "WEBP", {}),
        (transparent, "WEBP", {"lossless": True}),
    ]
    return [encode(image, kind, **options) for image, kind, options in made]


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Encode an image.

    Args:
        image: The image.
        kind: Pillow's name of the format.
        options: Of Pillow for this format.
    """
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    return encoded.getvalue()


def _own_images(finished: FinishedRun, records: Sequence[SplitRecord], progress: Progress | None) -> Iterable[bytes]:
    """Validation images, spread evenly over those that the run recorded; none if they are gone."""
    recorded = [record for record in records if record.split == "validation"]
    chosen = [recorded[index * len(recorded) // _OWN] for index in range(_OWN)] if len(recorded) > _OWN else recorded
    if not chosen:
        return
    try:
        source = open_source(finished.data, for_training=False)
        found = scan_recorded(source, chosen, finished.classes, splits=["validation"], progress=progress)
    except InputError:
        return
    files = {image.file for image in found.images}
    space = _OWN_BYTES
    for example in source:
        if example.file in files and len(encoded := example.read()) <= space:
            space -= len(encoded)
            yield encoded
