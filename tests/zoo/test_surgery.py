import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from custom_ops.layers import GemPooling2D, LipPooling2D, SoftPooling2D
from zoo import (
    InputError,
    ModelSpec,
    PoolSpec,
    adapt_input_channels,
    build_model,
    cuts,
    feature_extractor,
    replace_head,
    split,
    swap_pooling,
)
from zoo.graph import Graph, copy_model


def pixels(model: keras.Model, seed: int = 0) -> np.ndarray:
    shape = [size or 2 for size in model.input_shape]
    return np.random.default_rng(seed).uniform(0, 255, shape).astype("float32")


def relative_error(actual: Any, expected: Any) -> float:
    assert np.ptp(expected) > 0
    return float(np.abs(np.asarray(actual) - np.asarray(expected)).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def stock() -> Callable[[str], keras.Model]:
    """A function that builds small networks of keras.applications, with logits, once."""
    built: dict[str, keras.Model] = {}

    def get(name: str) -> keras.Model:
        if name not in built:
            keras.utils.set_random_seed(0)
            constructor = getattr(keras.applications, name)
            built[name] = constructor(weights=None, input_shape=(32, 32, 3), classes=7, classifier_activation=None)
        return built[name]

    return get


@pytest.fixture
def tiny(tiny_spec: ModelSpec) -> keras.Model:
    return build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=5)


# ---------------------------------------------------------------------------------------------- cuts and split


def separates(model: keras.Model, operation: Any) -> bool:
    """Whether every path from the input to the output leads through an operation, by trying to get past it."""
    readers: dict[str, set[str]] = {each.name: set() for each in model.operations}
    producer = {id(tensor): each.name for each in model.operations for tensor in keras.tree.flatten(each.output)}
    for each in model.operations:
        for tensor in keras.tree.flatten(each.input):
            if producer[id(tensor)] != each.name:
                readers[producer[id(tensor)]].add(each.name)
    pending, seen = [model.operations[0].name], {operation.name}
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += readers[name]
    return model.operations[-1].name not in seen or operation is model.operations[-1]


PARTS = st.lists(st.sampled_from(["conv", "residual", "branches", "gate", "far"]), min_size=1, max_size=5)


def grow(x: Any, part: str, earlier: Any) -> Any:
    conv = layers.Conv2D(2, 3, padding="same")
    if part == "conv":
        return conv(x)
    if part == "residual":
        return layers.Add()([x, layers.Conv2D(2, 1)(conv(x))])
    if part == "branches":
        return layers.Conv2D(2, 1)(layers.Concatenate()([conv(x), layers.ReLU()(x)]))
    if part == "gate":
        return x * layers.GlobalAveragePooling2D(keepdims=True)(conv(x))
    return conv(x) + earlier


@settings(deadline=None, max_examples=15)
@given(parts=PARTS)
def test_cuts_are_the_places_that_separate_input_and_output(parts: list[str]) -> None:
    inputs = keras.Input((6, 6, 2))
    earlier = x = layers.ReLU()(inputs)
    for part in parts:
        x, earlier = grow(x, part, earlier), x
    model = keras.Model(inputs, layers.ReLU()(x))
    expected = [each.name for each in model.operations[1:-1] if separates(model, each)]
    assert list(cuts(model)) == expected
    graph = Graph(model)
    ends = [graph.calls[segment[-1]].name for segment in graph.segments()]
    assert ends == [model.operations[0].name, *expected, model.operations[-1].name]
    assert [index for segment in graph.segments() for index in segment] == list(range(len(model.operations)))
    images = pixels(model)
    for name in expected:
        prefix, suffix = split(model, name)
        np.testing.assert_array_equal(suffix(prefix(images)), model(images))
        # Cuts of the parts are those of the whole, also of parts of parts, whose layers are called in each.
        assert [*cuts(prefix), name, *cuts(suffix)] == expected
    for operation in model.operations:
        if operation.name not in expected:
            with pytest.raises(InputError, match="cannot be cut behind"):
                split(model, operation.name)


