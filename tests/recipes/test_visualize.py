"""`zoo visualize` on run folders made by hand, and the parts that it draws."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from recipes.cli import main
from recipes.parts.backbones import find
from recipes.parts.classifier import preprocess
from recipes.parts.feature_maps import (
    compute,
    find_feature_map,
    find_reductions,
    last_feature_map,
    select_channels,
)
from recipes.parts.first_kernels import first_kernels
from recipes.parts.grad_cam import enlarge, grad_cam
from recipes.parts.images import decode
from recipes.parts.metrics import log_softmax
from recipes.parts.names import printable
from recipes.parts.visualization_figure import mosaic
from recipes.visualize import Config, figure_path
from zoo.errors import InputError
from zoo.graph import Graph
from zoo.pools import POOLS
from zoo.spec import PreprocessingSpec
from zoo.surgery import split

CLASSES = ("$ow_", "cat\x1b[2J", "dog", "hen", "ox", "pig", "rat")
WINDOWED = [name for name in POOLS if POOLS[name].window]


def network(name, size=16, num_classes=3, **changes):
    return zoo.build_model(name, input_shape=(size, size, 3), num_classes=num_classes, **changes)


def picture(size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.float32)


def put_run(folder, model, classes, temperature=1.0):
    folder.mkdir()
    model.save(folder / "model.keras")
    config = {"data": "digits", "image_size": model.input_shape[1], "resize": "stretch"}
    contents = {"config.json": config, "classes.json": classes, "calibration.json": {"temperature": temperature}}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with soft pooling, whose classes have difficult names."""
    keras.utils.set_random_seed(0)
    model = network("test_vgg", num_classes=len(CLASSES), pool="soft")
    return put_run(tmp_path_factory.mktemp("made") / "run", model, CLASSES, temperature=2.0)


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def visualize(*words):
    return main(["visualize", *map(str, words)])


def colours(path):
    with Image.open(path) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


def test_from_the_command_line_to_the_figure(made, photo, tmp_path, capsys):
    assert visualize(made, "--image", photo, "--out", tmp_path / "one.png") == 0
    *shown, last = capsys.readouterr().out.splitlines()
    assert last == str(tmp_path / "one.png")
    assert colours(tmp_path / "one.png") > 500

    model = keras.models.load_model(made / "model.keras")
    pixels = np.asarray(decode(photo.read_bytes(), size=16, resize="stretch"), np.float32)
    expected = np.exp(log_softmax(model(pixels[np.newaxis])[0] / 2.0))
    likeliest = np.argsort(-expected)[:5]
    scores = [line.split(maxsplit=1) for line in shown[:5]]
    assert [name for _, name in scores] == [printable(CLASSES[index]) for index in likeliest]
    np.testing.assert_allclose([float(score) for score, _ in scores], expected[likeliest], atol=0.0006)
    assert "stage2_pool (4 × 4 positions)" in shown[5]
    assert shown[6] == "  finer: --layer stage2_block1_activation (8 × 8 positions)"


def test_another_class_and_layer_change_the_evidence_alone(made, photo, tmp_path, capsys):
    unlikely = "rat"
    words = ["--class-name", unlikely, "--layer", "stage1_block1_activation"]
    assert visualize(made, "--image", photo, "--out", tmp_path / "plain.png") == 0
    plain = capsys.readouterr().out.splitlines()[:5]
    assert visualize(made, "--image", photo, *words, "--out", tmp_path / "other.png") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:5] == plain
    assert sum(line.endswith(f"  {unlikely}") for line in shown) == 1
    assert f"  Grad-CAM of {unlikely} from stage1_block1_activation (16 × 16 positions)" in shown
    plain_figure, other_figure = (np.asarray(Image.open(tmp_path / name)) for name in ("plain.png", "other.png"))
    assert plain_figure.shape == other_figure.shape
    rows = np.flatnonzero((plain_figure != other_figure).any(axis=(1, 2)))
    assert rows.max() < plain_figure.shape[0] * 0.5, "kernels and feature maps stay"


