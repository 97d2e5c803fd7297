"""Building classifiers: preprocessing, weights of every kind, and what is refused."""

import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest

import zoo
from recipes.parts import keras_weights
from recipes.parts.backbones import find
from recipes.parts.classifier import build_classifier, load_network, preprocess, with_head
from recipes.parts.keras_weights import load_weights
from zoo.errors import InputError
from zoo.weights.manifest import find_keras_file

MOBILENET_V2_96 = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5"


def pixels(size):
    return np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype("float32")


def stock(name, size, **arguments):
    """A network of keras.applications with weights that are neither its initial ones nor symmetric."""
    arguments = {"include_top": False, "weights": None, "input_shape": (size, size, 3), **arguments}
    network = getattr(keras.applications, name)(**arguments)
    fill(network)
    return network


def fill(network, seed=0):
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        for weight in layer.weights:
            if len(weight.shape) > 1:  # keeps activations near 1 through all layers
                value = generator.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape)
            elif weight.name in {"gamma", "variance", "moving_variance"}:
                value = generator.uniform(0.8, 1.2, weight.shape)
            else:
                value = generator.uniform(-0.1, 0.1, weight.shape)
            if "int" not in weight.dtype:
                weight.assign(value)
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def save(network, path):
    """Save in the format that the file name stands for."""
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of its own older format, .h5
            network.save(path)
    return path


def stock_input(name, images):
    """What the publisher's preprocessing makes of pixels."""
    module = sys.modules[getattr(keras.applications, name).__module__]
    return module.preprocess_input(images.copy())


FAMILIES = [
    "EfficientNetB0",
    "EfficientNetV2B0",
    "EfficientNetV2S",
    "ConvNeXtTiny",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "ResNet50",
    "ResNet50V2",
    "DenseNet121",
    "VGG16",
    "Xception",
    "InceptionV3",
    "InceptionResNetV2",
    "NASNetMobile",
]
# Those whose constructors preprocess themselves are compared as a whole, below.
OUTSIDE = [name for name in FAMILIES if not name.startswith(("EfficientNetV2", "ConvNeXt", "MobileNetV3"))]


@contextmanager
def dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_preprocessing_is_the_publishers(name, policy, tmp_path):
    images = pixels(8)
    inputs = keras.Input((8, 8, 3))
    with dtype_policy(policy):
        outputs = keras.layers.Identity(dtype="float32")(preprocess(find(name).preprocessing, inputs))
    model = keras.Model(inputs, outputs)
    np.testing.assert_allclose(model(images), stock_input(name, images), atol=1e-4)
    # A file of the model needs nothing but Keras.
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(images), model(images))


# `preprocess` in place of a layer that the stock network would have.
QUICK = [("MobileNetV3Small", "some.weights.h5")]
# By "imagenet" it is Keras that loads, in its older format; EfficientNet then gets a layer more (see below).
SLOW = [
    (name, source)
    for name in FAMILIES
    for source in ["some.weights.h5", "some.h5", "imagenet"]
    if (name, source) not in [*QUICK, ("EfficientNetB0", "imagenet")]
]


@pytest.mark.parametrize(("name", "source"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_classifier_computes_what_the_stock_network_computes(name, source, tmp_path, monkeypatch):
    size = find(name).smallest_size
    network = stock(name, size)
    path = save(network, tmp_path / ("published.h5" if source == "imagenet" else source))
    monkeypatch.setattr(keras_weights, "fetch", lambda entry, **_: path)
    weights = "imagenet" if source == "imagenet" else str(path)
    model = build_classifier(name, image_size=size, num_classes=3, weights=weights).model

    # Up to the first convolution the two differ in form.
    theirs, ours = first_convolution(network), first_convolution(model)
    images = pixels(size)
    normalised = keras.Model(network.input, theirs.input)(stock_input(name, images))
    np.testing.assert_allclose(keras.Model(model.input, ours.input)(images), normalised, atol=1e-4)

    # From there on each layer computes the same; at the end random networks hardly differ any more.
    stock_layers = network.layers[network.layers.index(theirs) :]
    our_layers = model.layers[model.layers.index(ours) : -3]
    assert [type(layer) for layer in our_layers] == [type(layer) for layer in stock_layers]
    expected = keras.Model(theirs.input, [layer.output for layer in stock_layers])(normalised)
    found = keras.Model(ours.input, [layer.output for layer in our_layers])(normalised)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
    assert np.abs(expected[-1]).max() > 1e-3


def first_convolution(network):
    return next(
        layer for layer in network.layers if layer.weights and not isinstance(layer, keras.layers.Normalization)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "ConvNeXtTiny", "InceptionResNetV2", "EfficientNetB0"])
def test_file_of_a_classifier_loads_without_this_package(name, tmp_path):
    size = find(name).smallest_size
    path = save(stock(name, size), tmp_path / "some.weights.h5")
    model = build_classifier(name, image_size=size, num_classes=3, weights=str(path)).model
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "logits.npy", model(pixels(size)))
    np.save(tmp_path / "images.npy", pixels(size))
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "logits = model(np.load('images.npy'))\n"
        "np.testing.assert_allclose(logits, np.load('logits.npy'), rtol=1e-3, atol=1e-4)\n"
        "assert not {'zoo', 'recipes', 'custom_ops'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("top", [False, True], ids=["without top", "with top"])
