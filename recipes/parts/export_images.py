"""The images that other formats are made with and measured on: training images, and the whole test split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recipes.parts.dataset import materialise
from recipes.parts.finished_run import FinishedRun
from recipes.parts.ordered import Progress
from recipes.parts.recorded import SplitRecord, scan_recorded
from recipes.parts.scan import scan
from recipes.parts.sources import SplitName, open_source
from zoo.errors import InputError

REPRESENTATIVE = 200
"""How many training images, at most, the ranges of int8 activations are taken from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportImages:
    """Decoded images, uint8 `(n, size, size, 3)`; there may be none."""

    representative: np.ndarray
    """Training images."""
    test: np.ndarray
    labels: np.ndarray
    """Classes of `test`, int `(n,)`."""
    notices: tuple[str, ...]
    """What the user should know of them."""


NO_IMAGES = ExportImages(
    representative=np.zeros(0, np.uint8), test=np.zeros(0, np.uint8), labels=np.zeros(0, np.int32), notices=()
)


def find_images(
    finished: FinishedRun, records: Sequence[SplitRecord], *, progress: Progress | None = None
) -> ExportImages:
    """Find the test images of a run again, and training images, spread evenly over those that it recorded.

    Args:
        finished: The run; `data` says where the images are.
        records: What it recorded.
        progress: Is told of every file.

    Returns:
        The images that are as they were; none, with a notice that says why, if all are gone.
    """
    train = [record for record in records if record.split == "train"]
    many = len(train) > REPRESENTATIVE
    chosen = [train[index * len(train) // REPRESENTATIVE] for index in range(REPRESENTATIVE)] if many else train
    wanted = [*chosen, *(record for record in records if record.split == "test")]
    splits: list[SplitName] = ["train", "test"]
    try:
        source = open_source(finished.data, for_training=False)
        found = scan_recorded(source, wanted, finished.classes, splits=splits, progress=progress)
        data = materialise(found, size=finished.image_size, resize=finished.resize)
    except InputError as error:
        return replace(NO_IMAGES, notices=(str(error),))
    return ExportImages(
        representative=data.train.images,
        test=data.test.images,
        labels=data.test.labels,
        notices=(*found.remarks, *data.notices[len(found.notices) :]),
    )


def draw_records(data: str, *, progress: Progress | None = None) -> tuple[SplitRecord, ...]:
    """Put images into splits for a model that comes without a record; missing splits are drawn as for training.

    Args:
        data: As `open_source` takes it.
        progress: Is told of every file.

    Raises:
        InputError: If there are no such images, or too few.
    """
    found = scan(open_source(data), seed=0, progress=progress)
    return tuple(
        SplitRecord(
            file=image.file, sha256=image.sha256, class_name=found.classes[image.label], split=image.split or "train"
        )
        for image in found.images
    )