def test_the_figure_goes_into_the_run_folder_and_never_over_another_file(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    dense = keras.Model(inputs, keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flatten")(inputs)))
    run = put_run(tmp_path / "run", dense, ["a", "b"])
    hostile = tmp_path / "sn$o_w \n\x1b[2J\udce9.png"
    Image.new("RGB", (4, 4), (9, 99, 199)).save(hostile)
    for name in ("visualize-sn_o_w____2J_.png", "visualize-sn_o_w____2J_-2.png"):
        assert visualize(run, "--image", hostile) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(run / name)
        assert colours(run / name) > 20, "the image and the scores, as there is nothing else in this network"
    assert len(list(run.iterdir())) == 6

    before = (run / "visualize-sn_o_w____2J_.png").read_bytes()
    assert visualize(run, "--image", hostile, "--out", run / "visualize-sn_o_w____2J_.png") == 2
    assert "exists already" in capsys.readouterr().err
    assert (run / "visualize-sn_o_w____2J_.png").read_bytes() == before
    assert visualize(run, "--image", hostile, "--layer", "dense") == 2
    assert "gives no feature map, and neither does any other" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["figure.jpg", "no/such/folder/figure.png"])
def test_a_place_that_is_none(out, tmp_path):
    with pytest.raises(InputError, match=r"--out is the path of a \.png file"):
        figure_path(Config(run=tmp_path, image=tmp_path / "a.png", out=tmp_path / out))


@pytest.mark.parametrize("stem", ["x" * 250, "貓" * 80, "...", "-"])
def test_any_name_of_an_image_makes_a_name_of_a_figure(stem, tmp_path):
    path = figure_path(Config(run=tmp_path, image=tmp_path / f"{stem}.jpg"))
    path.touch()
    assert figure_path(Config(run=tmp_path, image=tmp_path / f"{stem}.jpg")).name == f"{path.stem}-2.png"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--class-name", "dogg"], "Unknown class 'dogg'. Did you mean dog"),
        (["--class-name", "cat"], "cat\\x1b[2J"),
        (["--layer", "stage1_pol"], "Did you mean stage1_pool"),
        (["--layer", "head_logits"], "gives no feature map of the network. These do, among others: stage2_block1_"),
        (["--layer", "preprocess"], "gives no feature map"),
        (["--layer", ""], "Unknown layer ''"),
    ],
)
def test_what_does_not_exist_is_said_in_one_line(words, message, made, photo, capsys):
    assert visualize(made, "--image", photo, *words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
    assert not list(made.glob("*.png"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nothing", "not a JPEG, PNG, BMP, GIF or WebP image"),
        (b"", "the file is empty"),
        (None, "No such file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\4\0\0\0\4\x08\2\0\0\0" + b"\0" * 30, "damaged"),
    ],
)
def test_an_image_that_cannot_be_read(content, message, made, tmp_path, capfd):
    file = tmp_path / "bad\x1b[2J.png"
    if content is not None:
        file.write_bytes(content)
    assert visualize(made, "--image", file) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "\x1b" not in error
    assert not list(made.glob("*.png"))


def test_a_folder_that_is_no_run(tmp_path, photo, capsys):
    assert visualize(tmp_path, "--image", photo) == 2
    assert "not the folder of a finished run" in capsys.readouterr().err


def test_a_network_that_answers_with_nan(tmp_path, photo, capsys):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs)))
    model.layers[-1].set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    assert visualize(put_run(tmp_path / "run", model, ["a", "b"]), "--image", photo) == 2
    assert "no number" in capsys.readouterr().err


# Grad-CAM


@pytest.mark.parametrize("name", ["test_resnet", "test_mobilenet_v2", "test_vgg"])
@pytest.mark.parametrize("frozen", [False, True])
def test_behind_mean_pooling_and_a_linear_head_grad_cam_is_cam(name, frozen):
    keras.utils.set_random_seed(1)
    model = network(name)
    model.trainable = not frozen
    graph = Graph(model)
    tensor = last_feature_map(graph).outputs[0]
    (maps,) = compute(graph, [tensor], picture()[np.newaxis])
    kernel = np.asarray(model.get_layer("head_logits").kernel)
    found = []
    for index in range(3):
        cam = maps[0].astype(np.float64) @ kernel[:, index]
        heat = grad_cam(model, tensor, picture(), index)
        np.testing.assert_allclose(heat, np.maximum(cam, 0) / cam.size, rtol=1e-4, atol=1e-6 * np.abs(cam).max())
        found.append(heat.max())
    assert max(found) > 0