@pytest.mark.parametrize("file_name", ["some.weights.h5", "some.keras", "some.h5"])
def test_every_format_is_read_with_and_without_a_classifier(file_name, top, tmp_path, mobilenets):
    network, with_top, target = mobilenets
    path = save(with_top if top else network, tmp_path / file_name)
    fill(target, seed=1)
    load_weights(target, path)
    for read, saved in zip(target.weights, network.weights, strict=True):
        np.testing.assert_array_equal(read, saved)


@pytest.fixture(scope="module")
def mobilenets():
    """A network, the same with a classifier, and one to load into."""
    network, target = stock("MobileNetV2", 32), stock("MobileNetV2", 32)
    with_top = stock("MobileNetV2", 32, include_top=True, classes=5)
    return network, with_top, target


@pytest.fixture(scope="module")
def classifier(mobilenets, tmp_path_factory):
    path = save(mobilenets[0], tmp_path_factory.mktemp("weights") / "some.weights.h5")
    return build_classifier("MobileNetV2", image_size=32, num_classes=7, weights=str(path), dropout=0.3)


def test_classifier_is_flat_and_of_stock_layers(classifier):
    model = classifier.model
    names = [layer.name for layer in model.layers]
    assert names[:2] == ["image", "preprocess"]
    assert names[-3:] == ["head_pool", "head_dropout", "head_logits"]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert all(type(operation).__module__.startswith("keras.") for operation in model.operations)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 7)
    assert model.get_layer("head_dropout").rate == 0.3
    # What was loaded is in the graph that users cut: each layer stands in it once.
    part = keras.Model(model.input, model.get_layer("block_3_expand").output)
    assert part(pixels(32)).shape == (2, 8, 8, 144)
    assert [block.name for block in classifier.blocks][-2:] == ["top", "head"]


