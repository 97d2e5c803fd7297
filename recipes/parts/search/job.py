"""What a search is, in full: all that its workers need to know, kept in its folder as `search.json`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recipes.parts.search.records import Objective

EngineName = Literal["random", "bayesian", "hyperband", "grid"]
Recipe = Literal["train", "finetune"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search, with everything settled that was left open. Fields of the names of flags are those of `zoo search`."""

    space: str
    """`architecture`, `finetune`, or the absolute path of a file with one."""
    recipe: Recipe
    """The script that trains what the space describes."""
    data: str
    model: str
    """A model of the zoo or the absolute path of a spec's JSON file; for fine-tuning the name of a backbone."""
    image_size: int
    batch_size: int
    augmentation: Literal["none", "light", "medium", "strong"]
    """Of what does not search it."""
    epochs: int
    """Of a trial from scratch, at most; for fine-tuning the unit in which the default strategy counts."""
    final_epochs: int
    """Of a final run from scratch."""
    num_classes: int
    max_trials: int
    weights: str = "imagenet"
    """Of the backbone; not used in training from scratch."""
    plugin: tuple[Path, ...] = ()
    engine: EngineName = "bayesian"
    objective: Objective = "accuracy"
    seed: int = 0
    max_params: int | None = None
    max_multiply_adds: int | None = None
    max_latency_ms: float | None = None
    max_trial_seconds: float | None = None
    max_total_seconds: float | None = None
    fix: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters that are not searched, and their values."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    horizontal_flip: bool = False
    bad_images: Literal["skip", "error"] = "skip"
    memory_budget: float = 1.0
    """GB of images and activations in the memory of a worker."""
    cache: bool = True
    cache_limit: float = 20.0
    views: int = 4
    """Versions of each training image that are kept for a strength of augmentation."""
    deterministic: bool | None = None
