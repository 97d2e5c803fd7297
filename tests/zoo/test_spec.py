import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import MODELS, HeadSpec, InputError, ModelSpec, PreprocessingSpec, StageSpec, StemSpec, StyleSpec

COUNTS = st.integers(1, 10_000)
NAMES = st.sampled_from(["a", "conv", "inverted_residual", "v1_0.25", "größe"])
NUMBERS = st.floats(1e-6, 1e6) | st.integers(-100, -1)
VALUES = st.sampled_from([True, False, None, 0, 1, -(2**70), 0.1, 1e300, "", 'a "quoted" ñ'])
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)
STAGES = st.builds(StageSpec, block=NAMES, filters=COUNTS, depth=COUNTS, strides=COUNTS, arguments=ARGUMENTS)
SPECS = st.builds(
    ModelSpec,
    name=NAMES,
    family=NAMES,
    image_size=COUNTS,
    preprocessing=st.builds(PreprocessingSpec, scale=NUMBERS, offset=NUMBERS),
    style=st.builds(
        StyleSpec,
        activation=NAMES,
        norm_momentum=st.floats(0, 1, exclude_max=True),
        norm_epsilon=st.floats(1e-9, 1),
    ),
    stem=st.builds(StemSpec, name=NAMES, filters=COUNTS, kernel_size=COUNTS, strides=COUNTS),
    stages=st.lists(STAGES, min_size=1, max_size=3).map(tuple),
    head=st.builds(HeadSpec, name=NAMES, filters=COUNTS, dropout=st.floats(0, 1, exclude_max=True)),
)


@given(SPECS)
def test_json_round_trip(spec: ModelSpec) -> None:
    revived = ModelSpec.from_json(spec.to_json())
    assert revived == spec
    assert hash(revived) == hash(spec)


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
        ({"stem": None}, "ModelSpec: `stem` must be a StemSpec. Received: stem=None"),
    ],
)
def test_bad_models_are_refused(tiny_spec: ModelSpec, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        dataclasses.replace(tiny_spec, **change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("arguments", [{"sizes": [1, 2]}, {1: 2}, 7, ["ab", "c"]])
def test_arguments_must_be_plain(arguments: Any) -> None:
    with pytest.raises(InputError, match="StageSpec: `arguments` must"):
        StageSpec(block="b", filters=1, depth=1, arguments=arguments)


def test_json_errors_name_the_field(tiny_spec: ModelSpec) -> None:
    plain = json.loads(tiny_spec.to_json())
    with pytest.raises(InputError, match="This is no JSON"):
        ModelSpec.from_json("{")
    with pytest.raises(InputError, match="ModelSpec must be a JSON object"):
        ModelSpec.from_json("[]")
    with pytest.raises(InputError, match="StemSpec must be a JSON object"):
        ModelSpec.from_json(json.dumps(plain | {"stem": 3}))
    with pytest.raises(InputError, match="StageSpec: got an unexpected keyword argument 'filter'"):
        ModelSpec.from_json(json.dumps(plain | {"stages": [plain["stages"][0] | {"filter": 3}]}))
    with pytest.raises(InputError, match="`stages` must hold StageSpecs"):
        ModelSpec.from_json(json.dumps(plain | {"stages": 3}))
    del plain["head"]
    with pytest.raises(InputError, match="ModelSpec: missing 1 required keyword-only argument: 'head'"):
        ModelSpec.from_json(json.dumps(plain))