def test_a_finished_classifier_serves_as_weights(classifier, tmp_path):
    path = save(classifier.model, tmp_path / "model.keras")
    second = build_classifier("MobileNetV2", image_size=40, num_classes=2, weights=str(path))
    for ours, theirs in zip(classifier.model.weights[:-2], second.model.weights[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_head_can_stand_behind_any_block(classifier, mobilenets, tmp_path):
    path = save(mobilenets[0], tmp_path / "some.weights.h5")
    network = load_network("MobileNetV2", image_size=32, weights=str(path))
    assert list(network.ends) == [block.name for block in classifier.blocks[:-1]]
    images = pixels(32)
    for block, last, pool, reduce in (
        ("block_5", "block_5_add", "max", np.max),
        ("block_13", "block_13_project_BN", "avg", np.mean),
        (None, "out_relu", "max", np.max),
    ):
        cut = with_head(network, num_classes=3, cut=block, head_pool=pool)
        features = keras.Model(classifier.model.input, classifier.model.get_layer(last).output)(images)
        pooled = keras.Model(cut.model.input, cut.model.get_layer("head_pool").output)(images)
        np.testing.assert_allclose(pooled, reduce(features.numpy(), axis=(1, 2)), rtol=1e-4, atol=1e-6)
        assert [each.name for each in cut.blocks] == [*list(network.ends)[: len(cut.blocks) - 1], "head"]
        assert cut.blocks[-2].name == (block or "top")
        assert [layer.name for layer in cut.model.layers][-3:] == ["head_pool", "head_dropout", "head_logits"]
        assert cut.model.get_layer("block_5_project") is network.model.get_layer("block_5_project")


@pytest.mark.parametrize(
    "name",
    ["MobileNetV3Small", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ConvNeXtTiny", "NASNetMobile"))],
)
def test_a_block_ends_where_the_next_one_begins_to_read(name):
    """Also where that is no layer, or more than one tensor crosses."""
    network = load_network(name, image_size=32, weights=None)
    blocks = list(network.ends)
    cut = with_head(network, num_classes=3, cut=blocks[-3])
    assert [block.name for block in cut.blocks] == [*blocks[:-2], "head"]
    rest = set(network.model.layers) - set(cut.model.layers)
    assert {layer.name for layer in rest} >= {
        layer.name for layer in network.model.layers if blocks[-1] in layer.name and layer.weights
    }


def test_what_pooling_has_learned_is_pretrained_too(tmp_path, own_registries):
    gem = replace(zoo.MODELS["test_vgg"], name="test_gem", head=zoo.HeadSpec(name="pool", pool="gem"))
    zoo.MODELS.add("test_gem", gem)
    pretrained = zoo.build_model("test_gem", input_shape=(32, 32, 3), num_classes=5)
    pretrained.get_layer("head_pool").exponent.assign(5.0)
    pretrained.save(tmp_path / "pretrained.keras")
    network = load_network("test_gem", image_size=32, weights=str(tmp_path / "pretrained.keras"))
    exponents = {
        (cut, pool): float(
            with_head(network, num_classes=2, cut=cut, head_pool=pool).model.get_layer("head_pool").exponent
        )
        for cut in (None, "stage1_block1")
        for pool in (None, "gem")
    }
    new = 3.0
    assert exponents == {
        (None, None): 5.0,
        (None, "gem"): new,
        ("stage1_block1", None): new,
        ("stage1_block1", "gem"): new,
    }


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"cut": "stage3"}, r"Unknown block 'stage3'.*Available: stage1_block1, stage2_block1"),
        ({"cut": "stage1_blok1"}, "Did you mean stage1_block1"),
        ({"cut": "head"}, "Unknown block 'head'"),
        ({"head_pool": "soft"}, "in the head there are: max, avg, gem"),
        ({"head_pool": "gme"}, "Did you mean gem"),
    ],
)
def test_heads_that_do_not_exist_are_refused(head, message):
    network = load_network("test_vgg", image_size=32, weights=None)
    with pytest.raises(InputError, match=message):
        with_head(network, num_classes=2, **head)


def test_flat_heads_of_zoo_models_are_averaged(tmp_path):
    pretrained = zoo.build_model("test_vgg", input_shape=(32, 32, 3), num_classes=5)
    flat = zoo.build_model("test_lenet", input_shape=(28, 28, 3), num_classes=5)
    for model, channels in ((pretrained, 16), (flat, 8)):
        model.save(tmp_path / "pretrained.keras")
        classifier = build_classifier(
            model.name, image_size=28, num_classes=3, weights=str(tmp_path / "pretrained.keras")
        )
        assert classifier.model.get_layer("head_pool").output.shape == (None, channels)
        kernel = classifier.model.get_layer("stage1_block1_conv").kernel
        np.testing.assert_array_equal(kernel, model.get_layer("stage1_block1_conv").kernel)


def test_zoo_models_have_the_same_form():
    classifier = build_classifier("efficientnet_lite0", image_size=64, num_classes=4, weights="imagenet", dropout=0.4)
    model = classifier.model
    assert [layer.name for layer in model.layers[:2]] == ["image", "preprocess"]
    assert classifier.blocks[-1].layers == ("head_pool", "head_dropout", "head_logits")
    assert [block.name for block in classifier.blocks][:3] == ["stem", "stage1_block1", "stage2_block1"]
    assert classifier.blocks[-2].name == "head_conv"
    assert model.get_layer("head_dropout").rate == 0.4
    # Real weights: the first channel of the stem is far from its random start, and norms hold statistics.
    assert np.abs(model.get_layer("stem_norm").moving_mean).max() > 0.1
    assert model(pixels(64)).shape == (2, 4)


@pytest.fixture(scope="module")
def efficientnet():
    return stock("EfficientNetB0", 32)


def with_variance(network, variance, mean=(0.1, 0.2, 0.3)):
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign(mean)
            layer.adapt_variance.assign(variance)
            layer.finalize_state()
    return network


def normalised(model):
    """What the first convolution of an EfficientNet sees."""
    return keras.Model(model.input, model.get_layer("stem_conv_pad").input)(pixels(32))


