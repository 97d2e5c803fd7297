"""Which images to train on, to choose by, and to test on, where a source does not say."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from recipes.parts.sources import SplitName

SHARE = 0.15
"""What validation and test each get of a class's training images."""


def draw_splits(
    labels: Sequence[int], contents: Sequence[str], splits: Sequence[SplitName | None], *, seed: int
) -> list[SplitName]:
    """Draw the validation and test splits that are missing from the training images.

    The rule looks at nothing but the seed and each image's content, label and given split: not at names, nor
    at the order of the images. In each class the contents are put in the order of a hash of seed and content.
    Test takes from the front until it has 15 % of the class's images, rounded, and at least one; validation
    takes the next; the rest stays in train.

    - Images of the same content go together: none is learned by heart and then tested.
    - Content that stands in several classes stays in train, as at best one of its labels is right.
    - Every class keeps content in train. Of three different contents each split gets one; a class of two
      gives one to test or to validation, by turns from class to class; a class of one gives none.

    Args:
        labels: Class of each image.
        contents: Hash of each image's file.
        splits: Split of each image; None is the same as train. A split that no image has is missing.
        seed: Another seed draws another split.

    Returns:
        The split of each image: as given, except that training images have moved to the splits that were
            missing.
    """
    drawn: list[SplitName] = [split or "train" for split in splits]
    missing: list[SplitName] = [split for split in ("test", "validation") if split not in drawn]
    # label: content: indices
    places: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    classes_of: dict[str, set[int]] = defaultdict(set)
    for index, (label, content) in enumerate(zip(labels, contents, strict=True)):
        if drawn[index] == "train":
            places[label][content].append(index)
            classes_of[content].add(label)
    turn = 0
    for label in sorted(places):
        copies = {content: len(indices) for content, indices in places[label].items()}
        wanted = max(1, round(SHARE * sum(copies.values())))
        own = [content for content in copies if len(classes_of[content]) == 1]
        own.sort(key=lambda content: hashlib.sha256(f"{seed}:{content}".encode()).digest())
        spare = min(len(own), len(copies) - 1)
        takers = missing
        if spare < len(missing):
            takers = [missing[(turn + which) % len(missing)] for which in range(spare)]
            turn += spare
        for which, split in enumerate(takers):
            still_to_come = len(takers) - 1 - which
            taken = _take(own, copies, wanted, most=spare - still_to_come)
            own = [content for content in own if content not in taken]
            spare -= len(taken)
            for content in taken:
                for index in places[label][content]:
                    drawn[index] = split
    return drawn


def _take(contents: Sequence[str], copies: Mapping[str, int], wanted: int, *, most: int) -> set[str]:
    """Take contents from the front, while no more images than wanted come with them; at least one content."""
    taken: set[str] = set()
    for content in contents:
        if len(taken) < most and copies[content] <= wanted:
            taken.add(content)
            wanted -= copies[content]
    return taken or {min(contents, key=lambda content: copies[content])}
