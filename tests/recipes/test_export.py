"""`zoo export` on run folders made by hand, the check that guards it, and the parts of both."""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from recipes import predict
from recipes.cli import main
from recipes.parts import checked_export, serving_model
from recipes.parts.backbones import find
from recipes.parts.check_images import LEAST, awkward_images, encode, gather_check_images, photo
from recipes.parts.checked_export import write_answers
from recipes.parts.classifier import preprocess
from recipes.parts.export_check import check, disorder, foreign_ops, measure
from recipes.parts.finished_run import FinishedRun, load_run
from recipes.parts.images import RESIZES, resize_pixels
from recipes.parts.markdown import escaped
from recipes.parts.model_card import initial_weights
from recipes.parts.names import printable
from recipes.parts.recorded import read_split
from recipes.parts.serving_model import ServingModel, embedding, served_name
from recipes.parts.version_folder import check_name, find_version, put_in_place, versions
from recipes.parts.warmup import FILE_NAME
from zoo.errors import InputError

awkward_images = cache(awkward_images)  # one of them is large
CLASSES = ("$ow_|x|", "cat\x1b[2J", "new\nline", "no text \udcff", "<b>&amp;")
SIZE = 16
CHECKS = ["ops", "xla", "classes", "sorted", "scores", "order", "batch", "pixels", "logits", "features", "repeat"]


def network(name="test_vgg", *, size=SIZE, num_classes=3, **changes):
    model = zoo.build_model(name, input_shape=(size, size, 3), num_classes=num_classes, **changes)
    train_norms(model)
    return model


def train_norms(model):
    """Give batch norms the statistics and weights of a trained network; untrained ones do next to nothing."""
    for seed, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            draw = np.random.default_rng(seed)
            channels = layer.gamma.shape
            values = draw.uniform(0.5, 2, channels), draw.normal(size=channels)
            layer.set_weights([*values, 0.1 * draw.normal(size=channels), draw.uniform(0.5, 2, channels)])


def finished_run(model, folder=Path(), resize="crop"):
    classes = tuple(f"class {index}" for index in range(model.output_shape[-1]))
    return FinishedRun(
        folder=folder,
        data="digits",
        image_size=model.input_shape[1],
        resize=resize,
        classes=classes,
        temperature=1.5,
        model=model,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_run):
    """A run with soft pooling on classes with difficult names, and its images."""
    root = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(0)
    data = write_run(root, network(num_classes=len(CLASSES), pool="soft"), CLASSES, images=8, notices=["# <b>none</b>"])
    (root / "fingerprint").write_text(data.fingerprint)
    return root


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """What `zoo export` made of it."""
    to = tmp_path_factory.mktemp("exported") / "not there yet"
    assert main(["export", str(made / "run"), "--to", str(to), "--name", "flowers"]) == 0
    return to / "flowers" / "1"


@pytest.fixture
def unchecked(monkeypatch):
    """The check takes seconds, and has tests of its own."""
    monkeypatch.setattr(checked_export, "check_export", lambda folder: [])


def card_of(version):
    return json.loads((version / "model_card.json").read_text())


def contents_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The artefact


def test_layout(exported):
    assert os.listdir(exported.parent) == ["1"]
    files = {str(path) for path in contents_of(exported)}
    assert {"saved_model.pb", "labels.txt", "model_card.md", "model_card.json"} <= files
    assert {"variables/variables.index", "assets.extra/check.npz", f"assets.extra/{FILE_NAME}"} <= files


def test_it_answers_what_predict_says(made, exported, tmp_path):
    paths = sorted((made / "images").rglob("*.png"))[::3]
    for index, encoded in enumerate(awkward_images(SIZE)):
        paths.append(tmp_path / f"{index}")
        paths[-1].write_bytes(encoded)
    expected, unreadable = predict.run(predict.Config(run=made / "run", images=tuple(paths), json=True))
    assert not unreadable
    loaded = tf.saved_model.load(str(exported))
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([path.read_bytes() for path in paths]))
    assert set(answer) == {"classes", "scores"}
    for row, classes, scores in zip(expected, answer["classes"].numpy(), answer["scores"].numpy(), strict=True):
        assert [name.decode() for name in classes] == [served_name(name) for name in row["classes"]]
        np.testing.assert_allclose(scores, row["scores"], atol=1e-6)


