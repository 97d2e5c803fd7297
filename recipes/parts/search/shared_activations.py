"""What frozen layers say to the candidates of a space, computed in one pass for all of them."""

import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from keras_tuner import HyperParameters

from recipes.parts.activations import Activations, Request
from recipes.parts.augment import Augmentation
from recipes.parts.classifier import Network, with_head
from recipes.parts.freezing import unfrozen
from recipes.parts.frozen_prefix import Cut, cut_behind_frozen
from recipes.parts.search.candidates import AugmentationName, FineTuning
from recipes.parts.search.exploring import sampled
from recipes.parts.search.finetune_space import Pretrained
from recipes.parts.search.hyperparameters import is_active
from recipes.parts.search.space import Space
from zoo.errors import InputError

DRAWN = 500
"""Candidates that are drawn to see where a space can cut. One that is missed costs its trial a pass of its own."""

Reading: TypeAlias = tuple[str | None, str, str, bool]
"""What decides what a stage reads: the last block that is kept, the head pool, what unfreezes, whether it augments."""


class SharedActivations:
    """Fill the store with all that the candidates of a space can read, a strength of augmentation at a time.

    Args:
        network: With its pretrained weights.
        num_classes: Of the data.
        activations: Of the network and the data.
        candidates: Of the space, as many as it takes to see where it cuts.
        augmentations: What each strength does to images.
        default: The strength of candidates that name none.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        activations: Activations,
        candidates: Iterable[FineTuning],
        *,
        augmentations: Callable[[AugmentationName], Augmentation],
        default: AugmentationName,
    ) -> None:
        self.network = network
        self.num_classes = num_classes
        self.activations = activations
        self.augmentations = augmentations
        self.readings: dict[AugmentationName, dict[Reading, None]] = {}
        for candidate in candidates:
            of_strength = self.readings.setdefault(candidate.augmentation or default, {})
            of_strength.update(dict.fromkeys(readings(candidate)))
        self._cuts: dict[tuple[str | None, str, str], Cut | None] = {}
        self._filled: set[AugmentationName] = set()

    def require(self, strength: AugmentationName, on_progress: Callable[[int, int], None]) -> None:
        """Make sure that all is there which candidates of a strength of augmentation can read.

        Args:
            strength: Of augmentation.
            on_progress: Told how many images frozen layers have seen, and how many there are.

        Raises:
            InputError: If there is no room for it.
        """
        if strength in self._filled:
            return
        activations = self.activations.of_versions(self.augmentations(strength))
        requests = self._requests(strength, activations)
        activations.fill(_beginning_elsewhere(requests), on_progress)
        self._filled.add(strength)

    def _requests(self, strength: AugmentationName, activations: Activations) -> list[Request]:
        """One for each split, version and place, though several heads may read it."""
        changes = not self.augmentations(strength).changes_nothing
        views = activations.settings.views or 0
        found: dict[tuple[object, str], Request] = {}
        for block, head_pool, unfreeze, augments in self.readings.get(strength, {}):
            cut = self._cut(block, head_pool, unfreeze)
            if cut is None or (augments and changes and not views):
                continue
            for request in activations.requests(cut, views if augments and changes else 0):
                found.setdefault((request.images, activations.digest(cut)), request)
        return list(found.values())

    def _cut(self, block: str | None, head_pool: str, unfreeze: str) -> Cut | None:
        """Where a classifier is cut; None if nothing in it runs once, or there is no such classifier."""
        key = block, head_pool, unfreeze
        if key not in self._cuts:
            try:
                classifier = with_head(self.network, num_classes=self.num_classes, cut=block, head_pool=head_pool)
                with unfrozen(classifier, unfreeze):
                    self._cuts[key] = cut_behind_frozen(classifier.model)
            except InputError:  # which its own trial will tell
                self._cuts[key] = None
        return self._cuts[key]


def readings(candidate: FineTuning) -> list[Reading]:
    """What the stages of a candidate read, in order."""
    return [
        (candidate.cut, candidate.head_pool, stage.unfreeze, stage.augment)
        for stage in candidate.stages
        if stage.unfreeze != "auto" and stage.epochs
    ]


def draw_candidates(space: Space, base: Pretrained, hyperparameters: HyperParameters) -> list[FineTuning]:
    """Candidates of a space, drawn at random, always the same: all that read something else, and some that do not."""
    generator = random.Random(0)  # noqa: S311  # no secret
    drawn: dict[tuple[object, ...], FineTuning] = {}
    for _ in range(DRAWN):
        values: dict[str, bool | int | float | str] = {}
        for each in hyperparameters.space:
            if is_active(each, values):
                values[each.name] = each.prob_to_value(generator.random())
        candidate = sampled(space, base, values, hyperparameters)
        assert isinstance(candidate, FineTuning)
        drawn.setdefault((candidate.augmentation, *readings(candidate)), candidate)
    return list(drawn.values())


def _beginning_elsewhere(requests: Sequence[Request]) -> list[Request]:
    """The same in another order for each worker, so that several that need the same each make their share of it."""
    groups: dict[object, list[Request]] = {}
    for request in requests:
        groups.setdefault(request.images, []).append(request)
    number = re.search(r"\d+$", os.environ.get("KERASTUNER_TUNER_ID", ""))
    half = (len(groups) + 1) // 2
    begin = int(number[0]) * half % max(1, len(groups)) if number else 0
    ordered = [*groups.values()]
    return [request for group in (*ordered[begin:], *ordered[:begin]) for request in group]
