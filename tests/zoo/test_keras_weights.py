"""Weights of `keras.applications` in our models: equal outputs, in every kind of file, and how they are found."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from zoo import MODELS, InputError, PoolSpec, build_model, vary
from zoo.weights.manifest import find_keras_file
from zoo.weights.pretrained import KERAS_MODELS, PRETRAINED, find_pretrained

FILE_NAMES = ["network.h5", "network.weights.h5", "network.keras"]
PREPROCESSING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "VGG16": keras.applications.vgg16.preprocess_input,
    "VGG19": keras.applications.vgg19.preprocess_input,
    "MobileNet": keras.applications.mobilenet.preprocess_input,
    "MobileNetV2": keras.applications.mobilenet_v2.preprocess_input,
}


def theirs(name: str, size: tuple[int, int], **arguments: Any) -> keras.Model:
    """The network of keras.applications with the layers of our model, and random weights and statistics."""
    application, width = KERAS_MODELS[name]
    options: dict[str, Any] = {"weights": None, "input_shape": (*size, 3), "classes": 10} | arguments
    if application.startswith("MobileNet"):
        options.setdefault("alpha", width)
    if options.get("include_top", True):
        options["classifier_activation"] = None
    network = getattr(keras.applications, application)(**options)
    generator = np.random.default_rng(0)
    for layer in network.layers:
        window = 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1
        for variable in layer.weights:
            if len(variable.shape) > 1:  # keeps activations near 1 through all layers
                value = generator.standard_normal(variable.shape, "float32")
                value *= np.sqrt(2 / np.prod(variable.shape[:window]))
            elif variable.name in {"gamma", "moving_variance"}:
                value = generator.uniform(0.8, 1.2, variable.shape)
            else:
                value = generator.uniform(-0.1, 0.1, variable.shape)
            variable.assign(value)
    return network


def save(network: keras.Model, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    return path


def images(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype("float32")


def assert_equal_outputs(name: str, network: keras.Model, model: keras.Model, size: tuple[int, int]) -> None:
    pixels = images(size)
    expected = np.asarray(network(PREPROCESSING[KERAS_MODELS[name][0]](pixels.copy())))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(model(pixels), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


slow = pytest.mark.slow
# Every family and width. Among the sizes are odd ones, and those that become odd on the way, where paddings differ.
CASES = [
    ("mobilenet_v1_0.25", (50, 101)),
    ("mobilenet_v2_0.35", (50, 101)),
    ("vgg16", (50, 32)),
    pytest.param("mobilenet_v1_0.5", (96, 96), marks=slow),
    pytest.param("mobilenet_v1_0.75", (33, 33), marks=slow),
    pytest.param("mobilenet_v1_1.0", (75, 75), marks=slow),
    pytest.param("mobilenet_v1", (224, 224), marks=slow),
    pytest.param("mobilenet_v2_0.5", (96, 96), marks=slow),
    pytest.param("mobilenet_v2_0.75", (75, 33), marks=slow),
    pytest.param("mobilenet_v2_1.0", (224, 224), marks=slow),
    pytest.param("mobilenet_v2_1.3", (100, 100), marks=slow),
    pytest.param("mobilenet_v2_1.4", (32, 32), marks=slow),
    pytest.param("mobilenet_v2", (64, 64), marks=slow),
    pytest.param("vgg19", (64, 64), marks=slow),
    pytest.param("vgg16", (224, 224), marks=slow),
]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_outputs_are_equal(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    network = theirs(name, size)
    path = save(network, tmp_path / "network.weights.h5")
    model = build_model(name, input_shape=(*size, 3), num_classes=10, weights=path)
    assert (model.load_report.kept, model.load_report.unused) == ((), ())
    assert_equal_outputs(name, network, model, size)


@pytest.mark.parametrize("file_name", FILE_NAMES)
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25", "mobilenet_v2_0.35", pytest.param("vgg16", marks=slow)])
def test_every_kind_of_file(name: str, file_name: str, tmp_path: Path, small: dict[str, keras.Model]) -> None:
    network = small[name] if name in small else theirs(name, (32, 32))
    path = save(network, tmp_path / file_name)
    model = build_model(name, input_shape=(32, 32, 3), num_classes=10, weights=path)
    assert (model.load_report.kept, model.load_report.unused) == ((), ())
    assert_equal_outputs(name, network, model, (32, 32))


@pytest.fixture(scope="module")
def small() -> dict[str, keras.Model]:
    return {name: theirs(name, (32, 32)) for name in ("mobilenet_v1_0.25", "mobilenet_v2_0.35")}


@pytest.mark.parametrize(("family", "width"), [pytest.param("mobilenet_v1", 0.33, marks=slow), ("mobilenet_v2", 0.28)])
def test_widths_that_are_not_published(family: str, width: float, tmp_path: Path) -> None:
    network = theirs(family, (32, 32), alpha=width)
    path = save(network, tmp_path / "network.weights.h5")
    model = build_model(family, width=width, input_shape=(32, 32, 3), num_classes=10, weights=path)
    assert_equal_outputs(family, network, model, (32, 32))


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25", "mobilenet_v2_0.35"])
def test_normalised_images_give_the_same(name: str, tmp_path: Path, small: dict[str, keras.Model]) -> None:
    path = save(small[name], tmp_path / "network.h5")
    model = build_model(name, input_shape=(32, 32, 3), num_classes=10, weights=path, include_preprocessing=False)
    normalised = PREPROCESSING[KERAS_MODELS[name][0]](images((32, 32)))
    np.testing.assert_allclose(model(normalised), small[name](normalised), rtol=0, atol=1e-6)


def with_old_names(path: Path) -> Path:
    """Rename the layers in an `.h5` file: some published files are older than the names in the code."""
    with h5py.File(path, "a") as file:
        root = file["model_weights"]
        names = []
        for number, layer in enumerate(root.attrs["layer_names"]):
            root.move(layer, f"old_{number}")
            names.append(f"old_{number}")
        root.attrs["layer_names"] = np.array(names, dtype="S")
    return path


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25", "mobilenet_v2_0.35"])
def test_files_with_older_names_are_loaded_by_order(name: str, tmp_path: Path, small: dict[str, keras.Model]) -> None:
    path = with_old_names(save(small[name], tmp_path / "network.h5"))
    model = build_model(name, input_shape=(32, 32, 3), num_classes=10, weights=path)
    assert (model.load_report.kept, model.load_report.unused) == ((), ())
    assert_equal_outputs(name, small[name], model, (32, 32))


def test_changes_keep_what_fits(tmp_path: Path, small: dict[str, keras.Model]) -> None:
    network = small["mobilenet_v2_0.35"]
    path = save(network, tmp_path / "network.weights.h5")
    model = build_model(
        "mobilenet_v2",
        width=0.35,
        pool="blur",
        head_pool="gem",
        input_shape=(None, None, 1),
        num_classes=3,
        weights=path,
    )
    assert [line.partition(":")[0] for line in model.load_report.kept] == [
        "stem_conv/kernel",
        "head_pool/p",
        "head_logits/kernel",
        "head_logits/bias",
    ]
    assert len(model.load_report.loaded) == len(network.weights) - 3
    np.testing.assert_array_equal(
        model.get_layer("stage7_block1_project_norm").moving_variance,
        network.get_layer("block_16_project_BN").moving_variance,
    )
    features = build_model("mobilenet_v2_0.35", input_shape=(32, 32, 3), num_classes=None, weights=path)
    assert (features.load_report.kept, features.load_report.unused) == ((), ("head_logits",))


def test_the_flat_head_of_vgg_keeps_what_does_not_depend_on_the_image_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Narrow, as VGG16 with its own head has 134 million weights; names and shapes depend on the same.
    narrow = dataclasses.replace(
        vary(MODELS["vgg16"], width=1 / 16), head=dataclasses.replace(MODELS["vgg16"].head, hidden=(8, 8))
    )
    inputs = keras.Input((64, 64, 3))
    x = inputs
    for block, (filters, depth) in enumerate(zip((4, 8, 16, 32, 32), (2, 2, 3, 3, 3), strict=True), start=1):
        for number in range(1, depth + 1):
            x = keras.layers.Conv2D(filters, 3, padding="same", name=f"block{block}_conv{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = keras.layers.Dense(8, name="fc2")(keras.layers.Dense(8, name="fc1")(keras.layers.Flatten()(x)))
    network = keras.Model(inputs, keras.layers.Dense(10, name="predictions")(x))
    path = save(network, tmp_path / "network.weights.h5")

    def kept(**arguments: Any) -> tuple[str, ...]:
        model = build_model(narrow, **({"input_shape": (64, 64, 3), "num_classes": 10, "weights": path} | arguments))
        np.testing.assert_array_equal(model.get_layer("head_dense2").kernel, network.get_layer("fc2").kernel)
        return model.load_report.kept

    assert kept() == ()
    first = "head_dense1/kernel: the shape (128, 8) in the file, ({}, 8) in the model"
    assert kept(input_shape=(96, 96, 3)) == (first.format(9 * 32),)
    assert kept(head_pool="avg") == (first.format(32),)
    # A grid of the same size makes one of any image.
    assert kept(input_shape=(96, 70, 3), head_pool=PoolSpec("adaptive_avg", {"output_size": 2})) == ()


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_a_file_of_another_network_names_the_first_tensor(
    file_name: str, tmp_path: Path, small: dict[str, keras.Model]
) -> None:
    path = save(small["mobilenet_v1_0.25"], tmp_path / file_name)
    with pytest.raises(InputError) as error:
        build_model("mobilenet_v1_0.5", input_shape=(32, 32, 3), num_classes=10, weights=path)
    assert str(error.value) == (
        f"{path} does not fit mobilenet_v1_0.5: stem_conv/kernel has the shape (3, 3, 3, 8) in the file, "
        "(3, 3, 3, 16) in the model."
    )
    with pytest.raises(InputError, match=r"network\S+ does not fit mobilenet_v2_0\.35: .*stem_conv"):
        build_model("mobilenet_v2_0.35", input_shape=(32, 32, 3), num_classes=10, weights=path)


@pytest.mark.parametrize("name", PRETRAINED)
def test_models_find_their_files(name: str) -> None:
    spec = MODELS[name]
    entry = find_pretrained(spec, "imagenet")
    assert entry.num_classes == 1000
    assert entry.image_size == spec.image_size
    assert entry.value_range == pytest.approx(spec.preprocessing.value_range)
    # So does a variation of one, under any name, which has other layers without weights or another head.
    varied = dataclasses.replace(vary(spec, pool="soft", head_pool="gem"), name="mine")
    assert find_pretrained(varied, "imagenet") == entry


@pytest.mark.parametrize(
    ("name", "arguments", "file"),
    [
        ("mobilenet_v1_0.25", {"image_size": 128, "num_classes": 1000}, ("MobileNet", True, 0.25, 128)),
        ("mobilenet_v1_0.25", {"image_size": 128, "num_classes": 10}, ("MobileNet", False, 0.25, 128)),
        ("mobilenet_v2", {"image_size": 100, "num_classes": None}, ("MobileNetV2", False, 1.0, 224)),
        # The hidden layers of its head are in the larger file.
        ("vgg16", {"num_classes": 10}, ("VGG16", True, 1.0, 224)),
        ("vgg16", {"num_classes": None}, ("VGG16", False, 1.0, 224)),
    ],
)
def test_the_file_that_is_taken(name: str, arguments: dict[str, Any], file: tuple[str, bool, float, int]) -> None:
    application, include_top, alpha, image_size = file
    expected = find_keras_file(application, include_top=include_top, alpha=alpha, image_size=image_size)
    assert find_pretrained(MODELS[name], "imagenet", **arguments) == expected


def test_a_width_by_keyword_finds_the_file_of_that_width() -> None:
    entry = find_pretrained(vary(MODELS["mobilenet_v2"], width=0.35), "imagenet")
    assert entry == find_keras_file("MobileNetV2", include_top=True, alpha=0.35)
    with pytest.raises(InputError) as error:
        find_pretrained(vary(MODELS["mobilenet_v2"], width=0.6), "imagenet")
    assert str(error.value).startswith(
        "There are no pretrained weights 'imagenet' for mobilenet_v2 with another depth, width or style. Models that"
    )
    with pytest.raises(InputError, match=r"'imagenette'\. Did you mean imagenet\?"):
        find_pretrained(MODELS["vgg16"], "imagenette")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    monkeypatch.setenv("ZOO_MIRROR", folder.as_uri())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    return folder / "tensorflow" / "keras-applications"


def test_imagenet_weights_are_fetched_once(
    mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = theirs("mobilenet_v1_0.25", (128, 128), include_top=False)
    (mirror / "mobilenet").mkdir(parents=True)
    save(network, mirror / "mobilenet" / "mobilenet_2_5_128_tf_no_top.h5")
    arguments = {"input_shape": (128, 128, 3), "num_classes": None, "weights": "imagenet"}
    model = build_model("mobilenet_v1", width=0.25, **arguments)
    assert "first-use" in capsys.readouterr().err
    assert (model.load_report.kept, model.load_report.unused) == ((), ())
    for ours, other in zip(model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, other)

    shutil.rmtree(mirror)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    build_model("mobilenet_v1_0.25", **arguments)
    with pytest.raises(InputError, match=r"mobilenet_2_5_160_tf_no_top\.h5.* is not here, and ZOO_OFFLINE forbids"):
        build_model("mobilenet_v1_0.25", **(arguments | {"input_shape": (160, 160, 3)}))


def test_a_download_with_another_checksum_is_refused(mirror: Path) -> None:
    (mirror / "vgg16").mkdir(parents=True)
    (mirror / "vgg16" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"something else")
    with pytest.raises(InputError, match="MD5"):
        build_model("vgg16", input_shape=(32, 32, 3), num_classes=None, weights="imagenet")
