"""What a fine-tuning run does, as data: stages, and the strategies of the literature that they make up."""

import math
import re
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Literal, get_args

from recipes.parts.failure import Failed
from zoo.errors import InputError
from zoo.registry import unknown_name

OptimizerName = Literal["adamw", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


class TrainingFailed(Failed):
    """Training cannot go on; the message is one line that says where it stopped and what to change."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of `fit`: what trains, for how long, how fast.

    Each stage has a fresh optimizer whose learning rate rises linearly for the first steps and then falls to zero along
    a cosine.
    """

    name: str
    """Shown in tables and figures."""
    unfreeze: str = "head"
    """What trains: `none`, `head`, `last:N` (the last N blocks and the head), `from:BLOCK` (that block and all after
    it), `blocks:NAME,NAME` (these and the head), `all`, or `auto`: the blocks whose gradients on some training images
    are largest for the size of their weights, with learning rates to match; see `recipes.parts.importance`."""
    epochs: int = 10
    """Most epochs; fewer when validation loss stops falling."""
    learning_rate: float = 1e-3
    """Peak learning rate, after warm-up."""
    warmup: float = 0.1
    """Fraction of the steps, in [0, 1), over which the learning rate rises from zero."""
    augment: bool = True
    """Whether training images are changed at random, if the run changes them at all. Where they are not, frozen layers
    run only once in the stage, and an epoch costs what the rest costs."""
    patience: int = 5
    """Stop after this many epochs without a lower validation loss."""
    optimizer: OptimizerName = "adamw"
    """See `recipes.parts.optimizers`."""
    weight_decay: float = 0.0
    """Fraction that each update takes of a weight, times the learning rate; biases and norms have none."""
    batch_norm: Literal["frozen", "trained"] = "frozen"
    """Whether the batch norm of blocks that train keeps its statistics, as it should on few images, or trains."""
    layer_decay: float = 1.0
    """What the learning rate of a block is of that of the block after it, in (0, 1]; 1 makes all alike. Networks of
    many blocks want 0.65 to 0.9."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"none|head|all|auto|last:[1-9]\d*|from:.+|blocks:[^,]+(,[^,]+)*", self.unfreeze):
            raise InputError(
                "`unfreeze` is one of: none, head, last:N (such as last:3), from:BLOCK (such as from:block_13), "
                f"blocks:NAME,NAME (such as blocks:block_2,block_13), all, auto. Received: {self.unfreeze!r} in stage "
                f"{self.name!r}"
            )
        if self.epochs < 0:
            raise InputError(f"A stage needs 0 or more epochs. Received: epochs={self.epochs} in stage {self.name!r}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(
                f"The learning rate must be positive. Received: learning_rate={self.learning_rate} in stage "
                f"{self.name!r}"
            )
        if not 0 <= self.warmup < 1:
            raise InputError(
                f"Warm-up is a fraction of the steps in [0, 1). Received: warmup={self.warmup} in stage {self.name!r}"
            )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(
                f"Weight decay is 0 or more. Received: weight_decay={self.weight_decay} in stage {self.name!r}"
            )
        if not 0 < self.layer_decay <= 1:
            raise InputError(
                f"Layer decay is a factor in (0, 1]. Received: layer_decay={self.layer_decay} in stage {self.name!r}"
            )
        for field, known in (("optimizer", OPTIMIZERS), ("batch_norm", ("frozen", "trained"))):
            if getattr(self, field) not in known:
                raise unknown_name(field, getattr(self, field), known)
        if self.patience < 1:
            raise InputError(f"Patience is 1 epoch or more. Received: patience={self.patience} in stage {self.name!r}")


STRATEGIES = {
    "zero": "nothing trains: a nearest-class-mean head on frozen features (Mensink et al. 2013)",
    "linear_probe": "the head alone, on frozen features (Alain and Bengio 2016)",
    "partial": "the head and the upper half of the blocks, at once (Yosinski et al. 2014)",
    "full": "everything at once (Girshick et al. 2014)",
    "gradual": "the head, then ever deeper, down to the input (Howard and Ruder 2018)",
    "auto": "a converged head first, then the blocks that the images ask to change (Lee et al. 2022)",
    "lp_ft": "a converged head first, then the upper three quarters of the blocks with it (Kumar et al. 2022)",
}


def check_strategy(name: str) -> None:
    """Raise `InputError` for a name that is not in `STRATEGIES`."""
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)


def plan_stages(strategy: str, *, num_blocks: int, epochs: int, augmented: bool = True) -> tuple[Stage, ...]:
    """The stages of a strategy for a backbone of `num_blocks` blocks.

    Args:
        strategy: A key of `STRATEGIES`.
        num_blocks: Blocks of the backbone, the head not counted.
        epochs: How often the images are shown, as a unit: three times in a strategy of one stage, and as often
            when the head alone trains, on features of unchanged images, where an epoch costs next to nothing.
        augmented: Whether images change, so that there is more to see in a second showing.

    Returns:
        Stages, first to last; none for `zero`.
    """
    check_strategy(strategy)

    def last(fraction: float) -> str:
        return f"last:{max(1, round(fraction * num_blocks))}"

    head = Stage(name="head", unfreeze="head", epochs=3 * epochs, learning_rate=1e-2, augment=False)
    if strategy == "zero":
        return ()
    if strategy == "linear_probe":
        return (head,)
    if strategy == "partial":
        return (Stage(name="partial", unfreeze=last(1 / 2), epochs=3 * epochs, learning_rate=1e-3),)
    if strategy == "full":
        return (Stage(name="full", unfreeze="all", epochs=3 * epochs, learning_rate=5e-4),)
    if strategy == "gradual":
        early = math.ceil(0.75 * epochs)
        return (
            head,
            Stage(name="quarter", unfreeze=last(1 / 4), epochs=early, learning_rate=1e-3),
            Stage(name="half", unfreeze=last(1 / 2), epochs=early, learning_rate=5e-4),
            Stage(name="all", unfreeze="all", epochs=epochs, learning_rate=2e-4),
        )
    if strategy == "auto":
        return (head, Stage(name="chosen", unfreeze="auto", epochs=2 * epochs, learning_rate=1e-3))
    long = 2 * epochs if augmented else math.ceil(1.25 * epochs)
    return (head, Stage(name="deeper", unfreeze=last(3 / 4), epochs=long, learning_rate=6e-4))


def change_stages(
    stages: tuple[Stage, ...], *, epochs: tuple[int, ...] = (), learning_rate: tuple[float, ...] = ()
) -> tuple[Stage, ...]:
    """Stages with other lengths or peak learning rates: one value for all of them, or one for each.

    Raises:
        InputError: If there are neither one nor as many values as stages.
    """
    for flag, values in (("epochs", epochs), ("learning-rate", learning_rate)):
        if values and not stages:
            raise InputError(f"--{flag} has nothing to change: this strategy trains no stage. Leave it away")
        if len(values) not in (0, 1, len(stages)):
            raise InputError(
                f"--{flag} takes one value, or one for each of the {len(stages)} stages "
                f"({', '.join(stage.name for stage in stages)}). Received: {len(values)} values"
            )
    lengths = epochs or tuple(stage.epochs for stage in stages)
    rates = learning_rate or tuple(stage.learning_rate for stage in stages)
    return tuple(
        replace(stage, epochs=length, learning_rate=rate)
        # One value is for all: `cycle` repeats it, and is cut off where the stages end.
        for stage, length, rate in zip(stages, cycle(lengths), cycle(rates), strict=False)
    )