def check_split(model: keras.Model, name: str) -> None:
    images = pixels(model)
    prefix, suffix = split(model, name)
    np.testing.assert_array_equal(suffix(prefix(images)), model(images))
    assert suffix.inputs[0].shape == prefix.outputs[0].shape
    assert suffix.inputs[0].dtype == prefix.outputs[0].dtype
    assert [id(weight) for weight in (*prefix.weights, *suffix.weights)] == [id(weight) for weight in model.weights]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("MobileNetV2", ["Conv1_relu", "block_15_add", "block_16_project_BN", "out_relu"]),
        ("MobileNetV3Small", ["expanded_conv_5_add", "flatten"]),
    ],
)
def test_split_of_stock_networks(name: str, places: list[str], stock: Callable[[str], keras.Model]) -> None:
    model = stock(name)
    assert [call.operation for call in Graph(model).calls] == model.operations
    for place in places:
        # Keras numbers automatic names by what was built before.
        check_split(model, next(name for name in cuts(model) if re.fullmatch(rf"{place}(_\d+)?", name)))


def test_split_of_a_model_of_the_zoo(tiny: keras.Model) -> None:
    assert cuts(tiny)[0] == "preprocess"
    assert cuts(tiny)[-3:] == ("head_activation", "head_pool", "head_dropout")
    for name in ("preprocess", "stage2_block2_add", "head_pool"):
        check_split(tiny, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("MobileNet", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny", "ResNet50", "ResNet50V2", "DenseNet121"),
        *("VGG16", "Xception", "InceptionV3", "InceptionResNetV2", "NASNetMobile"),
    ],
)
def test_every_family(name: str, tmp_path: Path) -> None:
    size = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}.get(name, 32)
    shape = {"input_shape": (size, size, 3)}
    constructor = getattr(keras.applications, name)
    model = constructor(weights=None, classes=7, classifier_activation=None, **shape)
    found = cuts(model)
    for place in (found[0], found[len(found) // 2], found[-1]):
        check_split(model, place)
    images = pixels(model)
    expected = model(images)
    copy = copy_model(model)
    np.testing.assert_array_equal(copy(images), expected)
    assert [operation.name for operation in copy.operations] == [operation.name for operation in model.operations]

    grey = images[..., :1]
    colour = model(np.repeat(grey, 3, axis=-1))
    assert relative_error(adapt_input_channels(model, 1)(grey), colour) < 1e-4
    assert relative_error(adapt_input_channels(model, 6)(np.concatenate([images, images], -1)), expected) < 1e-4

    features = replace_head(model, None)
    headless = constructor(weights=None, include_top=False, **shape)
    for new in (replace_head(model, 3), replace_head(headless, 3, dropout=0.1)):
        assert new.output_shape == (None, 3)
        assert new.layers[-1].name == "head_logits"
    np.testing.assert_array_equal(split(replace_head(model, 3), features.layers[-1].name)[0](images), features(images))
    if name != "VGG16":
        by_mean = swap_pooling(features, head_pool=PoolSpec("gem", {"p": 1.0}))
        assert relative_error(by_mean(np.abs(images)), features(images)) > 0  # some activations are below zero
    # ConvNeXt begins with a stride of 4, and two tensors cross between any two cells of NASNet.
    strides = {"ConvNeXtTiny": (4, 8), "NASNetMobile": (2, 32)}.get(name, (2, 4))
    pyramid = feature_extractor(headless, strides)
    pyramid.save(tmp_path / "pyramid.keras")
    loaded = keras.models.load_model(tmp_path / "pyramid.keras")
    for one, other in zip(loaded(images), pyramid(images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_the_suffix_trains_the_model(tiny: keras.Model) -> None:
    prefix, suffix = split(tiny, "stage2_block1_project_norm")
    activations = prefix.predict(pixels(tiny), verbose=0)
    before = [np.array(weight) for weight in tiny.weights]
    suffix.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    suffix.fit(activations, np.array([0, 1]), verbose=0)
    changed = {weight.path for weight, old in zip(tiny.weights, before, strict=True) if not np.array_equal(weight, old)}
    assert changed == {weight.path for weight in suffix.weights if "moving" in weight.path or weight.trainable}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "stage2_block2_depthwise_norm",
            "more than one tensor crosses there. The nearest cuts: 'stage2_block1_project_norm' before and "
            "'stage2_block2_add' after it",
        ),
        ("image", "nothing stands before it"),
        ("head_logits", "nothing stands after it"),
        ("head_pol", "Unknown layer 'head_pol'. Did you mean head_pool"),
    ],
)
def test_a_wrong_cut_names_the_right_ones(layer: str, message: str, tiny: keras.Model) -> None:
    with pytest.raises(InputError, match=message):
        split(tiny, layer)


def test_cuts_of_unusual_graphs() -> None:
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    shared = layers.Dense(4, name="shared")
    total = layers.Add(name="total")([shared(shared(first)), second])
    twice = layers.ReLU(name="twice")(total)
    # A second input is there from the beginning, an early output crosses to the end, and a name may mean two places.
    assert cuts(keras.Model([first, second], twice)) == ("total",)
    early = keras.Model([first, second], [total, layers.ReLU(name="thrice")(twice)])
    assert cuts(early) == ()
    with pytest.raises(InputError, match="it is an output of the model"):
        split(early, "total")
    alone = keras.Model(first, layers.ReLU()(shared(shared(first))))
    assert cuts(alone) == ()
    with pytest.raises(InputError, match="it is called more than once"):
        split(alone, "shared")


def test_split_of_a_sequential_and_of_its_part() -> None:
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4, name=name) for name in "abcd")])
    prefix, suffix = split(model, "b")
    middle, last = split(suffix, "c")
    x = pixels(model)
    np.testing.assert_allclose(last(middle(prefix(x))), model(x))
    assert cuts(model) == ("a", "b", "c")


