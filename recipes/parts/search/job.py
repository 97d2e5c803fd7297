"""What a search is, in full: all that its workers need to know, kept in its folder as `search.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recipes.parts.search.records import Objective

EngineName = Literal["random", "bayesian", "hyperband", "grid"]
Recipe = Literal["train", "finetune"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search, with everything settled that was left open."""

    space: str
    """`architecture`, `finetune`, or the absolute path of a file with one."""
    recipe: Recipe
    """The script that trains what the space describes."""
    data: str
    model: str
    """A model of the zoo or the absolute path of a spec's JSON file; for fine-tuning the name of a backbone."""
    weights: str
    """Of the backbone; not used in training from scratch."""
    plugin: tuple[Path, ...]
    engine: EngineName
    objective: Objective
    seed: int
    max_trials: int
    max_params: int | None
    max_multiply_adds: int | None
    max_latency_ms: float | None
    max_trial_seconds: float | None
    max_total_seconds: float | None
    fix: dict[str, Any]
    """Hyperparameters that are not searched, and their values."""
    image_size: int
    batch_size: int
    resize: Literal["stretch", "crop", "pad"]
    augmentation: Literal["none", "light", "medium", "strong"]
    """Of what does not search it."""
    horizontal_flip: bool
    bad_images: Literal["skip", "error"]
    epochs: int
    """Of a trial from scratch, at most; for fine-tuning the unit in which the default strategy counts."""
    final_epochs: int
    """Of a final run from scratch."""
    num_classes: int = 0
    memory_budget: float
    """GB of images and activations in the memory of a worker."""
    cache: bool
    cache_limit: float
    views: int
    """Versions of each training image that are kept for a strength of augmentation."""
    deterministic: bool | None
