"""Rounds of Hyperband: a trial that goes on where another one stopped, optimizer and learning rate included."""

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from recipes.parts.checkpoint import FILE, Checkpoint
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.engine import HYPERBAND_EPOCHS
from recipes.parts.stages import Stage


def until_epoch(values: Mapping[str, Any], stages: Sequence[Stage]) -> int | None:
    """How far a trial is trained in its round.

    Args:
        values: Of the trial; `tuner/epochs` stands for a share of its epochs.
        stages: Of the candidate.

    Returns:
        Epochs of all stages together; None for all.
    """
    share = values.get("tuner/epochs", HYPERBAND_EPOCHS) / HYPERBAND_EPOCHS
    return None if share >= 1 else max(1, math.ceil(share * sum(stage.epochs for stage in stages)))


def take_over(values: Mapping[str, Any], folder: Path) -> tuple[Path | None, Checkpoint | None]:
    """Go on from where the trial of the round before stopped.

    Args:
        values: Of the trial.
        folder: Of the trial. Those of others are beside it.

    Returns:
        Where the trial keeps its state, and what it begins with. Without rounds it keeps none. One whose predecessor
        left nothing begins anew.
    """
    if "tuner/epochs" not in values:
        return None, None
    path = folder / FILE
    before = values.get("tuner/trial_id")
    if before is not None and not path.exists():
        # A copy, as a round that adds no epoch would leave none of its own.
        with suppress(FileNotFoundError), complete_or_absent(path) as beside:
            shutil.copyfile(folder.parent / before / FILE, beside)
    return path, Checkpoint.load(path)
