"""The families of the zoo: published numbers, layer names, and what keyword arguments make of them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from zoo import MODELS, InputError, ModelSpec, PoolSpec, StemSpec, build_model, list_models, model_table, vary
from zoo.vary import round_filters, same_backbone

GOLDEN = Path(__file__).parent / "golden"
TEST_MODELS = [name for name in MODELS if name.startswith("test_")]
# Parameters, total and trainable, with 1,000 classes at 224 pixels, as `keras.applications` counts them. LeNet's
# are those of TensorFlow's tutorial, with 10 classes at 28 pixels.
PARAMETERS = {
    "lenet": (1_663_370, 1_663_370),
    "mobilenet_v1_0.25": (475_544, 470_072),
    "mobilenet_v1_0.5": (1_342_536, 1_331_592),
    "mobilenet_v1_0.75": (2_601_976, 2_585_560),
    "mobilenet_v1_1.0": (4_253_864, 4_231_976),
    "mobilenet_v1": (4_253_864, 4_231_976),
    "mobilenet_v2_0.35": (1_691_208, 1_677_128),
    "mobilenet_v2_0.5": (1_987_224, 1_968_680),
    "mobilenet_v2_0.75": (2_663_064, 2_636_424),
    "mobilenet_v2_1.0": (3_538_984, 3_504_872),
    "mobilenet_v2_1.3": (5_431_048, 5_386_792),
    "mobilenet_v2_1.4": (6_156_712, 6_108_776),
    "mobilenet_v2": (3_538_984, 3_504_872),
    "vgg16": (138_357_544, 138_357_544),
    "vgg19": (143_667_240, 143_667_240),
}
# That the models without a width are those of width 1 is a test of its own.
FAST = {"lenet", "mobilenet_v1_0.25", "mobilenet_v1_1.0", "mobilenet_v2_0.35", "mobilenet_v2_1.0", "vgg16"}
# Each family once, the smallest; EfficientNet-Lite has tests of its own.
NAMED = ["lenet", "vgg_nano", "vgg16", "separable_vgg_nano", "resnet20", "mobilenet_v1_0.25", "mobilenet_v2_0.35"]


def build(name: str, **arguments: Any) -> keras.Model:
    spec = MODELS[name]
    classes = 1000 if spec.channels == 3 else 10
    return build_model(name, **({"input_shape": spec.input_shape, "num_classes": classes} | arguments))


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS]
)
def test_parameters(name: str) -> None:
    model = build(name)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert (model.count_params(), trainable) == PARAMETERS[name]


@pytest.mark.parametrize("depth", [3, 5])
def test_parameters_of_residual_networks_follow_their_formula(depth: int) -> None:
    """6 n + 2 layers: kernels by hand; each is followed by a batch normalization of 4 per channel."""
    convolutions = [(3, 3, 16)]
    for before, channels in ((16, 16), (16, 32), (32, 64)):
        convolutions += [(3, before, channels), *[(3, channels, channels)] * (2 * depth - 1)]
        convolutions += [(1, before, channels)] if before != channels else []
    parameters = sum(size**2 * inputs * outputs + 4 * outputs for size, inputs, outputs in convolutions)
    assert build(f"resnet{6 * depth + 2}", num_classes=10).count_params() == parameters + 64 * 10 + 10


@pytest.mark.parametrize("name", NAMED)
def test_layer_names(name: str) -> None:
    """Layer names are a contract: weight maps, freezing and saved runs depend on them."""
    # A small image, so that VGG's flat head stays small; names do not depend on it.
    model = build(name, input_shape=(32, 32, MODELS[name].channels))
    expected = (GOLDEN / f"{name}_layers.txt").read_text(encoding="utf-8").split()
    assert [layer.name for layer in model.layers] == expected


def test_every_family_has_its_names_pinned() -> None:
    pinned = {MODELS[name].family for name in NAMED} | {"efficientnet_lite"}
    assert pinned == {spec.family for spec in (MODELS[name] for name in MODELS)}


@pytest.mark.parametrize("name", TEST_MODELS)
def test_the_small_model_of_each_family_learns_at_once(name: str, tmp_path: Path) -> None:
    spec = MODELS[name]
    model = build(name, num_classes=3)
    assert model.count_params() < 20_000
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    images = np.random.default_rng(0).integers(0, 256, (3, *spec.input_shape)).astype("float32")
    before = [np.array(variable) for variable in model.trainable_variables]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(images, np.array([0, 1, 2]))
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.isfinite(variable).all(), variable.path
        assert not np.array_equal(variable, old), variable.path


def test_there_is_a_small_model_of_each_family() -> None:
    assert {MODELS[name].family for name in TEST_MODELS} == {MODELS[name].family for name in MODELS}


def test_common_changes_are_keyword_arguments() -> None:
    model = build_model(
        "vgg_small", pool="soft", head_pool="gem", depth=3, width=0.5, input_shape=(28, 28, 1), num_classes=10
    )
    assert [type(model.get_layer(f"stage{n}_pool")).__name__ for n in (1, 2, 3)] == ["SoftPooling2D"] * 3
    assert type(model.get_layer("head_pool")).__name__ == "GlobalGemPooling2D"
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in (1, 2, 3):
            assert model.get_layer(f"stage{stage}_block{block}_conv").filters == filters
    with pytest.raises(ValueError, match="No such layer: stage1_block4_conv"):
        model.get_layer("stage1_block4_conv")
    assert model.output_shape == (None, 10)


def test_depth_by_stage() -> None:
    spec = vary(MODELS["mobilenet_v2"], depth=(1, 1, 1, 1, 1, 1, 2))
    assert [stage.depth for stage in spec.stages] == [1, 1, 1, 1, 1, 1, 2]
    assert [stage.depth for stage in vary(MODELS["vgg_tiny"], depth=4).stages] == [4, 4, 4]


def test_nothing_varied_is_the_same_spec() -> None:
    assert vary(MODELS["vgg16"]) == MODELS["vgg16"]
    assert vary(MODELS["efficientnet_lite0"], width=1.0) == MODELS["efficientnet_lite0"]


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith(("mobilenet_v1_", "mobilenet_v2_"))])
def test_width_makes_the_published_models(name: str) -> None:
    family, _, width = name.rpartition("_")
    assert dataclasses.replace(vary(MODELS[family], width=float(width)), name=name) == MODELS[name]


@pytest.mark.parametrize(
    ("filters", "divisor", "expected"),
    [(11.2, 8, 16), (44.8, 8, 48), (1280 * 1.3, 8, 1664), (3, 8, 8), (24.0, 1, 24), (25.9, 1, 25), (0.3, 1, 1)],
)
def test_filters_are_rounded_as_published(filters: float, divisor: int, expected: int) -> None:
    assert round_filters(filters, divisor) == expected


def test_pools_take_the_place_of_strides() -> None:
    spec = vary(MODELS["mobilenet_v2_0.35"], pool="blur")
    model = build_model(spec, input_shape=(64, 64, 3), num_classes=None)
    strided = [layer.name for layer in model.layers if getattr(layer, "strides", (1, 1)) == (2, 2)]
    assert strided == ["stem_conv", "stage2_pool", "stage3_pool", "stage4_pool", "stage6_pool"]
    names = [layer.name for layer in model.layers]
    assert names.index("stage2_pool") < names.index("stage2_block1_expand_conv")
    stock = build_model("mobilenet_v2_0.35", input_shape=(64, 64, 3), num_classes=None)
    assert model.get_layer("head_conv").output.shape == stock.get_layer("head_conv").output.shape
    assert [variable.shape for variable in model.weights] == [variable.shape for variable in stock.weights]


def test_a_stem_with_a_pool() -> None:
    spec = dataclasses.replace(MODELS["test_resnet"], stem=StemSpec(filters=4, pool=PoolSpec("max", {"pool_size": 3})))
    model = build_model(vary(spec, pool="soft"), input_shape=(32, 32, 3), num_classes=2)
    assert model.get_layer("stem_conv").strides == (1, 1)
    assert type(model.get_layer("stem_pool")).__name__ == "SoftPooling2D"
    assert model.get_layer("stem_pool").output.shape == (None, 16, 16, 4)


def test_a_spec_in_a_file_rebuilds_the_model(tmp_path: Path) -> None:
    spec = vary(MODELS["test_resnet"], pool=PoolSpec("gem", {"p": 2.0}), head_pool="attention", width=1.5)
    spec.save(tmp_path / "spec.json")
    model = build_model(spec, input_shape=(32, 32, 3), num_classes=4)
    again = build_model(ModelSpec.load(tmp_path / "spec.json"), input_shape=(32, 32, 3), num_classes=4)
    again.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    np.testing.assert_array_equal(again(images), model(images))


def test_drop_rate_puts_stochastic_depth_before_the_sums() -> None:
    for name in ("test_resnet", "test_mobilenet_v2"):
        spec = MODELS[name]
        stages = tuple(
            dataclasses.replace(stage, arguments=dict(stage.arguments) | {"drop_rate": 0.1}) for stage in spec.stages
        )
        model = build_model(dataclasses.replace(spec, stages=stages), input_shape=(32, 32, 3), num_classes=2)
        names = [layer.name for layer in model.layers]
        sums = [name for name in names if name.endswith("_add")]
        assert sums
        for each in sums:
            drop = model.get_layer(f"{each.removesuffix('add')}drop")
            assert (type(drop).__name__, drop.rate) == ("StochasticDepth", 0.1)
        assert len([each for each in names if each.endswith("_drop")]) == len(sums)


def test_preprocessing_of_vgg_is_that_of_caffe() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    model = build_model("vgg11", input_shape=(32, 32, 3), num_classes=None)
    normalised = keras.Model(model.input, model.get_layer("stage1_block1_conv").input)(images)
    np.testing.assert_allclose(normalised, keras.applications.vgg16.preprocess_input(images.copy()), atol=1e-5)
    # Grey images get the mean of the three.
    grey = build_model("vgg11", input_shape=(32, 32, 1), num_classes=None)
    mean = (123.68 + 116.779 + 103.939) / 3
    np.testing.assert_allclose(grey.get_layer("preprocess")(images[..., :1]), images[..., :1] - mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"depth": 0},
            "`depth` must be a positive int, or 3 of them, one for each stage of vgg_nano. Received: depth=0",
        ),
        ({"depth": (1, 2)}, "`depth` must be a positive int, or 3 of them"),
        ({"width": 0}, "`width` must be a number above zero. Received: width=0"),
        ({"width": "1"}, "`width` must be a number above zero. Received: width='1'"),
        ({"pool": 2}, "A pool must be a name or a PoolSpec. Received: 2"),
        ({"pool": "sofft"}, "Stage 1 of vgg_nano: Unknown pool 'sofft'. Did you mean soft?"),
        ({"head_pool": "soft"}, "The head of vgg_nano: The pool 'soft' stands between layers; in the head there are"),
        (
            {"pool": PoolSpec("max", {"pool_size": 7, "padding": "valid"})},
            "Stage 3 of vgg_nano: The pool 'max': the feature map becomes smaller than 1 pixel here. Give larger",
        ),
        (
            {"pool": PoolSpec("soft", {"pool_size": 7, "padding": "valid"})},
            "Stage 3 of vgg_nano: The pool 'soft': the feature map becomes smaller than 1 pixel here. Give larger",
        ),
        ({"input_shape": (4, 32, 3)}, "vgg_nano reduces images 8 times: in stage 3 less than 1 of 4 pixels would be"),
        ({"head_pool": "flatten", "input_shape": (None, None, 3)}, "The head of vgg_nano: The pool 'flatten' needs"),
    ],
)
def test_mistakes_name_the_part(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        build("vgg_nano", **change)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_heads_refuse_what_they_have_no_use_for() -> None:
    spec = MODELS["test_mobilenet_v2"]
    for head, message in (
        (dataclasses.replace(spec.head, filters=None), "'conv' needs `filters`"),
        (dataclasses.replace(spec.head, name="pool"), "'pool' has no convolution: leave out `filters`"),
    ):
        with pytest.raises(InputError, match=rf"^The head of test_mobilenet_v2: {message}"):
            build_model(dataclasses.replace(spec, head=head), input_shape=(32, 32, 3), num_classes=2)


def test_backbones_are_compared_without_pools_strides_and_heads() -> None:
    spec = MODELS["vgg16"]
    same = vary(spec, pool="soft", head_pool="avg")
    assert same_backbone(spec, dataclasses.replace(same, name="mine", image_size=64))
    assert not same_backbone(spec, vary(spec, width=0.5))
    assert not same_backbone(spec, MODELS["vgg19"])
    assert not same_backbone(spec, dataclasses.replace(spec, style=dataclasses.replace(spec.style, batch_norm=True)))


README = Path(__file__).parents[2] / "zoo" / "README.md"


def documented_table() -> list[str]:
    section = README.read_text(encoding="utf-8").partition("## Models\n")[2]
    return [line for line in section.splitlines() if line.startswith("|")]


def test_the_documented_table_has_all_models() -> None:
    rows = documented_table()
    assert [row.split("`")[1] for row in rows[2:]] == list_models()
    few = [name for name in list_models() if name in {*TEST_MODELS, "lenet", "vgg_small", "mobilenet_v1_0.25"}]
    expected = model_table(few).splitlines()
    assert rows[:2] == expected[:2]
    # If this fails: put what `zoo.model_table()` returns into zoo/README.md.
    assert set(expected) <= set(rows)


@pytest.mark.slow
def test_the_documented_table_is_current() -> None:
    assert model_table().splitlines() == documented_table()
