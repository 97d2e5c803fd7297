import pytest

from recipes.parts.stages import STRATEGIES, Stage, change_stages, check_strategy, plan_stages
from zoo.errors import InputError


@pytest.mark.parametrize("num_blocks", [1, 5, 18, 60])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_fit_every_backbone(strategy, num_blocks):
    stages = plan_stages(strategy, num_blocks=num_blocks, epochs=4)
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        kind, _, number = stage.unfreeze.partition(":")
        assert kind in ("head", "last", "all", "auto")
        assert not number or 1 <= int(number) <= num_blocks


def test_strategies_are_what_the_literature_calls_them():
    def unfrozen(strategy):
        return [stage.unfreeze for stage in plan_stages(strategy, num_blocks=16, epochs=4)]

    assert unfrozen("zero") == []
    assert unfrozen("linear_probe") == ["head"]
    assert unfrozen("partial") == ["last:8"]
    assert unfrozen("full") == ["all"]
    assert unfrozen("gradual") == ["head", "last:4", "last:8", "all"]
    assert unfrozen("lp_ft") == ["head", "last:12"]
    assert unfrozen("auto") == ["head", "auto"]


def test_lp_ft_goes_deeper_at_a_lower_rate_and_longer_where_images_change():
    head, deeper = plan_stages("lp_ft", num_blocks=16, epochs=4)
    assert deeper.learning_rate < head.learning_rate
    _, shorter = plan_stages("lp_ft", num_blocks=16, epochs=4, augmented=False)
    assert (deeper.epochs, shorter.epochs) == (8, 5)


def test_a_head_alone_trains_long_on_images_as_they_are():
    for strategy in ("linear_probe", "gradual", "lp_ft"):
        head, *deeper = plan_stages(strategy, num_blocks=16, epochs=4)
        assert (head.epochs, head.augment) == (12, False)
        assert all(stage.augment and stage.epochs <= 8 for stage in deeper)


def test_unknown_strategy_names_the_closest():
    with pytest.raises(InputError, match=r"'lpft'.*lp_ft") as error:
        check_strategy("lpft")
    assert "linear_probe" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("unfreeze", "'al'"),
        ("unfreeze", "'last:0'"),
        ("unfreeze", "'from:'"),
        ("unfreeze", "'blocks:'"),
        ("unfreeze", "'blocks:a,'"),
        ("layer_decay", 0.0),
        ("layer_decay", 1.1),
        ("layer_decay", float("nan")),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup", 1.0),
        ("warmup", -0.1),
        ("patience", 0),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(field, value):
    text = value if field == "unfreeze" else f"{field}={value}"
    with pytest.raises(InputError, match=rf"{text}.*'odd'"):
        Stage(name="odd", **{field: value.strip("'") if field == "unfreeze" else value})


@pytest.mark.parametrize("unfreeze", ["auto", "blocks:block_1", "blocks:block_1,block_13", "from:block_1", "last:12"])
def test_a_stage_takes_every_choice_of_blocks(unfreeze):
    assert Stage(name="s", unfreeze=unfreeze).unfreeze == unfreeze


def test_change_stages_spreads_one_value_or_takes_one_each():
    stages = plan_stages("gradual", num_blocks=16, epochs=4)
    assert [stage.epochs for stage in change_stages(stages, epochs=(7,))] == [7, 7, 7, 7]
    changed = change_stages(stages, epochs=(1, 2, 3, 4), learning_rate=(0.5,))
    assert [stage.epochs for stage in changed] == [1, 2, 3, 4]
    assert {stage.learning_rate for stage in changed} == {0.5}
    assert change_stages(stages) == stages


def test_change_stages_refuses_a_wrong_number_of_values():
    stages = plan_stages("gradual", num_blocks=16, epochs=4)
    with pytest.raises(InputError, match=r"4 stages \(head, quarter, half, all\)\. Received: 2 values"):
        change_stages(stages, epochs=(1, 2))
    with pytest.raises(InputError, match="trains no stage"):
        change_stages((), learning_rate=(0.1,))
