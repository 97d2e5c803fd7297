import random

import keras_tuner
import pytest

from recipes.parts.search.architecture_space import (
    sample_architecture,
    sample_blocks,
    sample_depth,
    sample_head_pooling,
    sample_pooling,
    sample_width,
)
from recipes.parts.search.candidates import Architecture
from recipes.parts.search.exploring import explore, sampled
from recipes.parts.search.hyperparameters import combinations
from recipes.parts.search.space import load_space
from zoo import MODELS, PoolSpec, StemSpec, build_model, vary

SPACE = load_space("architecture")
FAMILIES = ("vgg_tiny", "vgg16", "lenet", "separable_vgg_tiny", "mobilenet_v1", "mobilenet_v2", "resnet56")


def answering(**values):
    hp = keras_tuner.HyperParameters()
    hp.values = values
    return hp


def choices(sample, spec):
    hp = keras_tuner.HyperParameters()
    sample(hp, spec)
    return {each.name: list(each.values) for each in hp.space}


@pytest.mark.parametrize("name", FAMILIES)
def test_defaults_are_the_network_and_the_training_of_zoo_train(name):
    spec = MODELS[name]
    # sgd's 0.005 is what zoo train takes for None.
    assert sampled(SPACE, spec, {}) == Architecture(spec=spec, weight_decay=5e-3)


def test_pools_stand_where_maps_become_smaller():
    pools = ["max", "avg", "blur", "gem", "soft", "mixed"]
    assert choices(sample_pooling, MODELS["vgg_tiny"]) == {f"pool_stage{index}": pools for index in (1, 2, 3)}
    resnet = MODELS["resnet20"]
    assert choices(sample_pooling, resnet) == {f"pool_stage{index}": [*pools, "strided"] for index in (2, 3)}
    spec = sample_pooling(answering(pool_stage2="blur", pool_stage3="strided"), resnet)
    assert (spec.stages[1].pool, spec.stages[1].pool_position) == (PoolSpec("blur"), "before")
    assert (spec.stages[0], spec.stages[2]) == (resnet.stages[0], resnet.stages[2])
    assert sample_pooling(answering(pool_stage3="soft"), MODELS["vgg_tiny"]).stages[2].pool_position == "after"


def test_a_pool_of_the_networks_own_keeps_its_arguments():
    spec = vary(MODELS["vgg_tiny"], pool=PoolSpec("soft", {"beta": 2.0}), head_pool="attention")
    assert sample_pooling(answering(), spec) == spec == sample_head_pooling(answering(), spec)
    assert choices(sample_head_pooling, spec) == {"head_pool": ["avg", "max", "gem", "avg_max", "attention"]}


def test_depths_reach_to_both_sides_of_the_networks_own():
    assert choices(sample_depth, MODELS["vgg_tiny"]) == {f"depth_stage{index}": [1, 2, 3] for index in (1, 2, 3)}
    assert choices(sample_depth, MODELS["resnet56"])["depth_stage1"] == list(range(4, 14))
    assert [stage.depth for stage in sample_depth(answering(depth_stage2=3), MODELS["vgg_tiny"]).stages] == [2, 3, 2]


def test_widths():
    assert sample_width(answering(width=0.5), MODELS["vgg_tiny"]) == vary(MODELS["vgg_tiny"], width=0.5)


def test_blocks_become_separable_below_a_plain_stem_and_back():
    plain, separable = MODELS["vgg_tiny"], MODELS["separable_vgg_tiny"]
    made = sample_blocks(answering(block="separable"), plain)
    assert (made.stem, made.stages[1:], made.head) == (separable.stem, separable.stages[1:], separable.head)
    assert made.stages[0].depth == plain.stages[0].depth
    assert {stage.block for stage in sample_blocks(answering(block="plain"), separable).stages} == {"vgg"}
    made = sample_blocks(answering(block="separable"), MODELS["lenet"])
    assert (made.stem, made.stages[0].arguments) == (StemSpec(filters=32, strides=1), (("kernel_size", 5),))
    back = sample_blocks(answering(block="plain"), made)
    assert back.stages == MODELS["lenet"].stages
    for name in ("resnet20", "mobilenet_v1", "mobilenet_v2"):
        assert choices(sample_blocks, MODELS[name]) == {}


def test_rates_belong_to_their_optimizer():
    values = {"optimizer": "adamw", "learning_rate_adamw": 3e-3, "weight_decay_adamw": 0.1}
    made = sampled(SPACE, MODELS["vgg_tiny"], values)
    assert (made.optimizer, made.learning_rate, made.weight_decay) == ("adamw", 3e-3, 0.1)
    assert sampled(SPACE, MODELS["vgg_tiny"], {"optimizer": "adamw"}).learning_rate is None
    hp = keras_tuner.HyperParameters()
    sample_architecture(hp, MODELS["vgg_tiny"])  # no more is needed
    assert "learning_rate_sgd" in hp.values
    assert "learning_rate_adamw" not in hp.values


@pytest.mark.parametrize("name", ["test_vgg", "test_lenet", "test_mobilenet_v1", "test_resnet"])
def test_what_is_drawn_can_be_built(name):
    spec = MODELS[name]
    found = explore(SPACE, spec)
    generator = random.Random(name)
    for _ in range(2):
        values = next(combinations(found, lambda each: [each.prob_to_value(generator.random())]))
        made = sampled(SPACE, spec, values, found)
        model = build_model(made.spec, input_shape=(32, 32, 3), num_classes=4)
        assert model.output_shape == (None, 4)
