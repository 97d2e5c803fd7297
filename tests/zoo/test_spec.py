import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import (
    MODELS,
    HeadSpec,
    InputError,
    ModelSpec,
    PoolSpec,
    PreprocessingSpec,
    ScalingSpec,
    StageSpec,
    StemSpec,
    StyleSpec,
)

COUNTS = st.integers(1, 10_000)
NAMES = st.sampled_from(["a", "conv", "inverted_residual", "v1_0.25", "größe"])
NUMBERS = st.floats(1e-6, 1e6) | st.integers(-100, -1)
VALUES = st.sampled_from([True, False, None, 0, 1, -(2**70), 0.1, 1e300, "", 'a "quoted" ñ', (1, 2), ((1,), "a")])
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
POOLS = st.builds(PoolSpec, NAMES, ARGUMENTS)
STAGES = st.builds(
    StageSpec,
    block=NAMES,
    filters=COUNTS,
    depth=COUNTS,
    strides=COUNTS,
    pool=st.none() | NAMES | POOLS,
    pool_position=st.sampled_from(["before", "after"]),
    arguments=ARGUMENTS,
)
SPECS = st.builds(
    ModelSpec,
    name=NAMES,
    family=NAMES,
    image_size=COUNTS,
    channels=COUNTS,
    preprocessing=st.builds(
        PreprocessingSpec,
        scale=NUMBERS,
        offset=NUMBERS | st.tuples(NUMBERS, NUMBERS, NUMBERS),
        channel_order=st.sampled_from(["rgb", "bgr"]),
    ),
    style=st.builds(
        StyleSpec,
        activation=NAMES,
        batch_norm=st.booleans(),
        norm_momentum=st.floats(0, 1, exclude_max=True),
        norm_epsilon=st.floats(1e-9, 1),
    ),
    stem=st.none()
    | st.builds(
        StemSpec, name=NAMES, filters=COUNTS, kernel_size=COUNTS, strides=COUNTS, pool=st.none() | NAMES | POOLS
    ),
    stages=st.lists(STAGES, min_size=1, max_size=3).map(tuple),
    head=st.builds(
        HeadSpec,
        name=NAMES,
        filters=st.none() | COUNTS,
        pool=NAMES | POOLS,
        hidden=st.lists(COUNTS, max_size=2).map(tuple),
        dropout=st.floats(0, 1, exclude_max=True),
    ),
    scaling=st.builds(ScalingSpec, divisor=COUNTS, stem=st.booleans(), head=st.sampled_from(["fixed", "grow"])),
)


@given(SPECS)
def test_json_round_trip(spec: ModelSpec) -> None:
    revived = ModelSpec.from_json(spec.to_json())
    assert revived == spec
    assert hash(revived) == hash(spec)


