"""The space of `zoo search --space finetune`: how much of a pretrained backbone, under which head, and in which stages.

What does not move runs once for all trials. So this space has few cuts, head pools without weights, and three strengths
of augmentation: whatever else is different between two trials, the same features serve both.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from recipes.parts.search.candidates import AUGMENTATIONS, AugmentationName, FineTuning
from recipes.parts.stages import Stage
from zoo.errors import InputError

if TYPE_CHECKING:
    import keras_tuner

HyperParameters: TypeAlias = "keras_tuner.HyperParameters"

WHOLE = "whole"
"""Instead of the name of a block: all of them are kept."""
CUTS = (1 / 2, 2 / 3, 5 / 6)
"""Shares of the blocks after which the backbone can end."""
HEAD_POOLS = ("avg", "max", "avg_max")
UNFROZEN = 2
"""Blocks that train in the second stage, where there is one."""
LEVELS: tuple[AugmentationName, ...] = ("none", "light", "medium")


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a search for a way to fine-tune starts from.

    Raises:
        InputError: If there are no blocks, or a value is out of its range.
    """

    name: str
    """Of the backbone."""
    blocks: tuple[str, ...]
    """Names of its blocks, the one at the input first; without the head."""
    epochs: int
    """The unit in which `recipes.parts.stages.plan_stages` counts."""
    augmentation: AugmentationName
    """What suits the data."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks:
            raise InputError(f"The backbone {self.name!r} has no blocks")
        if self.epochs < 1:
            raise InputError(f"The unit of stages is 1 epoch or more. Received: epochs={self.epochs}")
        if self.augmentation not in AUGMENTATIONS:
            raise InputError(
                f"Augmentation is one of: {', '.join(AUGMENTATIONS)}. Received: augmentation={self.augmentation!r}"
            )


def sample_finetuning(hp: HyperParameters, base: Pretrained) -> FineTuning:
    """Choose how a backbone is fine-tuned.

    A new head is trained on features that do not move, and then, or not, the last blocks with it, at a lower rate.
    Images are changed at random where that costs least and still tells: in the second stage if there is one, as the
    first one is over soonest with images as they are; else with the head alone.

    Args:
        hp: Asked for the values.
        base: What is fine-tuned.

    Returns:
        The candidate.
    """
    cut = sample_cut(hp, base)
    left = len(base.blocks) if cut is None else base.blocks.index(cut) + 1
    head_pool = hp.Choice("head_pool", list(HEAD_POOLS), default="avg")
    dropout = hp.Choice("dropout", [0.0, 0.2, 0.4], default=0.2)
    augmentation = sample_augmentation(hp, base)
    unit = base.epochs
    unfreeze = hp.Choice("unfreeze", [0, UNFROZEN], default=UNFROZEN)
    head = Stage(
        name="head",
        unfreeze="head",
        epochs=hp.Int("head_epochs", unit, 4 * unit, step=unit, default=3 * unit),
        learning_rate=hp.Float("head_rate", 1e-3, 3e-2, sampling="log", default=1e-2),
        augment=unfreeze == 0 and augmentation != "none",
    )
    stages: tuple[Stage, ...] = (head,)
    with hp.conditional_scope("unfreeze", [UNFROZEN]):
        epochs = hp.Choice("tuned_epochs", sorted({math.ceil(unit / 2), unit, math.ceil(1.5 * unit)}), default=unit)
        rate = hp.Float("tuned_rate", 1e-4, 3e-3, sampling="log", default=6e-4)
        if unfreeze:
            blocks = min(unfreeze, left)
            stages = (head, Stage(name="tuned", unfreeze=f"last:{blocks}", epochs=epochs, learning_rate=rate))
    return FineTuning(cut=cut, head_pool=head_pool, dropout=dropout, augmentation=augmentation, stages=stages)


def sample_cut(hp: HyperParameters, base: Pretrained) -> str | None:
    """Choose the last block that is kept: `cut`, one of three from the upper half, or none of them is left out.

    Features from the middle are less about ImageNet's classes, and cost less (Yosinski et al. 2014).

    Args:
        hp: Asked for the value.
        base: What is cut.

    Returns:
        The name of a block; None to keep all of them.

    Reference:
        - [Yosinski et al., How transferable are features in deep neural networks?](https://arxiv.org/abs/1411.1792)
    """
    count = len(base.blocks)
    ends = dict.fromkeys(base.blocks[max(1, round(share * count)) - 1] for share in CUTS)
    cut = hp.Choice("cut", [WHOLE, *(end for end in ends if end != base.blocks[-1])], default=WHOLE)
    return None if cut == WHOLE else cut


def sample_augmentation(hp: HyperParameters, base: Pretrained) -> AugmentationName:
    """Choose how much images are changed at random: `augmentation`, one of three with that of the data among them.

    Args:
        hp: Asked for the value.
        base: What is fine-tuned.

    Returns:
        A name in `recipes.parts.augment.PRESETS`.
    """
    levels = LEVELS if base.augmentation in LEVELS else (*LEVELS[:2], base.augmentation)
    level: AugmentationName = hp.Choice("augmentation", list(levels), default=base.augmentation)
    return level