def test_by_hand():
    """Two channels, of which the flat head reads each position by itself: the weights of the map are their means."""
    inputs = keras.Input((2, 2, 2))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(maps)))
    # Rows of the dense kernel: positions by rows, channels within each; columns: classes.
    head = np.array([[1, 0], [-1, 0], [3, 0], [0, 0], [0, 0], [-3, 0], [0, 0], [0, -8]], np.float32)
    model.set_weights([np.eye(2, dtype=np.float32)[np.newaxis, np.newaxis], head, np.zeros(2, np.float32)])
    image = np.array([[[5, 1], [1, 1]], [[1, 2], [0, 7]]], np.float32)
    # Means of the head: channel 0 has (1 + 3 + 0 + 0) / 4 = 1, channel 1 (-1 + 0 - 3 + 0) / 4 = -1.
    np.testing.assert_allclose(grad_cam(model, maps, image, 0), [[4, 0], [0, 0]])
    # Class 1 has nothing but evidence against it.
    heat = grad_cam(model, maps, image, 1)
    np.testing.assert_array_equal(heat, np.zeros((2, 2)))
    np.testing.assert_array_equal(enlarge(heat, (8, 8)), np.zeros((8, 8)))


def test_in_the_middle_of_a_network_against_finite_differences():
    """Adding e to all of channel k raises the score by e times the sum of its gradients."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((9, 9, 3))
    x = keras.layers.Conv2D(4, 3, activation="tanh", name="middle")(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="tanh")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    image = picture(9) / 255
    prefix, suffix = split(model, "middle")
    maps = np.asarray(prefix(image[np.newaxis]))[0]
    step = 1e-2
    moved = maps + step * np.concatenate([np.eye(4), -np.eye(4)])[:, np.newaxis, np.newaxis]
    up, down = np.split(np.asarray(suffix(moved.astype(np.float32)), np.float64)[:, 1], 2)
    alpha = (up - down) / (2 * step) / maps[..., 0].size
    expected = np.maximum(maps @ alpha, 0)
    assert expected.max() > 0
    heat = grad_cam(model, find_feature_map(Graph(model), "middle").outputs[0], image, 1)
    np.testing.assert_allclose(heat, expected, rtol=1e-2, atol=1e-2 * expected.max())


def test_mixed_precision_gives_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network("test_resnet")
    finally:
        keras.config.set_dtype_policy("float32")
    tensor = last_feature_map(Graph(model)).outputs[0]
    assert tensor.dtype == "bfloat16"
    heat = grad_cam(model, tensor, picture(), 0)
    assert heat.dtype == np.float32
    assert np.isfinite(heat).all()
    logits, maps = compute(Graph(model), [model.output, tensor], picture()[np.newaxis])
    np.testing.assert_array_equal(logits, model(picture()[np.newaxis]))
    assert maps.dtype == np.float32


def test_enlarged_linearly_between_the_centres_of_positions():
    np.testing.assert_allclose(enlarge(np.array([[0.0, 4.0]]), (1, 8))[0], [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4])


# Feature maps


@pytest.mark.parametrize("pool", WINDOWED)
def test_pooling_between_stages_is_found_and_keeps_channels(pool):
    graph = Graph(network("test_vgg", pool=pool))
    reductions = find_reductions(graph)
    assert [reduction.call.name for reduction in reductions] == ["stage1_pool", "stage2_pool"]
    assert all(reduction.pools and reduction.keeps_channels for reduction in reductions)
    assert [reduction.source for reduction in reductions] == ["stage1_block1_activation", "stage2_block1_activation"]
    assert [tuple(reduction.after.shape[1:3]) for reduction in reductions] == [(8, 8), (4, 4)]
    assert last_feature_map(graph).name == "stage2_pool"


@pytest.mark.parametrize(
    ("name", "changes", "expected", "kept", "last"),
    [
        ("test_resnet", {}, ["stage2_block1_first_conv"], [False], "stage2_block1_activation"),
        ("test_resnet", {"pool": "blur"}, ["stage2_pool"], [True], "stage2_block1_activation"),
        ("test_mobilenet_v2", {}, ["stem_conv", "stage2_block1_depthwise_conv"], [False, True], "head_activation"),
        ("test_separable_vgg", {}, ["stage1_pool", "stage2_pool"], [True, True], "stage2_pool"),
        ("test_lenet", {}, ["stage1_pool", "stage2_pool"], [True, True], "stage2_pool"),
        (
            "test_vgg",
            {"head_pool": zoo.PoolSpec("adaptive_avg", {"output_size": 2})},
            ["stage1_pool", "stage2_pool"],
            [True, True],
            "stage2_pool",
        ),
    ],
)
def test_where_maps_become_smaller(name, changes, expected, kept, last):
    graph = Graph(network(name, **changes))
    reductions = find_reductions(graph)
    assert [reduction.call.name for reduction in reductions] == expected
    assert [reduction.keeps_channels for reduction in reductions] == kept
    assert last_feature_map(graph).name == last


def test_before_and_after_are_what_the_layer_reads_and_gives():
    graph = Graph(network("test_vgg", pool="gem"))
    for reduction in find_reductions(graph):
        before, after = compute(graph, [reduction.before, reduction.after], picture()[np.newaxis])
        np.testing.assert_allclose(reduction.call.operation(before), after, rtol=1e-5)


def test_padding_squeezing_and_nesting():
    """Zeros around a map are no part of it; a gate is no smaller map; a nested model is one step."""
    inputs = keras.Input((16, 16, 3))
    stem = keras.Sequential([keras.layers.Conv2D(4, 4, strides=4, name="patches")], name="stem")
    x = stem(inputs)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Multiply(name="gated")([x, keras.layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.Conv2D(5, 3, strides=2, name="down")(x)
    graph = Graph(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(x))))
    first, second = find_reductions(graph)
    assert (first.call.name, first.source) == ("stem", graph.calls[0].name)
    assert first.before is graph.model.inputs[0]
    assert (second.call.name, second.source, tuple(second.before.shape)) == ("down", "gated", (None, 4, 4, 4))
    before, after = compute(graph, [first.before, first.after], picture()[np.newaxis])
    np.testing.assert_array_equal(before[0], picture())
    assert after.shape == (1, 4, 4, 4)
    assert last_feature_map(graph).name == "down"
    assert first_kernels(graph).layer == "patches"


def test_channels_that_vary_most_are_shown_and_the_same_ones_behind_a_pooling():
    pooling, convolution = (find_reductions(Graph(network(name)))[0] for name in ("test_vgg", "test_resnet"))
    before = np.zeros((2, 2, 3))
    before[..., 0] = 100  # large, and says nothing
    before[0, 0, 1], before[0, 0, 2] = 1, 2
    after = np.zeros((2, 2, 3))
    after[0, 0, 0] = 1
    first, second = select_channels(pooling, before, after, 2)
    assert list(first) == list(second) == [2, 1]
    first, second = select_channels(convolution, before, after, 2)
    assert list(first) == [2, 1]
    assert list(second) == [0, 1]


# Kernels


def kernels_of(model, kernel):
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    layer.set_weights([kernel, *layer.get_weights()[1:]])
    return first_kernels(Graph(model))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_kernels_have_the_colours_of_the_image(order):
    preprocessing = PreprocessingSpec(scale=0.5, offset=(-3.0, -2.0, -1.0), channel_order=order)
    model = network(replace(zoo.MODELS["test_vgg"], preprocessing=preprocessing))
    kernel = np.zeros((3, 3, 3, 8), np.float32)
    kernel[1, 1, 0, 0] = 0.2  # answers to the first channel that the layer reads
    kernel[0, 0, 1, 1] = -4.0  # to less green, at the upper left
    found = kernels_of(model, kernel)
    expected = np.full((8, 3, 3, 3), 0.5, np.float32)
    expected[0, 1, 1, 0 if order == "rgb" else 2] = 1
    expected[1, 0, 0, 1] = 0
    np.testing.assert_allclose(found.pictures, expected)


@pytest.mark.parametrize("kind", ["caffe", "torch", "tf", "included"])
def test_preprocessing_of_keras_applications_is_seen_through(kind):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False)(preprocess(kind, inputs))
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    found = kernels_of(model, np.array([[[[1, 0], [0, 0], [0, 1]]]], np.float32))
    reddest = found.pictures[:, 0, 0, 0].argmax()
    assert reddest == (1 if kind == "caffe" else 0)


def test_kernels_that_do_not_read_colours_are_grey():
    inputs = keras.Input((8, 8, 1))
    kernel = np.arange(-1, 2, dtype=np.float32).reshape(1, 3, 1, 1)
    model = keras.Model(inputs, keras.layers.Conv2D(1, (1, 3), use_bias=False)(inputs))
    np.testing.assert_allclose(kernels_of(model, kernel).pictures, [[[0, 0.5, 1]]])

    inputs = keras.Input((8, 8, 3))
    mixed = keras.layers.Dense(3)(inputs)  # its channels are no colours any more
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1, use_bias=False)(mixed))
    found = kernels_of(model, np.array([[[[1], [2], [3]]]], np.float32))
    assert found.pictures.shape == (1, 1, 1)
    assert found.meaning == "mean over the 3 channels that each reads"

    for layer in (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), keras.layers.SeparableConv2D(5, 3)):
        found = first_kernels(Graph(keras.Model(inputs, layer(inputs))))
        assert found.pictures.shape == (3 * layer.depth_multiplier, 3, 3)
        assert found.meaning == "each reads one channel"


def test_a_network_without_convolutions():
    inputs = keras.Input((4, 4, 3))
    graph = Graph(
        keras.Model(inputs, keras.layers.Dense(2, name="dense")(keras.layers.Flatten(name="flatten")(inputs)))
    )
    assert first_kernels(graph) is None
    assert last_feature_map(graph) is None
    assert find_reductions(graph) == []


def test_a_mosaic_has_every_picture_in_its_place():
    pictures = np.stack([np.full((2, 4, 3), level) for level in (0.0, 0.25, 0.75)])
    laid = mosaic(pictures, rows=2, columns=2)
    middles = [laid[laid.shape[0] * row // 4, laid.shape[1] * column // 4, 0] for row in (1, 3) for column in (1, 3)]
    assert middles == [0, 0.25, 0.75, 1]


# Networks of keras.applications


def keras_network(name):
    backbone = find(name)
    inputs = keras.Input((max(64, backbone.smallest_size),) * 2 + (3,))
    arguments = {"include_preprocessing": False} if name.startswith(("ConvNeXt", "MobileNetV3")) else {}
    pixels = preprocess(backbone.preprocessing, inputs)
    features = getattr(keras.applications, name)(input_tensor=pixels, weights=None, include_top=False, **arguments)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(features.output)
    return keras.Model(inputs, keras.layers.Dense(2, name="head_logits")(x), name=name)


@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        "VGG16",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("ResNet50", "ConvNeXtTiny", "MobileNetV3Small", "EfficientNetB0", "DenseNet121", "Xception")
        ),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("InceptionV3", "NASNetMobile")),
    ],
)
def test_networks_of_keras_applications(name):
    keras.utils.set_random_seed(3)
    model = keras_network(name)
    graph = Graph(model)
    reductions = find_reductions(graph)
    sizes = [reduction.after.shape[1] for reduction in reductions]
    assert sizes == sorted(set(sizes), reverse=True)
    assert len(sizes) == (4 if name == "ConvNeXtTiny" else 5)
    assert not [each.source for each in reductions if "pad" in each.source]
    assert first_kernels(graph).meaning == "red, green, blue as in the image"

    tensor = last_feature_map(graph).outputs[0]
    assert tensor is model.get_layer("head_pool").input
    image = picture(model.input_shape[1])
    (maps,) = compute(graph, [tensor], image[np.newaxis])
    for index, weights in enumerate(np.asarray(model.get_layer("head_logits").kernel).T):
        cam = maps[0] @ weights
        heat = grad_cam(model, tensor, image, index)
        np.testing.assert_allclose(heat, np.maximum(cam, 0) / cam.size, rtol=1e-3, atol=1e-5 * np.abs(cam).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ConvNeXtTiny", "NASNetMobile"])
def test_a_figure_of_a_network_of_keras_applications(name, tmp_path, photo):
    assert visualize(put_run(tmp_path / "run", keras_network(name), ["a", "b"]), "--image", photo) == 0
    assert colours(tmp_path / "run" / "visualize-photo.png") > 500