def test_a_file_of_a_spec(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    tiny_spec.save(tmp_path / "spec.json")
    assert ModelSpec.load(tmp_path / "spec.json") == tiny_spec
    with pytest.raises(InputError, match=r"The spec '.*other\.json' cannot be read: .*No such file"):
        ModelSpec.load(tmp_path / "other.json")
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(InputError, match=r"The spec '.*model\.keras' cannot be read"):
        ModelSpec.load(tmp_path / "model.keras")


@pytest.mark.parametrize("name", MODELS)
def test_registered_specs_are_found_under_their_own_name(name: str) -> None:
    spec = MODELS[name]
    assert spec.name == name
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_arguments_compare_by_content_not_by_order() -> None:
    first = StageSpec(block="b", filters=1, depth=1, arguments={"expansion": 6, "kernel_size": 3})
    second = StageSpec(block="b", filters=1, depth=1, arguments={"kernel_size": 3, "expansion": 6})
    assert first == second
    assert hash(first) == hash(second)
    assert first != dataclasses.replace(first, arguments={"expansion": 5, "kernel_size": 3})


def test_strides_multiply(tiny_spec: ModelSpec) -> None:
    assert tiny_spec.output_stride == tiny_spec.smallest_image_size == 2 * 1 * 2
    assert tiny_spec.reductions == (("the stem", 2), ("stage 1", 1), ("stage 2", 2))
    assert dataclasses.replace(tiny_spec, stem=None).reductions == (("stage 1", 1), ("stage 2", 2))


def test_a_name_stands_for_a_pool_without_arguments() -> None:
    assert HeadSpec(pool="gem") == HeadSpec(pool=PoolSpec("gem"))
    assert PoolSpec("gem", {"p": 2.0, "learned": False}) == PoolSpec("gem", (("learned", False), ("p", 2.0)))


def test_lists_become_tuples_so_that_specs_are_hashable() -> None:
    assert hash(PoolSpec("spatial_pyramid", {"levels": [1, 2]})) == hash(
        PoolSpec("spatial_pyramid", {"levels": (1, 2)})
    )


def test_value_range_covers_all_colours() -> None:
    assert PreprocessingSpec(scale=1.0, offset=(-3.0, -2.0, -1.0)).value_range == (-3.0, 254.0)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("stem", {"filters": 0}, "StemSpec: `filters` must be a positive int. Received: filters=0"),
        ("stem", {"strides": True}, "StemSpec: `strides` must be a positive int. Received: strides=True"),
        ("stem", {"kernel_size": 3.0}, "StemSpec: `kernel_size` must be a positive int"),
        ("head", {"dropout": 1.0}, r"HeadSpec: `dropout` must be in [0, 1). Received: dropout=1.0"),
        ("head", {"dropout": float("nan")}, "HeadSpec: `dropout` must be a finite number"),
        ("head", {"name": ""}, "HeadSpec: `name` must be a name without slashes. Received: name=''"),
        ("style", {"norm_momentum": 1}, "StyleSpec: `norm_momentum` must be in [0, 1)"),
        ("style", {"norm_epsilon": 0}, "StyleSpec: `norm_epsilon` must be above zero"),
        ("preprocessing", {"scale": 0}, "PreprocessingSpec: `scale` must not be zero"),
        ("preprocessing", {"offset": "0"}, "PreprocessingSpec: `offset` must be a finite number"),
        ("preprocessing", {"offset": (0, 0)}, "PreprocessingSpec: `offset` must be a finite number, or three"),
        ("preprocessing", {"channel_order": "grb"}, "PreprocessingSpec: `channel_order` must be one of: rgb, bgr"),
        ("style", {"batch_norm": 1}, "StyleSpec: `batch_norm` must be True or False. Received: batch_norm=1"),
        ("stem", {"pool": 3}, "A pool must be a name or a PoolSpec. Received: 3"),
        ("head", {"pool": None}, "A pool must be a name or a PoolSpec. Received: None"),
        ("head", {"filters": 0}, "HeadSpec: `filters` must be a positive int. Received: filters=0"),
        ("head", {"hidden": (8, 0)}, "HeadSpec: `hidden` must hold positive ints. Received: hidden=(8, 0)"),
        ("scaling", {"head": "shrink"}, "ScalingSpec: `head` must be one of: fixed, grow. Received: head='shrink'"),
    ],
)
def test_bad_values_are_refused(tiny_spec: ModelSpec, part: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        dataclasses.replace(getattr(tiny_spec, part), **change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "ModelSpec: `name` must be a name without slashes. Received: name='a/b'"),
        ({"image_size": -1}, "ModelSpec: `image_size` must be a positive int"),
        ({"stages": ()}, "ModelSpec: `stages` must hold StageSpecs, at least one. Received: ()"),
        ({"stages": ("stage",)}, "ModelSpec: `stages` must hold StageSpecs"),
        ({"stem": 3}, "ModelSpec: `stem` must be a StemSpec. Received: stem=3"),
        ({"head": None}, "ModelSpec: `head` must be a HeadSpec. Received: head=None"),
        ({"channels": 0}, "ModelSpec: `channels` must be a positive int. Received: channels=0"),
    ],
)
def test_bad_models_are_refused(tiny_spec: ModelSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        dataclasses.replace(tiny_spec, **change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "arguments", [{"sizes": {1, 2}}, {"x": float("nan")}, {"x": (1, object())}, {1: 2}, 7, ["abc", "d"]]
)
def test_arguments_must_be_plain(arguments: Any) -> None:
    with pytest.raises(InputError, match="StageSpec: `arguments` must"):
        StageSpec(block="b", filters=1, depth=1, arguments=arguments)
    with pytest.raises(InputError, match="PoolSpec: `arguments` must"):
        PoolSpec("max", arguments)


def test_json_errors_name_the_field(tiny_spec: ModelSpec) -> None:
    plain = json.loads(tiny_spec.to_json())
    with pytest.raises(InputError, match="This is no JSON"):
        ModelSpec.from_json("{")
    with pytest.raises(InputError, match="ModelSpec must be a JSON object"):
        ModelSpec.from_json("[]")
    with pytest.raises(InputError, match="StemSpec must be a JSON object"):
        ModelSpec.from_json(json.dumps(plain | {"stem": 3}))
    with pytest.raises(InputError, match=r"Unknown field of StageSpec: 'filter'\. Did you mean filters\?"):
        ModelSpec.from_json(json.dumps(plain | {"stages": [plain["stages"][0] | {"filter": 3}]}))
    with pytest.raises(InputError, match="`stages` must hold StageSpecs"):
        ModelSpec.from_json(json.dumps(plain | {"stages": 3}))
    with pytest.raises(InputError, match="Unknown field of PoolSpec: 'size'"):
        ModelSpec.from_json(json.dumps(plain | {"head": plain["head"] | {"pool": {"name": "max", "size": 2}}}))
    with pytest.raises(InputError, match="The field 'name' is given twice"):
        ModelSpec.from_json('{"name": "a", ' + tiny_spec.to_json()[1:])
    with pytest.raises(InputError, match=r"StemSpec: `filters` must be a positive int\. Received: filters=4\.0"):
        ModelSpec.from_json(json.dumps(plain | {"stem": plain["stem"] | {"filters": 4.0}}))
    del plain["head"]
    with pytest.raises(InputError, match="ModelSpec: missing 1 required keyword-only argument: 'head'"):
        ModelSpec.from_json(json.dumps(plain))
