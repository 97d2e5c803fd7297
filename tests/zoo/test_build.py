import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from zoo import HeadSpec, InputError, ModelSpec, StyleSpec, build_model
from zoo.blocks import BLOCKS

TINY_LAYERS = [
    "image",
    "preprocess",
    "stem_conv",
    "stem_norm",
    "stem_activation",
    "stage1_block1_depthwise_conv",
    "stage1_block1_depthwise_norm",
    "stage1_block1_depthwise_activation",
    "stage1_block1_project_conv",
    "stage1_block1_project_norm",
    "stage1_block1_add",
    "stage2_block1_expand_conv",
    "stage2_block1_expand_norm",
    "stage2_block1_expand_activation",
    "stage2_block1_depthwise_conv",
    "stage2_block1_depthwise_norm",
    "stage2_block1_depthwise_activation",
    "stage2_block1_project_conv",
    "stage2_block1_project_norm",
    "stage2_block2_expand_conv",
    "stage2_block2_expand_norm",
    "stage2_block2_expand_activation",
    "stage2_block2_depthwise_conv",
    "stage2_block2_depthwise_norm",
    "stage2_block2_depthwise_activation",
    "stage2_block2_project_conv",
    "stage2_block2_project_norm",
    "stage2_block2_add",
    "head_conv",
    "head_norm",
    "head_activation",
    "head_pool",
    "head_dropout",
    "head_logits",
]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 16, 12, 3)).astype("float32")


def test_layer_names_and_plainness(tiny_spec: ModelSpec) -> None:
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    assert [layer.name for layer in model.layers] == TINY_LAYERS
    assert model.name == "tiny"
    assert model.output_shape == (None, 5)
    assert type(model).__name__ == "Functional"
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    # A second model gets the same names: none depends on Keras's global counters.
    again = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    assert [layer.name for layer in again.layers] == TINY_LAYERS


def test_without_classes_the_model_ends_after_the_pool(tiny_spec: ModelSpec, images: np.ndarray) -> None:
    full = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    features = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=None)
    assert [layer.name for layer in features.layers] == TINY_LAYERS[:-2]
    features.set_weights(full.get_weights()[:-2])
    expected = keras.Model(full.input, full.get_layer("head_pool").output)(images)
    np.testing.assert_array_equal(features(images), expected)


def test_preprocessing_is_the_first_layer_and_can_be_left_out(tiny_spec: ModelSpec, images: np.ndarray) -> None:
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    bare = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5, include_preprocessing=False)
    assert [layer.name for layer in bare.layers] == [name for name in TINY_LAYERS if name != "preprocess"]
    pixels = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(model.get_layer("preprocess")(pixels), (pixels - 127) / 128)
    bare.set_weights(model.get_weights())
    np.testing.assert_array_equal(model(images), bare((images - 127) / 128))


def test_takes_uint8_images(tiny_spec: ModelSpec, images: np.ndarray) -> None:
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    np.testing.assert_array_equal(model(images.astype("uint8")), model(images))


def test_takes_images_of_any_size(tiny_spec: ModelSpec, images: np.ndarray) -> None:
    fixed = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    model = build_model(tiny_spec, input_shape=(None, None, 3), num_classes=5)
    model.set_weights(fixed.get_weights())
    np.testing.assert_allclose(model(images), fixed(images), atol=1e-6)


def test_saves_and_loads(tiny_spec: ModelSpec, images: np.ndarray, tmp_path: Path) -> None:
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    model.save(tmp_path / "model.keras")
    revived = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in revived.layers] == TINY_LAYERS
    np.testing.assert_array_equal(revived(images), model(images))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float32", "float64"])
def test_logits_are_float32_under_every_policy(
    tiny_spec: ModelSpec, images: np.ndarray, tmp_path: Path, keras_settings: None, policy: str
) -> None:
    keras.config.set_dtype_policy(policy)
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    assert model(images).dtype == "float32"
    assert build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=None)(images).dtype == "float32"
    assert model.get_layer("stem_conv").dtype_policy.name == policy
    # What was normalised in 16 bits could not tell neighbouring pixel values apart.
    assert model.get_layer("preprocess").compute_dtype == "float32"
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    revived = keras.saving.load_model(tmp_path / "model.keras")
    assert revived.get_layer("stem_conv").dtype_policy.name == policy
    np.testing.assert_array_equal(revived(images), model(images))


def test_initial_weights_follow_the_seed(tiny_spec: ModelSpec) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(seed)
        return build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_equal_shapes_start_with_different_values(tiny_spec: ModelSpec) -> None:
    spec = dataclasses.replace(
        tiny_spec, stages=(*tiny_spec.stages[:1], dataclasses.replace(tiny_spec.stages[1], depth=3))
    )
    model = build_model(spec, input_shape=(16, 12, 3), num_classes=5)
    second = model.get_layer("stage2_block2_expand_conv").kernel
    third = model.get_layer("stage2_block3_expand_conv").kernel
    assert second.shape == third.shape
    assert not np.array_equal(second, third)