def test_mixed_precision_leaves_preprocessing_and_logits_in_float32(efficientnet, tmp_path):
    network = with_variance(efficientnet, [1.1, 1.2, 1.3])
    path = save(network, tmp_path / "some.weights.h5")
    with dtype_policy("mixed_bfloat16"):
        model = build_classifier("EfficientNetB0", image_size=32, num_classes=3, weights=str(path)).model
    np.testing.assert_allclose(normalised(model), normalised(network), rtol=1e-6)
    assert model.get_layer("block2a_expand_conv").compute_dtype == "bfloat16"
    assert model(pixels(32)).dtype == "float32"


@pytest.mark.parametrize("file_name", ["some.weights.h5", "some.h5"])
def test_statistics_that_are_loaded_take_effect(file_name, efficientnet, tmp_path):
    path = save(with_variance(efficientnet, [1.1, 1.2, 1.3]), tmp_path / file_name)
    expected = normalised(efficientnet)
    load_weights(with_variance(efficientnet, [0.1, 0.2, 0.3]), path)
    np.testing.assert_array_equal(normalised(efficientnet), expected)


@pytest.mark.slow
def test_efficientnet_files_given_by_path_divide_by_the_deviation(efficientnet, tmp_path, monkeypatch):
    # As in the published file: the standard deviation of the colours, where their variance should be.
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    path = save(with_variance(efficientnet, deviation, mean), tmp_path / "published.h5")
    load_weights(efficientnet, path)
    np.testing.assert_allclose(normalised(efficientnet), (pixels(32) / 255 - mean) / deviation, atol=1e-4)
    # What Keras makes of it by name ...
    monkeypatch.setattr(keras_weights, "fetch", lambda entry, **_: path)
    by_name = build_classifier("EfficientNetB0", image_size=32, num_classes=3, weights="imagenet").model
    np.testing.assert_allclose(normalised(by_name), normalised(efficientnet), atol=1e-4)
    # ... serves as weights, and so does what was corrected before.
    for index, network in enumerate([by_name, efficientnet]):
        load_weights(efficientnet, save(network, tmp_path / f"{index}.keras"))
        np.testing.assert_allclose(normalised(efficientnet), normalised(by_name), atol=1e-4)


@pytest.fixture
def mirror(tmp_path, monkeypatch, mobilenets):
    """A mirror with a file of weights for MobileNetV2 at 96 pixels, and an empty ZOO_HOME."""
    folder = tmp_path / "mirror/tensorflow/keras-applications/mobilenet_v2"
    folder.mkdir(parents=True)
    save(mobilenets[0], folder / MOBILENET_V2_96)
    monkeypatch.setenv("ZOO_MIRROR", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    return folder


def test_imagenet_weights_are_fetched_recorded_and_checked(mirror, mobilenets, tmp_path, monkeypatch, capsys):
    network = mobilenets[0]
    seen = []
    classifier = build_classifier(
        "MobileNetV2", image_size=96, num_classes=3, weights="imagenet", progress=lambda *state: seen.append(state)
    )
    size = (mirror / MOBILENET_V2_96).stat().st_size
    assert seen[-1] == (size, size)
    for read, saved in zip(classifier.model.weights, network.weights, strict=False):
        np.testing.assert_array_equal(read, saved)
    assert "first-use" in capsys.readouterr().err

    # From now on without the mirror ...
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    shutil.rmtree(mirror)
    build_classifier("MobileNetV2", image_size=96, num_classes=3, weights="imagenet", progress=pytest.fail)
    # ... until the file is not the first one any more.
    with (tmp_path / "home/weights" / MOBILENET_V2_96).open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="SHA-256"):
        build_classifier("MobileNetV2", image_size=96, num_classes=3, weights="imagenet")