# ------------------------------------------------------------------------------------------- feature extractor


def test_features_by_stride_are_those_that_are_known(stock: Callable[[str], keras.Model]) -> None:
    model = stock("MobileNetV2")
    # As in TensorFlow's tutorial on segmentation; its last one is the projection before the last convolution.
    names = [*(f"block_{block}_expand_relu" for block in (1, 3, 6, 13)), "block_16_project"]
    by_name, by_stride = feature_extractor(model, names), feature_extractor(model, (2, 4, 8, 16))
    images = pixels(model)
    for one, other in zip(by_name(images), by_stride(images), strict=False):
        np.testing.assert_array_equal(one, other)
    assert by_name.output_shape[-1] == (None, 1, 1, 320)


def test_features_by_stage(tiny: keras.Model) -> None:
    features = feature_extractor(tiny, ["stage1", "stage2_block1", "stem_conv", "head_pool"])
    names = [each._keras_history.operation.name for each in features.outputs]
    assert names == ["stage1_block1_add", "stage2_block1_project_norm", "stem_conv", "head_pool"]
    assert [id(weight) for weight in features.weights] == [id(weight) for weight in tiny.weights[:-2]]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((8,), r"output stride 8.*There are: 1 \(preprocess\), 2 \(.*\), 4 \(head_activation\)"),
        (("head_pol",), "Unknown layer 'head_pol'. Did you mean head_pool"),
        ((), "must be a sequence"),
        ("stage1", "must be a sequence"),
    ],
)
def test_wrong_stages(stages: Any, message: str, tiny: keras.Model) -> None:
    with pytest.raises(InputError, match=message):
        feature_extractor(tiny, stages)


# ----------------------------------------------------------------------------------------------------- pooling