def test_style_reaches_the_layers(tiny_spec: ModelSpec) -> None:
    spec = dataclasses.replace(
        tiny_spec,
        style=StyleSpec(activation="silu", norm_momentum=0.9, norm_epsilon=1e-5),
        head=HeadSpec(filters=8, dropout=0.25),
    )
    model = build_model(spec, input_shape=(16, 12, 3), num_classes=5)
    assert model.get_layer("stage2_block1_expand_activation").activation is keras.activations.silu
    assert model.get_layer("head_norm").momentum == 0.9
    assert model.get_layer("stage1_block1_project_norm").epsilon == 1e-5
    assert model.get_layer("head_dropout").rate == 0.25


def test_a_block_of_the_user(tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BLOCKS, "_entries", dict(BLOCKS._entries))

    @BLOCKS.register("plain")
    def plain(inputs: Any, *, filters: int, strides: int, style: StyleSpec, name: str, groups: int = 1) -> Any:
        return keras.layers.Conv2D(filters, 3, strides=strides, groups=groups, name=f"{name}_conv")(inputs)

    stage = dataclasses.replace(tiny_spec.stages[1], block="plain", arguments={"groups": 2})
    spec = dataclasses.replace(tiny_spec, stages=(stage,))
    model = build_model(spec, input_shape=(16, 16, 3), num_classes=5)
    assert model.get_layer("stage1_block2_conv").groups == 2
    with pytest.raises(InputError, match=r"Stage 1 of tiny: block 'plain': .*unexpected keyword argument 'g'"):
        build_model(
            dataclasses.replace(spec, stages=(dataclasses.replace(stage, arguments={"g": 2}),)),
            input_shape=(16, 16, 3),
            num_classes=5,
        )
    with pytest.raises(InputError, match="multiple values for keyword argument 'filters'"):
        build_model(
            dataclasses.replace(spec, stages=(dataclasses.replace(stage, arguments={"filters": 2}),)),
            input_shape=(16, 16, 3),
            num_classes=5,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": (16, 16)}, "`input_shape` must be (height, width, channels)"),
        ({"input_shape": 16}, "`input_shape` must be (height, width, channels)"),
        ({"input_shape": (16, 16, None)}, "`input_shape` must be (height, width, channels)"),
        ({"input_shape": (16, 0, 3)}, "`input_shape` must be (height, width, channels)"),
        (
            {"input_shape": (16, 3, 3)},
            "tiny reduces images 4 times: in stage 2 less than 1 of 3 pixels would be left. Give images of at least "
            "4 pixels a side, or lower the `strides` of stage 2 in the spec. Received: input_shape=(16, 3, 3)",
        ),
        ({"input_shape": (1, 16, 3)}, "tiny reduces images 4 times: in the stem less than 1 of 1 pixels"),
        ({"num_classes": 0}, "`num_classes` must be a positive int, or None"),
        ({"num_classes": True}, "`num_classes` must be a positive int, or None"),
        ({"weights": 3}, "`weights` must be a name, a path or None. Received: weights=3"),
        (
            {"weights": "imagenett"},
            "There is no file 'imagenett'. `weights` must be the path of a file, None, or",
        ),
        (
            {"weights": "imagenet"},
            "There are no pretrained weights 'imagenet' for tiny. Models that have them: vgg16, ",
        ),
    ],
)
def test_bad_arguments_are_refused(tiny_spec: ModelSpec, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"input_shape": (16, 16, 3), "num_classes": 5} | change
    with pytest.raises(InputError) as error:
        build_model(tiny_spec, **arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("stem", "cnv", "The stem of tiny: Unknown stem 'cnv'. Did you mean conv?"),
        ("head", "cnv", "The head of tiny: Unknown head 'cnv'. Did you mean conv?"),
        (
            "stages",
            "inverted_residuals",
            "Stage 1 of tiny: Unknown block 'inverted_residuals'. Did you mean inverted_residual",
        ),
        ("style", "relu7", "Keras knows no activation 'relu7', which the style of tiny names."),
    ],
)
def test_unknown_parts_are_refused(tiny_spec: ModelSpec, part: str, name: str, message: str) -> None:
    changed: Any
    if part == "stages":
        changed = (dataclasses.replace(tiny_spec.stages[0], block=name),)
    else:
        field = "activation" if part == "style" else "name"
        changed = dataclasses.replace(getattr(tiny_spec, part), **{field: name})
    with pytest.raises(InputError) as error:
        build_model(dataclasses.replace(tiny_spec, **{part: changed}), input_shape=(16, 16, 3), num_classes=5)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("name", ["efficientnet_lite5", None, ["efficientnet_lite0"]])
def test_unknown_model_is_refused(name: Any) -> None:
    with pytest.raises(InputError) as error:
        build_model(name, input_shape=(32, 32, 3), num_classes=5)
    assert str(error.value).startswith(f"Unknown model {name!r}. ")
    assert " vgg16, " in str(error.value).partition("Available: ")[2]


def test_channels_first_is_refused(tiny_spec: ModelSpec, keras_settings: None) -> None:
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(InputError, match=r"set_image_data_format\('channels_last'\)"):
        build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=5)
