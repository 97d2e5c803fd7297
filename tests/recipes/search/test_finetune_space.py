import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.parts.blocks import Block, select
from recipes.parts.search.exploring import explore, sampled
from recipes.parts.search.finetune_space import HEAD_POOLS, Pretrained
from recipes.parts.search.hyperparameters import combinations
from recipes.parts.search.space import load_space
from recipes.parts.stages import plan_stages
from zoo.errors import InputError
from zoo.pools import pool_whole
from zoo.spec import PoolSpec

SPACE = load_space("finetune")


def pretrained(blocks=18, **changes):
    names = tuple(f"block_{index}" for index in range(blocks))
    return Pretrained(**{"name": "net", "blocks": names, "epochs": 4, "augmentation": "light", **changes})


def values_of(base):
    return {each.name: list(each.values) for each in explore(SPACE, base).space}


def test_cuts_end_in_the_upper_half():
    assert values_of(pretrained())["cut"] == ["whole", "block_8", "block_11", "block_14"]
    assert values_of(pretrained(blocks=4))["cut"] == ["whole", "block_1", "block_2"]
    assert values_of(pretrained(blocks=1))["cut"] == ["whole"]
    assert sampled(SPACE, pretrained(), {"cut": "block_8"}).cut == "block_8"
    assert sampled(SPACE, pretrained(), {}).cut is None


def test_lengths_and_rates_are_around_those_of_the_strategies():
    values = values_of(pretrained())
    assert values["head_epochs"] == [4, 8, 12, 16]
    assert values["tuned_epochs"] == [2, 4, 6]
    assert values_of(pretrained(epochs=1))["tuned_epochs"] == [1, 2]
    made = sampled(SPACE, pretrained(), {})
    planned = plan_stages("lp_ft", num_blocks=18, epochs=4)
    for stage, plan in zip(made.stages, planned, strict=True):
        assert (stage.learning_rate, stage.augment, stage.patience) == (plan.learning_rate, plan.augment, plan.patience)
    assert made.stages[0].epochs == planned[0].epochs
    assert (made.head_pool, made.dropout, made.augmentation) == ("avg", 0.2, "light")


def test_augmentation_has_three_levels_and_matters_in_one_stage():
    assert values_of(pretrained())["augmentation"] == ["none", "light", "medium"]
    assert values_of(pretrained(augmentation="strong"))["augmentation"] == ["none", "light", "strong"]
    for unfreeze, augmentation, expected in (
        (0, "light", [True]),
        (0, "none", [False]),
        (2, "medium", [False, True]),
    ):
        made = sampled(SPACE, pretrained(), {"unfreeze": unfreeze, "augmentation": augmentation})
        assert made.augmentation == augmentation
        assert [stage.augment for stage in made.stages] == expected


@settings(max_examples=25, deadline=None)
@given(data=st.data(), blocks=st.integers(1, 40), epochs=st.integers(1, 20))
def test_every_candidate_fits_its_backbone(data, blocks, epochs):
    base = pretrained(blocks, epochs=epochs)
    found = explore(SPACE, base)
    places = st.floats(0, 1, exclude_max=True)
    values = next(combinations(found, lambda each: [each.prob_to_value(data.draw(places))]))
    made = sampled(SPACE, base, values, found)
    left = base.blocks if made.cut is None else base.blocks[: base.blocks.index(made.cut) + 1]
    assert len(left) >= blocks // 2
    whole = [Block(name, (name,)) for name in (*left, "head")]
    trained = [select(whole, stage.unfreeze) for stage in made.stages]
    assert trained[0] == (len(left),)
    assert len(made.stages) == (2 if values["unfreeze"] else 1)
    if values["unfreeze"]:
        assert len(trained[1]) == min(2, len(left)) + 1
        assert values["tuned_rate"] == made.stages[1].learning_rate
    else:
        assert "tuned_rate" not in values


def test_head_pools_have_no_weights_so_that_what_is_behind_them_is_computed_once():
    inputs = keras.Input((4, 4, 8))
    for name in HEAD_POOLS:
        assert keras.Model(inputs, pool_whole(inputs, PoolSpec(name), name="pool")).weights == []


def test_a_backbone_that_makes_no_sense():
    for changes, message in (({"blocks": 0}, "no blocks"), ({"epochs": 0}, "epochs=0"), ({"augmentation": "x"}, "'x'")):
        with pytest.raises(InputError, match=message):
            pretrained(**changes)