def pooled(pool: Callable[[str], Any], head: Callable[[str], Any]) -> keras.Model:
    """A network with windowed pooling of two kinds, pooling with strides of 1, and a gate."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 12, 3))
    x = pool("pool1")(layers.Conv2D(4, 3, padding="same", name="conv1")(x))
    x = layers.Concatenate(name="join")([x, layers.AveragePooling2D(3, 1, "same", name="smooth")(x)])
    x = layers.Multiply(name="gated")([x, layers.GlobalAveragePooling2D(keepdims=True, name="gate")(x)])
    x = pool("pool2")(layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x))
    return keras.Model(inputs, layers.Dense(2, name="head_logits")(head("head_pool")(x)))


def maximum(name: str) -> Any:
    return layers.MaxPooling2D(3, 2, "same", name=name)


def mean(name: str) -> Any:
    return layers.GlobalAveragePooling2D(name=name)


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ({"pool": "soft"}, lambda: pooled(lambda name: SoftPooling2D(3, 2, "same", name=name), mean)),
        (
            {"pool": PoolSpec("gem", {"p": 4.0, "pool_size": 2, "padding": "valid"})},
            lambda: pooled(lambda name: GemPooling2D(2, 2, "valid", p=4.0, name=name), mean),
        ),
        (
            {"pool": lambda old: layers.AveragePooling2D(old.pool_size, 2, "same", name=old.name), "head_pool": "max"},
            lambda: pooled(
                lambda name: layers.AveragePooling2D(3, 2, "same", name=name),
                lambda name: layers.GlobalMaxPooling2D(name=name),
            ),
        ),
        (
            {"head_pool": lambda old: layers.GlobalMaxPooling2D(name=old.name)},
            lambda: pooled(maximum, lambda name: layers.GlobalMaxPooling2D(name=name)),
        ),
    ],
    ids=["name", "spec", "function", "head"],
)
def test_pooling_becomes_what_it_would_have_been(arguments: dict[str, Any], same: Callable[[], keras.Model]) -> None:
    model = pooled(maximum, mean)
    images = pixels(model) / 255
    before = model(images).numpy()
    swapped, expected = swap_pooling(model, **arguments), same()
    assert [layer.name for layer in swapped.layers[1:]] == [layer.name for layer in expected.layers[1:]]
    for layer in expected.layers:
        if layer.name.startswith(("conv", "head_logits")):
            layer.set_weights(model.get_layer(layer.name).get_weights())
    np.testing.assert_array_equal(swapped(images), expected(images))
    np.testing.assert_array_equal(model(images), before)
    assert relative_error(swapped(images), before) > 1e-3


def test_only_some_pooling_is_swapped() -> None:
    swapped = swap_pooling(pooled(maximum, mean), "avg", only=["smooth", "pool2"])
    kinds = {layer.name: type(layer).__name__ for layer in swapped.layers}
    assert (kinds["pool1"], kinds["pool2"]) == ("MaxPooling2D", "AveragePooling2D")
    lip = swap_pooling(pooled(maximum, mean), "lip")
    assert isinstance(lip.get_layer("pool1"), LipPooling2D)
    # What pools by importance reads two tensors; another one takes its place again, and the logits go.
    back = swap_pooling(lip, "max")
    assert [layer.name for layer in back.layers] == [
        layer.name for layer in lip.layers if not layer.name.endswith("_logits") or layer.name == "head_logits"
    ]


def test_head_pooling_that_keeps_its_dimensions(stock: Callable[[str], keras.Model]) -> None:
    model = stock("MobileNetV3Small")
    swapped = swap_pooling(model, head_pool="avg")
    assert relative_error(swapped(pixels(model)), model(pixels(model))) < 1e-5
    # Those of squeeze-and-excitation are as they were.
    pools = [layer for layer in swapped.layers if isinstance(layer, layers.GlobalAveragePooling2D)]
    assert [layer.keepdims for layer in pools].count(False) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs `pool`, `head_pool` or both"),
        ({"pool": "sofd"}, "Unknown pool 'sofd'. Did you mean soft"),
        ({"pool": "avg_max"}, "ends a network"),
        ({"head_pool": "soft"}, "stands between layers"),
        ({"pool": "max", "only": ["pool3"]}, "Unknown pooling layer 'pool3'. Did you mean pool"),
        ({"pool": PoolSpec("gem", {"q": 2})}, "Unknown argument of the pool 'gem'"),
        ({"head_pool": "spatial_pyramid"}, "weights of the layer 'head_logits' do not fit"),
    ],
)
def test_wrong_pooling(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        swap_pooling(pooled(maximum, mean), **arguments)


def test_nothing_to_swap(tiny: keras.Model) -> None:
    with pytest.raises(InputError, match=r"no pooling layer that makes.*`only`: none"):
        swap_pooling(tiny, "max")
    with pytest.raises(InputError, match="no global pooling"):
        swap_pooling(split(tiny, "head_activation")[0], head_pool="max")
    oblong = keras.Sequential([keras.Input((8, 8, 1)), layers.MaxPooling2D((2, 1), name="oblong")])
    with pytest.raises(InputError, match="'oblong' has pool_size"):
        swap_pooling(oblong, "avg")


# -------------------------------------------------------------------------------------------------------- head


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_new_classifier_reads_what_the_old_one_read(name: str, stock: Callable[[str], keras.Model]) -> None:
    model = stock(name)
    new = replace_head(model, 3)
    assert new.output_shape == (None, 3)
    assert new.layers[0].name == model.layers[0].name
    classifier = {"MobileNetV2": "predictions", "MobileNetV3Small": "logits"}[name]
    kernel, bias = model.get_layer(classifier).get_weights()
    new.get_layer("head_logits").set_weights([kernel.reshape(-1, 7)[:, :3], bias[:3]])
    assert relative_error(new(pixels(model)), model(pixels(model))[:, :3]) < 1e-5


def test_head_of_a_feature_map_and_of_features(tiny_spec: ModelSpec) -> None:
    bare = build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=None)
    feature_map, _ = split(bare, "head_activation")
    images = pixels(bare)
    for model in (bare, feature_map):
        new = replace_head(model, 4, dropout=0.5)
        assert [layer.name for layer in new.layers[-3:]] == ["head_pool", "head_dropout", "head_logits"]
        np.testing.assert_array_equal(split(new, "head_pool")[0](images), bare(images))
        # A layer of its own: the old model learns nothing from the training of the new one.
        assert new.get_layer("stem_conv") is not model.get_layer("stem_conv")
    again = replace_head(new, 2, dropout=0.25)
    assert [layer.name for layer in again.layers] == [layer.name for layer in new.layers]
    assert again.get_layer("head_dropout").rate == 0.25
    assert replace_head(new, 2).get_layer("head_dropout").rate == 0.5
    assert "head_dropout" not in [layer.name for layer in replace_head(new, 2, dropout=0.0).layers]
    np.testing.assert_array_equal(replace_head(new, None)(images), bare(images))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "positive int or None"),
        ({"num_classes": True}, "positive int or None"),
        ({"num_classes": 2, "dropout": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_wrong_heads(arguments: dict[str, Any], message: str, tiny: keras.Model) -> None:
    with pytest.raises(InputError, match=message):
        replace_head(tiny, **arguments)
    with pytest.raises(InputError, match="single output"):
        replace_head(feature_extractor(tiny, ["stage1", "stage2"]), 2)
    sequence = keras.Input((4, 4))
    with pytest.raises(InputError, match=r"shape \(None, 4, 4\)"):
        replace_head(keras.Model(sequence, layers.ReLU()(sequence)), 2)


# ---------------------------------------------------------------------------------------------------- channels


def preprocessed(*parts: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="image")
    for part in parts:
        x = part(x)
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.ReLU()(x))))


def adapted_normalization() -> layers.Normalization:
    layer = layers.Normalization(name="normal")
    layer.build((None, 8, 8, 3))
    layer.set_weights([np.array([10, 20, 30], "float32"), np.array([4, 5, 6], "float32"), np.array(0)])
    layer.finalize_state()
    return layer


def batch_norm(gamma: list[float]) -> layers.BatchNormalization:
    layer = layers.BatchNormalization(name="norm")
    layer.build((None, 8, 8, 3))
    layer.gamma.assign(gamma)
    return layer


def flip(x: Any) -> Any:
    return keras.ops.flip(x, axis=-1)


MEAN = [123.0, 116.0, 103.0]
STEMS: dict[str, tuple[list[Callable[[Any], Any]], bool]] = {
    # What stands before the first convolution, and whether it treats all colours alike.
    "nothing": ([], True),
    "rescaling": ([layers.Rescaling(1 / 127.5, -1)], True),
    "flip": ([lambda x: x[..., ::-1]], True),
    "flip after means": ([layers.Rescaling(1.0, [-each for each in MEAN]), flip], False),
    "flip before means": ([flip, layers.Normalization(mean=MEAN, variance=[1.0, 2.0, 3.0]), flip], False),
    "adapted": ([layers.Rescaling([1.0, 1.0, 1.0]), adapted_normalization(), layers.ZeroPadding2D(1)], False),
    "norm": ([batch_norm([2.0, 2.0, 2.0])], True),
    "uneven norm": ([batch_norm([1.0, 2.0, 3.0])], False),
    "depthwise": ([layers.DepthwiseConv2D(3, name="depthwise")], False),
    "separable": ([layers.SeparableConv2D(5, 3, name="separable")], False),
    "nested": ([keras.Sequential([layers.Rescaling(2.0), layers.Conv2D(5, 2), layers.LayerNormalization()])], True),
    "nested means": ([keras.Sequential([layers.Rescaling([1.0, 2.0, 3.0]), layers.ReLU()])], False),
}


@pytest.mark.parametrize("name", STEMS)
def test_channels(name: str) -> None:
    parts, alike = STEMS[name]
    model = preprocessed(*parts)
    images = pixels(model)
    expected = model(images).numpy()

    grey = adapt_input_channels(model, 1)
    assert grey.input_shape == (None, 8, 8, 1)
    colour = model(np.repeat(images[..., :1], 3, axis=-1))
    assert relative_error(grey(images[..., :1]), colour) < 1e-5
    assert ("repeat_channels" in [layer.name for layer in grey.layers]) != alike

    # Each colour stands there twice, at half its weight.
    double = adapt_input_channels(model, 6)
    assert relative_error(double(np.concatenate([images, images], axis=-1)), expected) < 1e-5
    np.testing.assert_array_equal(adapt_input_channels(model, 3)(images), expected)
    np.testing.assert_array_equal(model(images), expected)
    names = [layer.name for layer in model.layers]
    assert [layer.name for layer in double.layers] == names


def test_kernels_of_two_and_four_channels() -> None:
    model = preprocessed(layers.Rescaling(1.0, [-1.0, -2.0, -3.0], name="preprocess"))
    kernel, bias = model.get_layer("conv").get_weights()
    for channels in (2, 4):
        adapted = adapt_input_channels(model, channels)
        colours = [channel % 3 for channel in range(channels)]
        new_kernel, new_bias = adapted.get_layer("conv").get_weights()
        np.testing.assert_allclose(new_kernel, kernel[:, :, colours] * 3 / channels, rtol=1e-6)
        np.testing.assert_array_equal(new_bias, bias)
        np.testing.assert_array_equal(adapted.get_layer("preprocess").offset, [-1.0 - colour for colour in colours])


def test_channels_of_a_network_keep_all_other_weights(tiny: keras.Model) -> None:
    for channels in (1, 4):
        adapted = adapt_input_channels(tiny, channels)
        for layer in tiny.layers:
            if layer.name != "stem_conv":
                for one, other in zip(layer.get_weights(), adapted.get_layer(layer.name).get_weights(), strict=True):
                    np.testing.assert_array_equal(one, other)
        assert adapted.name == tiny.name
        assert adapted(pixels(adapted)).shape == (2, 5)


def test_channels_of_integers() -> None:
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(inputs, layers.Conv2D(2, 3)(layers.Rescaling([1.0, 2.0, 3.0])(inputs)))
    image = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    grey = adapt_input_channels(model, 1)
    assert grey.inputs[0].dtype == "uint8"
    np.testing.assert_allclose(grey(image), model(np.repeat(image, 3, axis=-1)))


def test_wrong_channels(tiny: keras.Model) -> None:
    with pytest.raises(InputError, match="positive int"):
        adapt_input_channels(tiny, 0)
    with pytest.raises(InputError, match="must take images of 3 channels"):
        adapt_input_channels(adapt_input_channels(tiny, 1), 3)
    unknown = preprocessed(lambda x: x - np.array(MEAN, "float32"))
    with pytest.raises(InputError, match=r"what '.*' \(Subtract\) does to other channels is not known"):
        adapt_input_channels(unknown, 4)
    grey = adapt_input_channels(unknown, 1)
    image = pixels(grey)
    np.testing.assert_allclose(grey(image), unknown(np.repeat(image, 3, axis=-1)), rtol=1e-5)
    forked = preprocessed(lambda x: layers.Add()([x, layers.ReLU()(x)]))
    with pytest.raises(InputError, match="one first convolution"):
        adapt_input_channels(forked, 4)


# ------------------------------------------------------------------------------------------------ what all keep


def operated(model: keras.Model) -> dict[str, keras.Model]:
    """A model after every operation."""
    prefix, suffix = split(model, "stage2_block2_add")
    return {
        "prefix": prefix,
        "suffix": suffix,
        "features": feature_extractor(model, ("stage1", 4)),
        "pooling": swap_pooling(model, head_pool="gem"),
        "head": replace_head(model, 3, dropout=0.1),
        "channels": adapt_input_channels(model, 4),
    }


@pytest.mark.usefixtures("keras_settings")
def test_mixed_precision_is_kept(tiny_spec: ModelSpec) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=5)
    pool_model = pooled(maximum, mean)
    keras.config.set_dtype_policy("float32")
    for name, new in operated(model).items():
        assert new.dtype_policy.name == "mixed_bfloat16"
        for layer in new.layers:
            old = next((each for each in model.layers if each.name == layer.name), None)
            if old and name != "pooling":
                assert layer.dtype_policy.name == old.dtype_policy.name
        assert new.outputs[-1].dtype == ("bfloat16" if name in ("prefix", "features") else "float32")
    assert swap_pooling(pool_model, "soft").get_layer("pool1").dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"


LOAD = """
import sys
import keras, numpy as np
import custom_ops.layers
for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".keras")
    stored = np.load(path + ".npz")
    outputs = keras.tree.flatten(model(stored["inputs"]))
    for index, output in enumerate(outputs):
        np.testing.assert_allclose(output, stored[f"output{index}"], rtol=1e-5, atol=1e-6, err_msg=path)
print(len(sys.argv) - 1)
"""


@pytest.mark.slow
def test_files_load_in_another_process(tiny: keras.Model, stock: Callable[[str], keras.Model], tmp_path: Path) -> None:
    models = operated(tiny)
    models["operations"] = split(stock("MobileNetV3Small"), "expanded_conv_5_add")[1]
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        images = pixels(model)
        outputs = {f"output{i}": output for i, output in enumerate(keras.tree.flatten(model(images)))}
        np.savez(tmp_path / f"{name}.npz", inputs=images, **outputs)
    run = subprocess.run(
        [sys.executable, "-c", LOAD, *(str(tmp_path / name) for name in models)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == str(len(models))


def test_what_is_called_twice_or_not_a_layer_is_copied() -> None:
    inputs = keras.Input((4,), name="x")
    shared = layers.Dense(4)
    model = keras.Model({"x": inputs}, {"y": keras.ops.exp(shared(shared(inputs))) / 2, "z": inputs + 1.0})
    copy = copy_model(model)
    x = {"x": np.ones((2, 4), "float32")}
    for key, value in model(x).items():
        np.testing.assert_array_equal(copy(x)[key], value)
    assert len(copy.weights) == 2
    assert copy.weights[0] is not model.weights[0]
