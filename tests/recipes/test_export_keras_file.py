"""`zoo export` of `.keras` files: which are classifiers of images, and what is known of them."""

import json
import os

import keras
import numpy as np
import pytest

from recipes.cli import main
from recipes.parts import checked_export
from recipes.parts.check_images import photo
from recipes.parts.keras_file import load_keras_file, read_classes, with_logits
from zoo.errors import InputError

SIZE = 12


def network(end, *, shape=(SIZE, SIZE, 3)):
    """A small classifier; `end` is applied to its features."""
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    return keras.Model(inputs, end(keras.layers.GlobalAveragePooling2D()(x)))


def dense(activation=None, units=3):
    # Weights that make scores differ, and probabilities not all alike.
    return keras.layers.Dense(units, activation=activation, kernel_initializer=keras.initializers.RandomNormal(0, 5, 0))


def nested(features):
    inner = keras.Sequential([keras.Input(features.shape[1:]), dense(), keras.layers.Softmax()])
    return inner(features)


ENDS = {
    "dense": dense("softmax"),
    "layer": lambda x: keras.layers.Softmax()(dense()(x)),
    "activation": lambda x: keras.layers.Activation("softmax")(dense()(x)),
    "operation": lambda x: keras.ops.softmax(dense()(x)),
    "nested": nested,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_softmax_is_taken_off(end):
    keras.utils.set_random_seed(0)
    model = network(ENDS[end])
    images = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    logits = np.asarray(with_logits(model)(images))
    assert logits.min() < 0
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(logits)), expected, atol=1e-6)


def test_logits_stay_as_they_are():
    for end in (dense(), lambda x: keras.layers.Activation("linear")(dense()(x)), dense("tanh")):
        model = network(end)
        assert with_logits(model) is model


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (dense("sigmoid"), "sigmoid"),
        (lambda x: keras.layers.Activation("sigmoid")(dense()(x)), "sigmoid"),
        (lambda x: keras.layers.Identity()(dense("softmax")(x)), "can be taken off"),
        (lambda x: keras.layers.Softmax(axis=0)(dense()(x)), "over its last axis"),
    ],
)
def test_probabilities_of_other_kinds_are_refused(end, message):
    with pytest.raises(InputError, match=message):
        with_logits(network(end))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A classifier, and much that is none."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    models = {
        "good": network(dense("softmax")),
        "grey": network(dense(), shape=(SIZE, SIZE, 1)),
        "any": network(dense(), shape=(None, None, 3)),
        "wide": network(dense(), shape=(SIZE, 2 * SIZE, 3)),
        "two": network(lambda x: [dense()(x), dense()(x)]),
        "table": keras.Sequential([keras.Input((5,)), dense()]),
        "code": network(lambda x: keras.layers.Lambda(lambda y: y[:, :3])(x)),
    }
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    (folder / "text.keras").write_text("none")
    (folder / "good.h5").write_text("none")
    (folder / "three.txt").write_text("ape\nbee\ncat\n", encoding="utf-8")
    (folder / "two.txt").write_text("ape\nbee\n", encoding="utf-8")
    (folder / "twice.txt").write_text("ape\nbee\nape\n", encoding="utf-8")
    (folder / "gap.txt").write_text("ape\n\ncat\n", encoding="utf-8")
    for number, name in enumerate(("ape", "bee", "cat")):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "other" / f"{name}!").mkdir(parents=True)
        for index in range(6):
            image = photo(15, 20, 10 * number + index)
            image.save(folder / "images" / name / f"{index}.png")
            image.save(folder / "other" / f"{name}!" / f"{index}.png")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["good.keras"], "with --classes"),
        (["good.keras", "--classes", "two.txt"], "has 3 outputs"),
        (["good.keras", "--classes", "twice.txt"], "is there twice: ape"),
        (["good.keras", "--classes", "gap.txt"], "a name is empty"),
        (["good.keras", "--classes", "none.txt"], "Cannot read the names of classes"),
        (["good.keras", "--classes", "three.txt", "--data", "folder:other"], "has classes that"),
        (["good.keras", "--classes", "three.txt", "--data", "folder:gone"], "gone"),
        (["good.keras", "--classes", "three.txt", "--precision", "int8"], "give --format litert too"),
        (["good.h5", "--classes", "three.txt"], "is no .keras file"),
        (["none.keras", "--classes", "three.txt"], "No such run folder or .keras file: none.keras"),
        (["text.keras", "--classes", "three.txt"], "cannot be loaded"),
        (["code.keras", "--classes", "three.txt"], "cannot be loaded"),
        (["grey.keras", "--classes", "three.txt"], "(12, 12, 1)"),
        (["any.keras", "--classes", "three.txt"], "(None, None, 3)"),
        (["wide.keras", "--classes", "three.txt"], "(12, 24, 3)"),
        (["two.keras", "--classes", "three.txt"], "no classifier of images"),
        (["table.keras", "--classes", "three.txt"], "no classifier of images"),
        (["images", "--classes", "three.txt"], "are of a .keras file"),
    ],
)
def test_what_cannot_be_exported(words, message, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(files)
    assert main(["export", *words, "--to", str(tmp_path / "to")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfape\r\nb\xc3\xa9e\r\n")
    assert read_classes(tmp_path / "classes.txt") == ("ape", "bée")


def test_the_card_claims_nothing_that_is_not_known(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checked_export, "check_export", lambda folder: [])  # which has tests of its own
    monkeypatch.chdir(files)
    words = ["export", "good.keras", "--classes", "three.txt", "--data", "folder:images", "--resize", "pad"]
    assert main([*words, "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "good" / "1")
    card = json.loads((tmp_path / "good" / "1" / "model_card.json").read_text())
    assert card["keras_file"]["name"] == "good.keras"
    assert card["data"] is card["calibration"]["temperature"] is card["model"]["initial_weights"]["weights"] is None
    assert card["classes"] == ["ape", "bee", "cat"]
    assert (card["model"]["image_size"], card["model"]["resize"]) == (SIZE, "pad")
    assert card["measured_on"]["images"] == {"train": 12, "validation": 3, "test": 3}
    assert card["accuracy"] == card["metrics"]["test"]["accuracy"]
    text = (tmp_path / "good" / "1" / "model_card.md").read_text(encoding="utf-8")
    assert "not calibrated" in text
    assert "Whether the model was trained on some of them is not known" in text
    assert os.listdir(tmp_path) == ["good"]


def test_a_model_in_safe_mode_runs_no_code_of_the_file(files):
    with pytest.raises(InputError, match="Lambda"):
        load_keras_file(files / "code.keras", classes=files / "three.txt", resize="stretch", data=None)
