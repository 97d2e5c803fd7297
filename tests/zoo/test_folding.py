import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from zoo import InputError, ModelSpec, build_model, fold_batch_norm, folding_plan
from zoo.folding import benchmark
from zoo.layers import PointwiseConv2D


def norms(model: keras.Model) -> list[layers.BatchNormalization]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]


def randomise(model: keras.Model) -> keras.Model:
    """Give a model weights such as training leaves; with the initial ones many mistakes would not show."""
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 0.3, size))
            layer.moving_variance.assign(rng.uniform(0.4, 1.6, size))
            if layer.scale:
                layer.gamma.assign(rng.uniform(0.5, 1.2, size) * rng.choice([-1, 1], size))
            if layer.center:
                layer.beta.assign(rng.normal(0, 0.3, size))
        elif getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def check_folding(model: keras.Model, *, tolerance: float = 1e-4, pixels: tuple[float, float] = (-1, 1)) -> keras.Model:
    """Fold a model and hold it to everything that must be true of any."""
    randomise(model)
    shape = [size or 2 for size in model.input_shape]
    images = np.random.default_rng(1).uniform(*pixels, shape).astype(model.inputs[0].dtype)
    weights = [np.array(weight) for weight in model.get_weights()]
    expected = model(images, training=False)

    folded, plan = fold_batch_norm(model), folding_plan(model)

    actual = folded(images, training=False)
    for one, other in zip(keras.tree.flatten(actual), keras.tree.flatten(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(tensor).astype("float64") for tensor in (one, other))
        assert np.ptp(other) > 0
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())
    kept = [name for name, _ in plan.kept]
    assert sorted(name.rpartition("/")[2] for name in (*plan.folded, *kept)) == sorted(
        norm.name for norm in norms(model)
    )
    assert [norm.name for norm in norms(folded)] == [name.rpartition("/")[2] for name in kept]
    assert not folded.trainable_weights
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    return folded


Part = Callable[[Any], Any]


def network(*parts: Part, shape: tuple[int, ...] = (9, 9, 4)) -> keras.Model:
    x = inputs = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def norm(name: str = "norm", **arguments: Any) -> layers.BatchNormalization:
    return layers.BatchNormalization(name=name, **arguments)


FOLDED: dict[str, Callable[[], keras.Model]] = {
    "no bias": lambda: network(layers.Conv2D(6, 3, use_bias=False), norm()),
    "bias": lambda: network(layers.Conv2D(6, 3, padding="same", strides=2), norm()),
    "norm without scale": lambda: network(layers.Conv2D(6, 3), norm(scale=False)),
    "norm without offset": lambda: network(layers.Conv2D(6, 3), norm(center=False, epsilon=0.1)),
    "positive axis": lambda: network(layers.Conv2D(6, 3), norm(axis=3)),
    "depthwise with multiplier": lambda: network(layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), norm()),
    "separable": lambda: network(layers.SeparableConv2D(6, 3, depth_multiplier=2), norm()),
    "transposed": lambda: network(layers.Conv2DTranspose(6, 3, strides=2), norm()),
    "pointwise": lambda: network(PointwiseConv2D(6), norm()),
    "dense": lambda: network(layers.Flatten(), layers.Dense(6, use_bias=False), norm()),
    "dense on a sequence": lambda: network(layers.Dense(6), norm(), shape=(5, 4)),
    "one dimension": lambda: network(layers.Conv1D(6, 3, padding="causal"), norm(), shape=(9, 4)),
    "three dimensions": lambda: network(layers.Conv3D(6, 2, groups=2), norm(), shape=(4, 4, 4, 4)),
    "two in a row": lambda: network(layers.Conv2D(6, 3), norm("a"), norm("b")),
    "dropout between": lambda: network(layers.Conv2D(6, 3), layers.Dropout(0.5), norm()),
    "before valid": lambda: network(norm(), layers.Conv2D(6, 3, activation="relu", use_bias=False)),
    "before 1 x 1": lambda: network(norm(), layers.Conv2D(6, 1, strides=2, padding="same")),
    "before depthwise": lambda: network(norm(), layers.DepthwiseConv2D(3, depth_multiplier=2)),
    "before separable": lambda: network(norm(), layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False)),
    "before dense": lambda: network(layers.Flatten(), norm(), layers.Dropout(0.5), layers.Dense(6)),
    "before two": lambda: network(norm(), lambda x: layers.Add()([layers.Conv2D(6, 3)(x), layers.Conv2D(6, 3)(x)])),
    "two before": lambda: network(norm("a"), norm("b"), layers.Conv2D(6, 3)),
    "around": lambda: network(norm("a"), layers.Conv2D(6, 3, groups=2), norm("b"), layers.ReLU()),
    "nested": lambda: network(
        keras.Sequential([keras.Input((9, 9, 4)), layers.Conv2D(6, 3), norm()], name="inner"),
        layers.ReLU(),
        network(layers.Conv2D(6, 3), norm(), shape=(7, 7, 6)),
    ),
    "sequential": lambda: keras.Sequential([keras.Input((9, 9, 4)), layers.Conv2D(6, 3), norm()]),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folds(name: str) -> None:
    model = FOLDED[name]()
    folded = check_folding(model, tolerance=1e-5)
    assert not norms(folded)
    assert not folding_plan(model).kept