def test_a_corrupt_image_is_an_error_of_the_request_alone(exported):
    loaded = tf.saved_model.load(str(exported))
    ask = loaded.signatures["serving_default"]
    good = encode(photo(9, 9, 0), "PNG")
    for bad in (b"", b"nothing", good[: len(good) // 2]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            ask(image_bytes=tf.constant([good, bad]))
    assert ask(image_bytes=tf.constant([good]))["scores"].shape == (1, len(CLASSES))
    assert ask(image_bytes=tf.constant([], tf.string))["scores"].shape == (0, len(CLASSES))


def test_the_card(made, exported):
    card = card_of(exported)
    assert (card["name"], card["version"], card["run"]) == ("flowers", 1, "run")
    assert card["classes"] == ["$ow_|x|", "<b>&amp;", "cat\x1b[2J", "new\nline", "no text \\udcff"]
    assert card["calibration"]["temperature"] == 0.5
    assert card["data"]["fingerprint"] == (made / "fingerprint").read_text()
    assert sum(card["data"]["images"].values()) == 8 * len(CLASSES)
    assert card["check"]["validation_images"] == card["data"]["images"]["validation"] > 0
    assert card["check"]["images"] >= LEAST
    assert [each["name"] for each in card["check"]["checks"]] == CHECKS
    assert card["model"]["batch_norms_folded"] == 2
    assert card["model"]["batch_norms_kept"] == {}
    pixels = card["signatures"]["pixels"]
    assert pixels["inputs"] == {"pixels": {"dtype": "uint8", "shape": [None, None, None, 3]}}
    assert pixels["outputs"]["classes"] == {"dtype": "string", "shape": [None, len(CLASSES)]}
    assert set(pixels["outputs"]) == {"classes", "scores", "logits"}
    assert card["signatures"]["features"]["outputs"]["features"]["shape"] == [None, 16]
    contents = contents_of(exported)
    digests = {str(path): hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    cards = {"model_card.json", "model_card.md"}
    assert card["files"] == {path: digest for path, digest in digests.items() if path not in cards}


def test_names_that_would_break_text(exported):
    labels = (exported / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == [printable(name) for name in sorted(CLASSES)]
    text = (exported / "model_card.md").read_text(encoding="utf-8")
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "<b>" not in text.replace("\\<b\\>", "")
    confusion = text.split("Confusion")[1].split("\n\n")[1].splitlines()
    assert len(confusion) == 2 + len(CLASSES)
    assert {row.replace("\\|", "").count("|") for row in confusion} == {len(CLASSES) + 2}
    assert escaped("- a_b*") == "- a\\_b\\*"


def test_the_next_version_leaves_the_others_alone(made, exported, unchecked, capsys):
    before = contents_of(exported.parent)
    words = ["export", str(made / "run"), "--to", str(exported.parents[1]), "--name", "flowers"]
    try:
        assert main(words) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(exported.parent / "2")
        assert card_of(exported.parent / "2")["version"] == 2
        after = contents_of(exported.parent)
        assert {path: after[path] for path in before} == before
        assert sorted(os.listdir(exported.parent)) == ["1", "2"]
    finally:
        shutil.rmtree(exported.parent / "2", ignore_errors=True)


# What must not exist


def test_a_folding_that_is_wrong_by_a_little_is_not_exported(made, tmp_path, monkeypatch, capsys):
    def wrong(model):
        folded = zoo.fold_batch_norm(model)
        logits = folded.get_layer("head_logits")
        logits.bias.assign_add([0.01, 0, 0, 0, 0])
        return folded

    monkeypatch.setattr(serving_model, "fold_batch_norm", wrong)
    assert main(["export", str(made / "run"), "--to", str(tmp_path / "to")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    before, found = error.split("largest difference of a score: ")
    assert before.endswith("the check 'scores': ")
    assert 1e-4 < float(found.split(",")[0]) < 1e-2
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(made, tmp_path, monkeypatch):
    seen = []

    def stop(folder):
        seen.extend(os.listdir(folder.parent))
        raise KeyboardInterrupt

    monkeypatch.setattr(checked_export, "check_export", stop)
    (tmp_path / "to" / "run").mkdir(parents=True)
    assert main(["export", str(made / "run"), "--to", str(tmp_path / "to")]) == 130
    # A server looks at what is called by a number: killed here, the export would be invisible.
    assert [name[0] for name in seen] == ["."]
    assert not list((tmp_path / "to" / "run").iterdir())


def test_a_model_that_answers_with_nan(made, tmp_path, capsys):
    shutil.copytree(made / "run", tmp_path / "run")
    model = network(num_classes=len(CLASSES))
    model.get_layer("head_logits").bias.assign([np.nan] * len(CLASSES))
    model.save(tmp_path / "run" / "model.keras")
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "to")]) == 1
    assert "no number" in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


# --check


@pytest.mark.slow
def test_checked_again(exported, capsys):
    assert main(["export", "--check", str(exported.parent)]) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    assert last == str(exported)
    assert [line.split()[0] for line in shown[1:]] == CHECKS


@pytest.mark.parametrize(("inside", "given"), [("", "1"), ("1", "."), ("1", "../1")])
def test_files_beside_a_version_are_found_by_any_path_to_it(
    inside, given, exported, unchecked, tmp_path, monkeypatch, capsys
):
    version = tmp_path / "flowers" / "1"
    shutil.copytree(exported, version)
    other = {"format": "onnx", "precision": "float32", "ending": ".onnx", "sha256": ""}
    (version / "model_card.json").write_text(json.dumps({**card_of(version), "other_formats": [other]}))
    monkeypatch.chdir(version.parent / inside)
    assert main(["export", "--check", given]) == 0
    shown = capsys.readouterr().out
    assert "flowers-1.onnx is not beside it any more" in shown
    assert shown.splitlines()[-1] == str(version)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda folder: (folder / "labels.txt").write_text("other"), 1, "changed, gone or new: labels.txt"),
        (lambda folder: (folder / "fingerprint.pb").unlink(), 1, "changed, gone or new: fingerprint.pb"),
        (lambda folder: (folder / "variables" / "more").touch(), 1, "changed, gone or new: variables/more"),
        (lambda folder: (folder / "model_card.json").unlink(), 2, "no model card"),
        (lambda folder: (folder / "model_card.json").write_text("[]"), 2, "no model card"),
        (lambda folder: (folder / "saved_model.pb").unlink(), 2, "holds no SavedModel"),
        (shutil.rmtree, 2, "holds no SavedModel"),
    ],
)
def test_an_export_that_is_not_what_it_was(change, code, message, exported, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    change(folder)
    assert main(["export", "--check", str(folder)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give a run folder"),
        (["RUN"], "Give a run folder"),
        (["--to", "TO"], "Give a run folder"),
        (["RUN", "--to", "TO", "--check", "TO"], "nothing else goes with it"),
        (["--check", "TO", "--name", "a"], "nothing else goes with it"),
        (["RUN", "--to", "TO", "--name", "a/b"], "Give another with --name"),
        (["RUN", "--to", "FILE"], "Choose another place with --to"),
        (["NOWHERE", "--to", "TO"], "No such run folder"),
        (["IMAGES", "--to", "TO"], "not the folder of a finished run"),
    ],
)
def test_what_cannot_be_done(words, message, made, tmp_path, capsys):
    (tmp_path / "file").touch()
    places = {"RUN": made / "run", "IMAGES": made / "images", "FILE": tmp_path / "file", "NOWHERE": tmp_path / "no"}
    places["TO"] = tmp_path / "to"
    assert main(["export", *(str(places.get(word, word)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == ["file"]


# Versions


@pytest.mark.parametrize("name", ["", " ", ".hidden", "..", "a/b", "a\\b", "a\nb", "a\x1b[2J", "a\udcff"])
def test_names_that_no_server_should_have(name):
    with pytest.raises(InputError, match="--name"):
        check_name(name)


def test_the_next_number(tmp_path):
    for name in ("1", "007", "x", ".new-8", "9a", "-10"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [1, 7]
    beside = tmp_path / ".new-1"
    beside.mkdir()
    told = []

    def finish(version):
        told.append(version)
        if version == 8:  # another process is faster
            (tmp_path / "8" / "variables").mkdir(parents=True)

    assert put_in_place(beside, finish) == tmp_path / "9"
    assert told == [8, 9]
    with pytest.raises(FileNotFoundError):
        put_in_place(beside, lambda version: None)
    (tmp_path / "8" / "saved_model.pb").touch()
    assert find_version(tmp_path / "8") == tmp_path / "8"
    with pytest.raises(InputError, match="no SavedModel"):
        find_version(tmp_path)


# The images to compare on


def test_without_the_runs_images_there_are_enough_all_the_same(made, tmp_path):
    finished = load_run(made / "run")
    records = read_split(made / "run" / "split.jsonl")
    for elsewhere in (f"folder:{tmp_path / 'gone'}", "digits"):
        images = gather_check_images(replace(finished, data=elsewhere), records)
        assert (images.own, len(images.encoded)) == (0, LEAST)
    images = gather_check_images(finished, records)
    assert len(images.encoded) == LEAST
    found = Counter(hashlib.sha256(image).hexdigest() for image in images.encoded[: images.own])
    assert found == Counter(record.sha256 for record in records if record.split == "validation")


def test_awkward_images_are_what_they_should_be(tmp_path):
    kinds, sizes = set(), set()
    for encoded in awkward_images(24):
        (tmp_path / "image").write_bytes(encoded)
        with Image.open(tmp_path / "image") as image:
            kinds.add((image.format, image.mode))
            sizes.add(image.size)
    assert {(1, 1), (300, 2), (2, 300), (3000, 2000), (24, 24)} <= sizes
    assert {("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P"), ("PNG", "RGBA"), ("PNG", "I;16"), ("GIF", "P")} <= kinds
    assert {("BMP", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("PNG", "1")} <= kinds


@pytest.mark.parametrize("resize", RESIZES)
def test_at_its_own_size_an_image_stays_as_it_is(resize):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    np.testing.assert_array_equal(resize_pixels(pixels, size=24, resize=resize), pixels)


# The check itself


def test_a_number_that_is_none_passes_no_check():
    assert check("x", "", np.float64(1e-4), 1e-4)["passed"] is True
    assert check("x", "", np.float64(np.nan), 1e-4)["passed"] is False
    assert check("x", "", ["op"], [])["passed"] is False


def test_disorder_is_the_worst_pair():
    generator = np.random.default_rng(0)
    for _ in range(20):
        expected = generator.random((3, 6))
        placed = np.array([generator.permutation(6) for _ in expected])
        pairs = [
            row[order[later]] - row[order[earlier]]
            for row, order in zip(expected, placed, strict=True)
            for later in range(6)
            for earlier in range(later + 1)
        ]
        assert disorder(placed, expected) == pytest.approx(max(pairs))
    assert disorder(np.argsort(-expected, axis=1), expected) == 0


def test_what_a_server_cannot_run_is_named(tmp_path):
    module = tf.Module()
    module.compiled = tf.function(lambda x: x + 1, jit_compile=True)
    module.noise = tf.function(lambda x: module.compiled(x) + tf.random.uniform(()))
    module.python = tf.function(lambda x: tf.numpy_function(lambda value: value, [x], tf.float32))
    spec = tf.TensorSpec((), tf.float32)
    signatures = {name: getattr(module, name).get_concrete_function(spec) for name in ("noise", "python")}
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    unknown, compiled = foreign_ops(str(tmp_path / "saved_model.pb"))
    assert unknown == ["PyFunc", "RandomUniform"]
    assert compiled
    assert [each["passed"] for each in measure(str(tmp_path))] == [False, False]


# Networks


def checked(model, folder):
    """Export a model and check it in this process; return what is served."""
    finished = finished_run(model)
    images = [*awkward_images(finished.image_size), *(encode(photo(40, 50, seed), "JPEG") for seed in range(4))]
    write_answers(folder, finished, images)
    served = ServingModel(finished)
    served.save(folder)
    checks = list(measure(str(folder)))
    assert [each for each in checks if not each["passed"]] == []
    assert [each["name"] for each in checks] == CHECKS
    return served


def test_a_flat_head_with_hidden_layers(tmp_path):
    checked(network("test_lenet", num_classes=4), tmp_path)


@pytest.mark.parametrize(("name", "layer"), [("test_lenet", "head_dropout"), ("test_mobilenet_v2", "head_dropout")])
def test_the_embedding_is_what_the_logits_are_made_of(name, layer):
    model = network(name)
    pixels = np.asarray(photo(SIZE, SIZE, 0), np.float32)[np.newaxis]
    found, expected = keras.Model(model.input, [embedding(model), model.get_layer(layer).input])(pixels)
    np.testing.assert_array_equal(found, expected)
    hidden = model.get_layer("head_pool").output is not model.get_layer(layer).input
    assert hidden == (name == "test_lenet")


def test_nothing_random_is_left(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.RandomFlip()(inputs)
    x = keras.layers.RandomRotation(0.5)(x)
    x = keras.layers.Conv2D(8, 3)(keras.layers.GaussianNoise(0.5)(x))
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SpatialDropout2D(0.5)(keras.layers.Activation("silu")(x))
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Activation("linear")(keras.layers.Dense(3)(x)))
    train_norms(model)
    served = checked(model, tmp_path)
    assert served.folded == 1
    assert served.endpoints["features"].structured_outputs["features"].shape[-1] == 8


def test_logits_that_are_the_mean_of_a_map(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(3, 1)(keras.layers.Dropout(0.5)(x))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    assert embedding(model).shape == (None, 8)
    checked(model, tmp_path)


def test_grouped_convolutions_run_without_xla(tmp_path):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3)(inputs)
    x = keras.layers.Conv2D(16, 3, groups=8, strides=2, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(16, (3, 1), groups=16, dilation_rate=2, activation="relu")(x)
    x = keras.layers.Conv2D(8, 3, groups=4, padding="same")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(x)))
    train_norms(model)
    assert checked(model, tmp_path).folded == 1


def test_in_16_bits_batch_norm_stays(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network("test_resnet")
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    served = checked(keras.models.load_model(tmp_path / "model.keras"), tmp_path)
    assert served.folded == 0
    assert len(served.kept) == 6
    assert "16 bits" in served.kept[0][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["EfficientNetB0", "ConvNeXtTiny", "MobileNetV3Small", "ResNet50V2", "DenseNet121", "NASNetMobile"]
)
def test_networks_of_keras_applications(name, tmp_path):
    backbone = find(name)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((backbone.smallest_size, backbone.smallest_size, 3))
    own = {"include_preprocessing": False} if name.startswith(("ConvNeXt", "MobileNetV3")) else {}
    pixels = preprocess(backbone.preprocessing, inputs)
    features = getattr(keras.applications, name)(input_tensor=pixels, weights=None, include_top=False, **own)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(features.output))
    checked(keras.Model(inputs, keras.layers.Dense(3)(x), name=name), tmp_path)


@pytest.mark.slow
def test_every_kind_of_the_zoo(tmp_path):
    names = [name for name in zoo.MODELS if name.startswith("test_")]
    models = [network(name) for name in names]
    models += [network(pool=name) for name in zoo.POOLS if zoo.POOLS[name].window]
    for index, model in enumerate(models):
        (tmp_path / str(index)).mkdir()
        checked(model, tmp_path / str(index))


@pytest.mark.parametrize(
    ("config", "licence"),
    [
        ({"model": "vgg_tiny"}, None),
        ({"backbone": "efficientnet_lite0", "weights": "imagenet", "image_size": 64}, "Apache-2.0"),
        ({"backbone": "ConvNeXtTiny", "weights": "imagenet", "image_size": 64}, "MIT"),
        ({"backbone": "mobilenet_v2_0.35", "weights": "imagenet", "image_size": 96}, "Apache-2.0"),
        ({"backbone": "MobileNetV2", "weights": "my.h5", "image_size": 96}, None),
    ],
)
def test_the_licence_of_the_initial_weights(config, licence):
    described = initial_weights(config)
    assert described["licence"] == licence
    assert described["weights"] == config.get("weights", "random")
    assert (described["licence_source"] is None) == (licence is None)
