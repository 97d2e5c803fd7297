"""EfficientNet-Lite against published numbers and two outside implementations.

One is timm's, whose outputs for lite0 are stored: all of them in a file that the environment variable
ZOO_GOLDEN names, the logits of one image in this repository. The other is the NumPy one below, which follows
TensorFlow's definition of "same" padding at odd sizes too, and reads the checkpoint by its own names.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo import build_model, list_models
from zoo.weights.manifest import WEIGHTS
from zoo.weights.packages import locate_package_file
from zoo.weights.torch_checkpoint import read_torch_checkpoint

GOLDEN = Path(__file__).parent / "golden"
# Name: (parameters, trainable parameters), with 1,000 classes.
PARAMETERS = {
    "efficientnet_lite0": (4_694_024, 4_652_008),
    "efficientnet_lite1": (5_470_344, 5_416_680),
    "efficientnet_lite2": (6_150_168, 6_092_072),
    "efficientnet_lite3": (8_273_768, 8_197_096),
    "efficientnet_lite4": (13_118_936, 13_006_568),
}


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return build_model("efficientnet_lite0", input_shape=(None, None, 3), num_classes=1000, weights="imagenet")


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, np.ndarray]:
    return read_torch_checkpoint(locate_package_file(WEIGHTS[0]))


def test_the_family_is_complete() -> None:
    assert [name for name in list_models() if name.startswith("efficientnet_lite")] == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    model = build_model(name, input_shape=(32, 32, 3), num_classes=1000)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert (model.count_params(), trainable) == PARAMETERS[name]


def test_layer_names(lite0: keras.Model) -> None:
    """Layer names are a contract: weight maps, freezing and saved runs depend on them."""
    expected = (GOLDEN / "efficientnet_lite0_layers.txt").read_text(encoding="utf-8").split()
    assert [layer.name for layer in lite0.layers] == expected


def test_normalisation_is_what_the_weights_were_trained_with(lite0: keras.Model) -> None:
    extremes = np.array([0, 255], "float32").reshape(1, 1, 2, 1)
    low, high = np.ravel(lite0.get_layer("preprocess")(extremes))
    assert (low, high) == WEIGHTS[0].value_range == (-127 / 128, 1.0)


def test_stored_logits_of_a_synthetic_image(lite0: keras.Model) -> None:
    image = (np.arange(224 * 224 * 3) % 251).astype("uint8").reshape(1, 224, 224, 3)
    expected = np.loadtxt(GOLDEN / "efficientnet_lite0_synthetic_logits.txt")
    assert expected.shape == (1000,)
    logits = np.asarray(lite0(image))[0]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3)
    assert logits.argmax() == expected.argmax()


@pytest.mark.skipif("ZOO_GOLDEN" not in os.environ, reason="ZOO_GOLDEN names no file of stored outputs")
def test_stored_features_and_logits_of_photos(lite0: keras.Model) -> None:
    golden = np.load(os.environ["ZOO_GOLDEN"])
    layers = [lite0.get_layer(name) for name in ("head_activation", "head_pool", "head_logits")]
    outputs = keras.Model(lite0.input, [layer.output for layer in layers])(golden["images"])
    for name, output in zip(("features", "pooled", "logits"), outputs, strict=True):
        np.testing.assert_allclose(output, golden[name], rtol=0, atol=1e-3, err_msg=name)
    np.testing.assert_array_equal(np.argmax(outputs[-1], axis=-1), golden["logits"].argmax(axis=-1))


@pytest.mark.parametrize("size", [(75, 53), (64, 96)])
def test_against_numpy_at_odd_and_even_sizes(
    lite0: keras.Model, checkpoint: dict[str, np.ndarray], size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype("uint8")
    features, logits = numpy_lite0((image.astype("float64") - 127) / 128, checkpoint)
    outputs = keras.Model(lite0.input, [lite0.get_layer("head_activation").output, lite0.output])(image[None])
    np.testing.assert_allclose(outputs[0][0], features, rtol=0, atol=1e-3)
    np.testing.assert_allclose(outputs[1][0], logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda entry: entry.model)
def test_every_installed_file_of_weights_loads(entry: object) -> None:
    pytest.importorskip(entry.source.path.partition("/")[0])
    model = build_model(entry.model, input_shape=(64, 64, 3), num_classes=1000, weights=entry.name)
    logits = np.asarray(model(np.full((1, 64, 64, 3), 127, "uint8")))
    assert np.isfinite(logits).all()
    assert 1 < np.ptp(logits) < 100


def numpy_lite0(x: np.ndarray, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """EfficientNet-Lite0 on one normalised image `(height, width, 3)`: last feature map, and logits."""
    stages = [
        (1, 1, 1),
        (2, 2, 6),
        (2, 2, 6),
        (3, 2, 6),
        (3, 1, 6),
        (4, 2, 6),
        (1, 1, 6),
    ]  # depth, strides, expansion
    x = relu6(norm(convolve(x, tensors["_conv_stem.weight"], 2), tensors, "_bn0"))
    blocks = [
        (strides if number == 0 else 1, expansion) for depth, strides, expansion in stages for number in range(depth)
    ]
    for number, (strides, expansion) in enumerate(blocks):
        inputs, block = x, f"_blocks.{number}"
        if expansion != 1:
            x = relu6(norm(convolve(x, tensors[f"{block}._expand_conv.weight"], 1), tensors, f"{block}._bn0"))
        x = convolve_each(x, tensors[f"{block}._depthwise_conv.weight"], strides)
        x = relu6(norm(x, tensors, f"{block}._bn1"))
        x = norm(convolve(x, tensors[f"{block}._project_conv.weight"], 1), tensors, f"{block}._bn2")
        if x.shape == inputs.shape:
            x = x + inputs
    features = relu6(norm(convolve(x, tensors["_conv_head.weight"], 1), tensors, "_bn1"))
    return features, tensors["_fc.weight"] @ features.mean(axis=(0, 1)) + tensors["_fc.bias"]


def windows(x: np.ndarray, size: int, strides: int) -> np.ndarray:
    """All windows of TensorFlow's "same" padding: `(rows, columns, channels, size, size)`."""
    padding = []
    for length in x.shape[:2]:
        total = max((math.ceil(length / strides) - 1) * strides + size - length, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(x, [*padding, (0, 0)])
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::strides, ::strides]


def convolve(x: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    return np.tensordot(windows(x, kernel.shape[-1], strides), kernel, axes=([2, 3, 4], [1, 2, 3]))


def convolve_each(x: np.ndarray, kernel: np.ndarray, strides: int) -> np.ndarray:
    return np.einsum("hwcij,cij->hwc", windows(x, kernel.shape[-1], strides), kernel[:, 0])


def norm(x: np.ndarray, tensors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    scale = tensors[f"{name}.weight"] / np.sqrt(tensors[f"{name}.running_var"] + 1e-3)
    return (x - tensors[f"{name}.running_mean"]) * scale + tensors[f"{name}.bias"]


def relu6(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 6)