class Standardised(layers.Conv2D):
    """A convolution that computes something of its own."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, axis=(0, 1, 2)))


def shared_convolution(inputs: Any) -> Any:
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    return layers.Add()([norm()(conv(inputs)), conv(layers.ReLU()(inputs))])


def shared_norm(inputs: Any) -> Any:
    both = norm()
    return both(layers.Conv2D(4, 3)(both(layers.ReLU()(inputs))))


def noise(inputs: Any) -> Any:
    return layers.GaussianNoise(1e-6, name="noise")(inputs, training=True)


def read_twice(inputs: Any) -> Any:
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    return layers.Add()([norm()(x), x])


KEPT: dict[str, tuple[Callable[[], keras.Model], str]] = {
    "zero padding": (
        lambda: network(norm(), layers.Conv2D(6, 3, padding="same", name="conv")),
        r"read by 'conv' \(Conv2D\), which pads with zeros",
    ),
    "padding layer": (
        lambda: network(norm(), layers.ZeroPadding2D(name="pad"), layers.Conv2D(6, 3)),
        r"read by 'pad' \(ZeroPadding2D\), which is neither",
    ),
    "activation": (
        lambda: network(layers.Conv2D(6, 3, activation="relu", name="conv"), norm(), layers.ReLU()),
        r"reads 'conv' \(Conv2D\), which has an activation; it is read by 're_lu",
    ),
    "another reader": (lambda: network(read_twice), "reads 'conv' .* is needed without it too"),
    "one of two ahead": (
        lambda: network(norm(), lambda x: layers.Concatenate()([layers.Conv2D(6, 9)(x), layers.Conv2D(6, 9)(-x)])),
        "read by 'negative.* is neither",
    ),
    "shared convolution": (lambda: network(shared_convolution), "reads 'conv' .* is called more than once"),
    "shared norm": (lambda: network(shared_norm), "it is called more than once"),
    "another axis": (lambda: network(layers.Conv2D(6, 3), norm(axis=1)), "channels on another axis; it is an output"),
    "batch statistics": (lambda: network(layers.Conv2D(6, 3), lambda x: norm()(x, training=True)), "by the batch"),
    "noise": (
        lambda: network(layers.Conv2D(6, 3), noise, norm()),
        r"reads 'noise' \(GaussianNoise\)",
    ),
    "own convolution": (lambda: network(Standardised(6, 3), norm()), r"\(Standardised\), which is neither"),
    "transposed ahead": (lambda: network(norm(), layers.Conv2DTranspose(6, 3)), "which is transposed"),
    "another dtype": (lambda: network(layers.Conv2D(6, 3, dtype="float64"), norm()), "in another dtype"),
    "wrapper": (
        lambda: network(layers.TimeDistributed(norm(), name="each")),
        r"each/norm it is inside 'each' \(TimeDistributed\)",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_keeps_what_cannot_be_folded_and_says_why(name: str) -> None:
    build, reason = KEPT[name]
    model = build()
    check_folding(model, tolerance=1e-5)
    ((kept, found),) = folding_plan(model).kept
    assert re.search(reason, f"{kept} {found}")


def test_an_output_of_the_model_stays() -> None:
    inputs = keras.Input((9, 9, 4))
    convolved = layers.Conv2D(6, 3, name="conv")(inputs)
    normed = norm("normed")(layers.ReLU()(convolved))
    model = keras.Model(inputs, [norm("after")(convolved), convolved, normed, layers.Conv2D(6, 3)(normed)])
    check_folding(model)
    assert dict(folding_plan(model).kept).keys() == {"after", "normed"}


SETTINGS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "strides": st.integers(1, 2),
        "padding": st.sampled_from(["valid", "same"]),
        "groups": st.sampled_from([1, 2, 4]),
        "use_bias": st.booleans(),
        "activation": st.sampled_from([None, "relu"]),
    }
)


@settings(deadline=None, max_examples=15)
@given(arguments=SETTINGS)
def test_any_convolution_between_two_norms(arguments: dict[str, Any]) -> None:
    model = network(norm("before"), layers.Conv2D(8, **arguments), norm("after"))
    check_folding(model, tolerance=1e-5)
    pads = arguments["padding"] == "same" and arguments["kernel_size"] != (1, 1)
    expected = {"before"} if pads else set()
    assert dict(folding_plan(model).kept).keys() == expected | ({"after"} if arguments["activation"] else set())


# Image size, and how many batch norms must stay: those between a sum or a concatenation and an activation.
FAMILIES = {
    "MobileNet": (32, 0),
    "MobileNetV2": (32, 0),
    "MobileNetV3Small": (32, 0),
    "EfficientNetB0": (32, 0),
    "EfficientNetV2B0": (32, 0),
    "EfficientNetV2S": (32, 0),
    "ConvNeXtTiny": (32, 0),
    "ResNet50": (32, 0),
    "ResNet50V2": (32, 17),
    "DenseNet121": (32, 62),
    "VGG16": (32, 0),
    "Xception": (71, 0),
    "InceptionV3": (75, 0),
    "InceptionResNetV2": (75, 0),
    "NASNetMobile": (32, 4),
}
QUICK = {"MobileNet", "MobileNetV3Small"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES]
)
def test_every_family_of_keras_applications(name: str) -> None:
    size, kept = FAMILIES[name]
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))
    check_folding(model, pixels=(0, 255) if name.startswith(("Eff", "Conv", "MobileNetV3")) else (-1, 1))
    assert len(folding_plan(model).kept) == kept


def test_every_family_is_in_the_list() -> None:
    of_no_size = {re.sub(r"(Tiny|Small|Base|Large|XLarge|Mobile|\d+|[BSML]\d?)$", "", name) for name in FAMILIES}
    constructors = [name for name in dir(keras.applications) if name[0].isupper()]
    assert len(constructors) >= 40
    assert [name for name in constructors if not name.startswith(tuple(of_no_size))] == []


def test_efficientnet_lite0() -> None:
    keras.utils.set_random_seed(0)
    model = build_model("efficientnet_lite0", input_shape=(32, 32, 3), num_classes=5)
    folded = check_folding(model, pixels=(0, 255))
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers if not isinstance(layer, layers.BatchNormalization)
    ]


@pytest.mark.usefixtures("keras_settings")
def test_folding_is_done_in_float64() -> None:
    keras.config.set_dtype_policy("float64")
    check_folding(network(norm("a"), layers.Conv2D(6, 3), norm("b")), tolerance=1e-14)


@pytest.mark.usefixtures("keras_settings")
def test_mixed_precision_is_kept(tiny_spec: ModelSpec) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=5)
    keras.config.set_dtype_policy("float32")
    folded = check_folding(model, tolerance=3e-2, pixels=(0, 255))
    for layer in (folded, *folded.layers):
        assert layer.dtype_policy.name == (model if layer is folded else model.get_layer(layer.name)).dtype_policy.name


def test_saves_and_exports(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    model = randomise(build_model(tiny_spec, input_shape=(16, 16, 3), num_classes=5))
    folded = fold_batch_norm(model)
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    expected = folded(images).numpy()
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    np.testing.assert_array_equal(loaded(images), expected)
    assert not loaded.trainable_weights
    folded.export(tmp_path / "folded", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "folded"))
    np.testing.assert_allclose(served.serve(images), expected, atol=1e-5)


def test_needs_a_graph() -> None:
    class Own(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(InputError, match=r"functional model.*Own 'mine'"):
        fold_batch_norm(Own(name="mine"))


def test_benchmark_measures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark, "MODELS", {"MobileNet": 32})
    monkeypatch.setattr(benchmark, "BATCH_SIZES", (2,))
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    benchmark.main()
    assert re.search(r"MobileNet, 32 px +2 +\d+\.\d +\d+\.\d +\d+\.\d\d", capsys.readouterr().out)
