"""Drawn splits: complete, stratified, and decided by content alone."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.parts.splits import SHARE, draw_splits

IMAGES = st.lists(
    # class, content, split; few enough contents that many come more than once, in one class and in several
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 40).map(lambda content: str(content**2 // 40)),
        st.sampled_from([None, None, None, "train", "test"]),
    ),
    max_size=120,
)


def draw(images, seed=0):
    labels, contents, splits = zip(*images, strict=True) if images else ((), (), ())
    return draw_splits(labels, contents, splits, seed=seed)


@settings(max_examples=300, deadline=None)
@given(images=IMAGES, seed=st.integers(0, 3), data=st.data())
def test_what_holds_of_every_split(images, seed, data):
    drawn = draw(images, seed)
    assert len(drawn) == len(images)

    given_splits = {split for _, _, split in images}
    where = defaultdict(set)
    classes_of = defaultdict(set)
    for (label, content, split), chosen in zip(images, drawn, strict=True):
        assert chosen == split or (split in (None, "train") and chosen not in given_splits - {"train"})
        if split in (None, "train"):
            where[content].add(chosen)
            classes_of[content].add(label)
    assert all(len(chosen) == 1 for chosen in where.values())
    assert all(where[content] == {"train"} for content, labels in classes_of.items() if len(labels) > 1)

    missing = {"validation", "test"} - given_splits
    for label in range(4):
        contents = {content for content, labels in classes_of.items() if label in labels}
        own = [content for content in contents if len(classes_of[content]) == 1]
        got = Counter(next(iter(where[content])) for content in contents)
        if contents:
            assert got["train"] >= 1
        spare = min(len(own), len(contents) - 1)
        assert sum(got[split] > 0 for split in missing) == max(0, min(spare, len(missing)))

    order = data.draw(st.permutations(range(len(images))))
    again = draw([images[index] for index in order], seed)
    assert again == [drawn[index] for index in order]


@given(st.integers(1, 400), st.integers(0, 5))
def test_shares_of_a_class_without_duplicates(count, seed):
    drawn = Counter(draw([(7, f"content {index}", None) for index in range(count)], seed))
    share = max(1, round(SHARE * count))
    if count >= 3:
        assert (drawn["test"], drawn["validation"], drawn["train"]) == (share, share, count - 2 * share)
    else:
        assert drawn["train"] == 1


def test_only_the_missing_split_is_drawn():
    images = [(0, str(index), "test" if index < 10 else "train") for index in range(50)]
    drawn = draw(images)
    assert drawn[:10] == ["test"] * 10
    assert Counter(drawn[10:]) == {"train": 34, "validation": 6}


def test_classes_of_two_take_turns():
    images = [(label, f"{label} {index}", None) for label in range(6) for index in range(2)]
    assert Counter(draw(images)) == {"train": 6, "test": 3, "validation": 3}


def test_a_content_with_many_copies_does_not_take_over_a_split():
    images = [(0, "the same", None)] * 500 + [(0, str(index), None) for index in range(500)]
    drawn = draw(images)
    assert Counter(drawn) == {"train": 700, "test": 150, "validation": 150}
    assert drawn[:500] == ["train"] * 500


def test_two_contents_with_many_copies_are_still_split():
    drawn = Counter(draw([(0, "x", None)] * 10 + [(0, "y", None)] * 20 + [(0, "z", None)] * 30))
    assert drawn == {"test": 10, "validation": 20, "train": 30}


def test_the_first_split_leaves_something_for_the_next():
    """Two images are wanted for each, and two contents have one copy."""
    for seed in range(10):
        drawn = Counter(draw([(0, "x", None), (0, "y", None)] + [(0, "z", None)] * 8, seed))
        assert drawn == {"test": 1, "validation": 1, "train": 8}


def test_seeds_draw_different_splits_and_a_seed_always_the_same():
    images = [(index % 3, str(index), None) for index in range(300)]
    assert draw(images, 1) == draw(images, 1)
    moved = sum(one != other for one, other in zip(draw(images, 1), draw(images, 2), strict=True))
    assert moved > 60


@pytest.mark.parametrize("seed", [0, 12345])
def test_an_image_more_moves_few_others(seed):
    images = [(0, str(index), None) for index in range(200)]
    before, after = draw(images, seed), draw([*images, (0, "new", None)], seed)
    assert sum(one != other for one, other in zip(before, after, strict=False)) <= 3