def test_imagenet_weights_have_the_checksum_that_keras_knows(tmp_path, monkeypatch):
    folder = tmp_path / "mirror/tensorflow/keras-applications/mobilenet_v3"
    folder.mkdir(parents=True)
    (folder / "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5").write_bytes(b"something else")
    monkeypatch.setenv("ZOO_MIRROR", (tmp_path / "mirror").as_uri())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match="MD5"):
        build_classifier("MobileNetV3Small", image_size=64, num_classes=3, weights="imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in dir(keras.applications) if name[0].isupper()])
def test_every_network_gets_the_file_that_the_manifest_has_for_it(name, monkeypatch):
    asked = []

    class Stop(Exception):
        pass

    def fetch(entry, *, progress=None):
        asked.append(entry)
        raise Stop

    monkeypatch.setattr(keras_weights, "fetch", fetch)
    size = find(name).smallest_size
    with pytest.raises(Stop):
        build_classifier(name, image_size=size, num_classes=2, weights="imagenet")
    assert asked == [find_keras_file(name, include_top=False, image_size=size)]


@pytest.mark.parametrize(
    ("file", "checksum", "message"),
    [
        # Keras would ask for it, but nobody published it.
        ("mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_96.h5", None, "which the manifest .* lacks"),
        ("vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5", "f" * 32, "checksum f{32}; .* has 64373286793e3c8b2"),
    ],
)
def test_files_that_the_manifest_does_not_know_are_refused(file, checksum, message, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    url = f"https://storage.googleapis.com/tensorflow/keras-applications/{file}"
    with pytest.raises(InputError, match=message) as caught, keras_weights.checked_downloads():
        keras_weights.file_utils.get_file(url.rpartition("/")[2], url, file_hash=checksum)
    assert url in str(caught.value)
    assert "pip install" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_keras_that_downloads_by_other_means_is_noticed():
    with pytest.raises(RuntimeError, match="get_file"), keras_weights.checked_downloads():
        pass


@pytest.mark.parametrize("file_name", ["other.weights.h5", "other.keras", "other.h5"])
def test_weights_of_another_network_are_refused_by_tensor(file_name, tmp_path, mobilenets, narrow):
    target = mobilenets[2]
    path = save(narrow, tmp_path / file_name)
    with pytest.raises(InputError) as caught:
        load_weights(target, path)
    assert str(caught.value) == (
        f"{path} does not fit {target.name}: Conv1/kernel is (3, 3, 3, 32) in the network and (3, 3, 3, 16) in the file"
    )


@pytest.fixture(scope="module")
def narrow():
    return stock("MobileNetV2", 32, alpha=0.5)


def test_weights_that_do_not_fit_a_classifier_are_refused_by_its_name(tmp_path, narrow):
    path = save(narrow, tmp_path / "narrow.keras")
    with pytest.raises(InputError, match=r"narrow\.keras does not fit MobileNetV2: Conv1/kernel is "):
        build_classifier("MobileNetV2", image_size=32, num_classes=3, weights=str(path))


def test_other_misfits_are_refused_in_one_line(tmp_path, mobilenets):
    network, _, target = mobilenets
    shallow = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(32, 3, use_bias=False)])
    with_bias = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(32, 3)])
    for path, message in [
        (save(shallow, tmp_path / "shallow.h5"), "bn_Conv1/gamma is present in the network and missing"),
        (save(shallow, tmp_path / "shallow.weights.h5"), "of bn_Conv1 is 4 in the network and 0"),
        (save(with_bias, tmp_path / "bias.weights.h5"), "of Conv1 is 1 in the network and 2"),
        (save(with_bias, tmp_path / "bias.keras"), "of Conv1 is 1 in the network and 2"),
        (with_extra_tensor(save(network, tmp_path / "extra.h5")), "of Conv1 is 1 in the network and 2"),
        (cut(save(network, tmp_path / "cut.h5")), "damaged"),
        (cut(save(network, tmp_path / "cut.weights.h5")), "damaged"),
        (cut(save(network, tmp_path / "cut.keras")), "damaged"),
        (save(network, tmp_path / "new.weights.h5").rename(tmp_path / "new.h5"), r"rename .* \.weights\.h5"),
        (save(network, tmp_path / "weights.h5").rename(tmp_path / "weights.pth"), r"must be a \.keras"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            load_weights(target, path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def cut(path):
    """End a file in its middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def with_extra_tensor(path):
    with h5py.File(path, "r+") as file:
        layer = file["model_weights/Conv1"]
        layer["bias"] = np.zeros(32)
        layer.attrs["weight_names"] = np.array([*layer.attrs["weight_names"], b"bias"], dtype="S")
    return path


@pytest.mark.parametrize("name", ["MobileNetV2", "InceptionV3", "efficientnet_lite0"])
def test_images_that_are_too_small_are_refused(name):
    size = find(name).smallest_size
    with pytest.raises(InputError, match=f"at least {size} x {size}"):
        build_classifier(name, image_size=size - 1, num_classes=3, weights="imagenet")


def test_channels_first_is_refused(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(InputError, match="channels_last"):
        build_classifier("MobileNetV2", image_size=32, num_classes=3, weights="imagenet")
