"""What a search tries: a network to train from scratch, or a way to fine-tune a pretrained one."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from recipes.parts.stages import OPTIMIZERS, OptimizerName, Stage
from zoo.errors import InputError
from zoo.registry import unknown_name
from zoo.spec import ModelSpec

AugmentationName: TypeAlias = Literal["none", "light", "medium", "strong"]
AUGMENTATIONS: tuple[AugmentationName, ...] = ("none", "light", "medium", "strong")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What `zoo train` trains: a network, and how.

    Raises:
        InputError: If a value is out of its range.
    """

    spec: ModelSpec
    """The network."""
    optimizer: OptimizerName = "sgd"
    """See `recipes.parts.optimizers`."""
    learning_rate: float | None = None
    """Peak learning rate; None for the rule of `zoo train`, which is 0.1 for sgd at 64 images an update, in proportion
    to them, and 0.002 for adamw."""
    weight_decay: float | None = None
    """Fraction that each update takes of a weight, times the learning rate; None for the rule of `zoo train`, which is
    0.005 for sgd and 0.05 for adamw."""
    label_smoothing: float = 0.1
    """Fraction, in [0, 1), of each label that is spread over all classes."""
    mixup: float = 0.0
    """Alpha of mixup, 0 for none."""
    random_erasing: float = 0.0
    """Fraction, in [0, 1], of the images of which a rectangle is painted over."""
    augmentation: AugmentationName | None = None
    """How much training images are changed at random; None for what the search was started with."""

    def __post_init__(self) -> None:
        if not isinstance(self.spec, ModelSpec):
            raise InputError(f"Architecture: `spec` must be a ModelSpec. Received: spec={self.spec!r}")
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.learning_rate is not None:
            _check(self, "learning_rate", "must be a number above 0, or None", lambda rate: rate > 0)
        if self.weight_decay is not None:
            _check(self, "weight_decay", "must be a number of 0 or more, or None", lambda decay: decay >= 0)
        _check(self, "label_smoothing", "must be a fraction in [0, 1)", lambda share: 0 <= share < 1)
        _check(self, "mixup", "must be a number of 0 or more", lambda alpha: alpha >= 0)
        _check(self, "random_erasing", "must be a fraction in [0, 1]", lambda share: 0 <= share <= 1)
        _check_augmentation(self.augmentation)


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What `zoo finetune` trains: how much of a pretrained backbone, under which head, in which stages.

    Raises:
        InputError: If a value is out of its range.
    """

    cut: str | None = None
    """The last block of the backbone that is kept, by its name in `recipes.parts.blocks.group_layers`; None keeps all
    of them."""
    head_pool: str = "avg"
    """How the last feature map becomes one vector: a name in `zoo.pools.POOLS`."""
    dropout: float = 0.2
    """Fraction, in [0, 1), of the features that the head drops in training."""
    label_smoothing: float = 0.1
    """Fraction, in [0, 1), of each label that is spread over all classes."""
    augmentation: AugmentationName | None = None
    """How much images are changed at random in stages that augment; None for what the search was started with."""
    stages: tuple[Stage, ...]
    """What trains, first to last; at least one. `last:N` counts the blocks that are left."""

    def __post_init__(self) -> None:
        from zoo.pools import POOLS  # imports Keras, which whoever samples a space has done before

        if self.cut is not None and not (isinstance(self.cut, str) and self.cut):
            raise InputError(f"FineTuning: `cut` must be the name of a block, or None. Received: cut={self.cut!r}")
        if POOLS[self.head_pool].whole is None:
            raise unknown_name("head pool", self.head_pool, [name for name in POOLS if POOLS[name].whole])
        for share in ("dropout", "label_smoothing"):
            _check(self, share, "must be a fraction in [0, 1)", lambda value: 0 <= value < 1)
        _check_augmentation(self.augmentation)
        stages = tuple(self.stages) if isinstance(self.stages, tuple | list) else ()
        if not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise InputError(f"FineTuning: `stages` must hold Stages, at least one. Received: stages={self.stages!r}")
        object.__setattr__(self, "stages", stages)


Candidate: TypeAlias = Architecture | FineTuning


def _check(candidate: Candidate, field: str, rule: str, holds: Callable[[float], bool]) -> None:
    value = getattr(candidate, field)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not holds(value):
        raise InputError(f"{type(candidate).__name__}: `{field}` {rule}. Received: {field}={value!r}")


def _check_augmentation(name: str | None) -> None:
    if name is not None and name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
