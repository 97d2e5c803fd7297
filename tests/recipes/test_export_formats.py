"""`zoo export --format`: LiteRT and ONNX files beside a version, and the checks that guard them."""

import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from recipes.cli import main
from recipes.parts import ask_file, other_formats
from recipes.parts.backbones import find
from recipes.parts.check_images import photo
from recipes.parts.classifier import preprocess
from recipes.parts.dataset import materialise
from recipes.parts.export_images import REPRESENTATIVE, find_images
from recipes.parts.extras import EXTRAS, require
from recipes.parts.finished_run import FinishedRun, load_run
from recipes.parts.folder import Folder
from recipes.parts.litert import PRECISIONS, write_litert
from recipes.parts.onnx_file import write_onnx
from recipes.parts.other_formats import LIMITS, OtherFormat, format_rows, wanted_formats, warnings_on
from recipes.parts.recorded import read_split
from recipes.parts.scan import scan
from recipes.parts.serving_model import ServingModel
from recipes.parts.version_folder import put_in_place
from zoo.errors import InputError

SIZE = 16
CLASSES = ("ape", "bee", "cat")


def finished_run(model):
    return FinishedRun(
        folder=Path(),
        data="",
        image_size=model.input_shape[1],
        resize="crop",
        classes=tuple(f"class {index}" for index in range(model.output_shape[-1])),
        temperature=0.5,
        model=model,
    )


def train_norms(model):
    """Give batch norms the statistics and weights of a trained network; untrained ones do next to nothing."""
    for seed, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            draw = np.random.default_rng(seed)
            channels = layer.gamma.shape
            values = draw.uniform(0.5, 2, channels), draw.normal(size=channels)
            layer.set_weights([*values, 0.1 * draw.normal(size=channels), draw.uniform(0.5, 2, channels)])


def photos(number, size):
    return np.stack([np.asarray(photo(size, size, seed)) for seed in range(number)])


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_run):
    """A run on a few made-up images."""
    root = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(0)
    model = zoo.build_model("test_vgg", input_shape=(SIZE, SIZE, 3), num_classes=len(CLASSES))
    train_norms(model)
    write_run(root, model, CLASSES, images=10)
    return root


# Which files there are


def test_what_is_not_installed_is_said_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["export", str(tmp_path / "no run"), "--to", str(tmp_path / "to"), "--format", "onnx"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'keras-model-zoo[onnx]'" in error
    assert "onnxruntime" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_extra_is_declared(monkeypatch):
    text = (Path(zoo.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    declared = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for extra in EXTRAS:
        assert f"\n{extra} = [" in declared
    monkeypatch.setitem(EXTRAS, "serving", ("not.there.at.all",))
    with pytest.raises(InputError, match=r"\[serving\]"):
        require("serving")


def test_names():
    forms = wanted_formats(["savedmodel", "onnx", "litert"], [], representative=9)
    assert [form.ending for form in forms] == [".tflite", "-float16.tflite", "-int8.tflite", ".onnx"]
    assert [form.ending for form in wanted_formats(["litert"], ["int8"], representative=9)] == ["-int8.tflite"]
    assert wanted_formats(["savedmodel"], [], representative=9) == ()
    without = wanted_formats(["litert"], [], representative=0)
    assert [form.precision for form in without] == ["float32", "float16"]
    with pytest.raises(InputError, match="--data"):
        wanted_formats(["litert"], ["int8"], representative=0)


def test_int8_that_was_asked_for_needs_training_images(made, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    words = ["--format", "litert", "--precision", "int8"]
    (made / "images").rename(made / "moved")
    try:
        assert main(["export", str(made / "run"), "--to", str(tmp_path / "to"), *words]) == 2
    finally:
        (made / "moved").rename(made / "images")
    assert "of which none can be found: give their place with --data" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# In place, all or none


def grown(folder):
    """What stands beside the versions of `a`, with a file in another format."""
    beside, files = folder / "a" / ".new-1", folder / ".new-2"
    for place in (beside, files):
        place.mkdir(parents=True)
    (beside / "saved_model.pb").touch()
    (files / "model.onnx").write_text("new")
    return beside, {".onnx": files / "model.onnx"}


def test_a_number_is_taken_by_files_too(tmp_path):
    beside, files = grown(tmp_path)
    for name in ("a-4-int8.tflite", "a-9.txt", "ba-8.onnx", "a-b-7.onnx", "a-6-x.y.onnx"):
        (tmp_path / name).write_text("old")
    assert put_in_place(beside, lambda version: None, files) == tmp_path / "a" / "5"
    assert (tmp_path / "a-5.onnx").read_text() == "new"
    assert (tmp_path / "a-4-int8.tflite").read_text() == "old"


def test_a_number_is_taken_by_a_claim_that_was_left(tmp_path):
    beside, files = grown(tmp_path)
    (tmp_path / "a" / ".7").mkdir()
    assert put_in_place(beside, lambda version: None, files) == tmp_path / "a" / "8"
    assert sorted(os.listdir(tmp_path / "a")) == [".7", "8"]


def test_a_claimed_number_is_not_given_twice(tmp_path):
    beside, files = grown(tmp_path)
    told = []

    def finish(version):
        told.append(version)
        if version == 1:  # another process is faster
            (tmp_path / "a" / ".1").mkdir()

    assert put_in_place(beside, finish, files) == tmp_path / "a" / "2"
    assert told == [1, 2]
    assert sorted(os.listdir(tmp_path)) == [".new-2", "a", "a-2.onnx"]


def test_a_version_exists_when_all_of_its_files_do(tmp_path, monkeypatch):
    beside, files = grown(tmp_path)
    original, renamed = Path.rename, []

    def rename(path, to):
        renamed.append(path)
        return original(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    put_in_place(beside, lambda version: None, files)
    assert renamed == [*files.values(), beside]  # so that nothing is amiss if the process is killed between them


def test_a_version_without_its_files_does_not_exist(tmp_path):
    beside, files = grown(tmp_path)
    with pytest.raises(FileNotFoundError):
        put_in_place(beside, lambda version: None, {**files, "-int8.tflite": tmp_path / "gone"})
    assert os.listdir(tmp_path / "a") == [".new-1"]  # which whoever made it removes
    assert sorted(os.listdir(tmp_path)) == [".new-2", "a"]


# What is measured


def test_images_are_those_of_the_run(made):
    finished, records = load_run(made / "run"), read_split(made / "run" / "split.jsonl")
    found = find_images(finished, records)
    data = materialise(scan(Folder(str(made / "images")), seed=0), size=SIZE, resize="crop")
    np.testing.assert_array_equal(found.test, data.test.images)
    np.testing.assert_array_equal(found.labels, data.test.labels)
    np.testing.assert_array_equal(found.representative, data.train.images)
    assert found.notices == ()
    assert len(data.train.images) <= REPRESENTATIVE


def card(**changes):
    other = {
        "file": "a-1-int8.tflite",
        "precision": "int8",
        "bytes": 2_000_000,
        "accuracy": 0.88,
        "milliseconds": {"1": 2.0, "2": 1.0},
        "float_operators": ["SOFTMAX"],
    }
    return {"accuracy": 0.9, "bytes": 9_000_000, "other_formats": [{**other, **changes}]}


def test_what_must_not_be_overlooked():
    assert "LOSES 2.0 POINTS" in warnings_on(card())[0]
    assert warnings_on(card(accuracy=0.8901)) == []
    assert "not known" in warnings_on({**card(accuracy=None), "accuracy": None})[0]
    assert (
        "in float32 where LiteRT has no int8: EXP, SOFTMAX"
        in warnings_on(card(accuracy=0.9, float_operators=["EXP", "SOFTMAX"]))[0]
    )
    heading, original, other = format_rows(card())
    assert original == ["SavedModel", "9.0", "0.9000", "", ""]
    assert other == ["a-1-int8.tflite", "2.0", "0.8800", "2.00", "1.00"]
    assert len(heading) == len(other)


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda found, answers: None, []),
        (lambda found, answers: found["foreign"].append("FlexErf"), ["operators"]),
        (lambda found, answers: found["contract"].update(pixels=["float32", [None, 8, 8, 3]]), ["contract"]),
        (lambda found, answers: found["contract"].update(more=["float32", []]), ["contract"]),
        (lambda found, answers: answers["scores together"].__iadd__(2e-4), ["scores", "batch", "repeat"]),
        (lambda found, answers: answers["scores alone"].__iadd__(2e-5), ["batch"]),
        (lambda found, answers: answers["logits again"].__iadd__(1e-7), ["repeat"]),
        (lambda found, answers: answers["logits together"].__iadd__(1e-2), ["repeat", "logits"]),
        (lambda found, answers: answers["scores together"].fill(np.nan), ["scores", "batch", "repeat", "order"]),
    ],
)
def test_what_a_file_fails(change, failing):
    scores = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    expected = {"scores": scores, "logits": np.log(scores)}
    contract = {"pixels": ["uint8", [None, 8, 8, 3]], **{name: ["float32", [None, 3]] for name in expected}}
    found = {"foreign": [], "contract": contract}
    answers = {f"{name} {kind}": expected[name].copy() for name in expected for kind in ("together", "again", "alone")}
    change(found, answers)
    checks = other_formats._compare(found, answers, expected, 1e-4, 8)
    assert [each["name"] for each in checks if not each["passed"]] == failing


@pytest.mark.parametrize(("same", "passed"), [(4, True), (2, True), (1, False)])
def test_an_int8_file_names_the_classes_of_the_trained_model(same, passed):
    expected = {"scores": np.eye(4) * 0.6 + 0.1, "logits": np.log(np.eye(4) * 0.6 + 0.1)}
    answers = {f"{name} {kind}": expected[name].copy() for name in expected for kind in ("together", "again", "alone")}
    for values in answers.values():
        values[same:] = np.roll(values[same:], 1, axis=1)
    contract = {"pixels": ["uint8", [None, 8, 8, 3]], **{name: ["float32", [None, 4]] for name in expected}}
    checks = other_formats._compare({"foreign": [], "contract": contract}, answers, expected, LIMITS["int8"], 8)
    found = {each["name"]: each for each in checks}
    assert found["class"]["found"] == 1 - same / 4
    assert [name for name in found if not found[name]["passed"]] == ([] if passed else ["class"])


def test_a_savedmodel_needs_no_converter(monkeypatch):
    for name in ("litert", "onnx_file"):
        monkeypatch.setitem(sys.modules, f"recipes.parts.{name}", None)  # which makes its import fail
    module = runpy.run_path(other_formats.__file__)
    assert module["wanted_formats"](["savedmodel"], [], representative=9) == ()


# Real files


@pytest.fixture(scope="module")
def runtimes():
    for name in ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"):
        pytest.importorskip(name)


@pytest.mark.slow
def test_all_formats_of_a_run(made, tmp_path, runtimes, capsys):
    words = ["export", str(made / "run"), "--to", str(tmp_path), "--name", "a", "--format", "litert", "onnx"]
    assert main(words) == 0
    files = ["a-1-float16.tflite", "a-1-int8.tflite", "a-1.onnx", "a-1.tflite"]
    assert sorted(os.listdir(tmp_path)) == ["a", *files]
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "a" / "1" / "model_card.json").read_text())
    text = (tmp_path / "a" / "1" / "model_card.md").read_text(encoding="utf-8")
    assert sorted(other["file"] for other in written["other_formats"]) == files
    for other in written["other_formats"]:
        assert other["file"] in shown
        assert other["file"] in text
        assert abs(other["accuracy"] - written["accuracy"]) <= 0.2
        assert set(other["milliseconds"]) == {"1", "2"}
        assert all(each["passed"] for each in other["checks"])
    int8 = next(other for other in written["other_formats"] if other["precision"] == "int8")
    assert int8["float_operators"] == ["SOFTMAX"]
    assert int8["representative_images"] == written["data"]["images"]["train"]

    assert main([*words, "--precision", "float16"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["a", *sorted([*files, "a-2-float16.tflite", "a-2.onnx"])]

    (tmp_path / "a-1.tflite").unlink()
    capsys.readouterr()
    assert main(["export", "--check", str(tmp_path / "a" / "1")]) == 0
    assert "a-1.tflite is not beside it any more" in capsys.readouterr().out
    with (tmp_path / "a-1.onnx").open("ab") as file:
        file.write(b"more")
    assert main(["export", "--check", str(tmp_path / "a" / "1")]) == 1
    assert "changed, gone or new: a-1.onnx" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_that_is_wrong_by_a_little_is_not_kept(made, tmp_path, runtimes, monkeypatch, capsys):
    original = ServingModel.network

    def wrong(served):
        served.weights[-1].assign_add([0.01, 0, 0])
        return original(served)

    monkeypatch.setattr(ServingModel, "network", wrong)
    assert main(["export", str(made / "run"), "--to", str(tmp_path / "to"), "--format", "onnx"]) == 1
    error = capsys.readouterr().err
    assert "The ONNX file failed the check 'scores'" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "format"), [(keras.ops.erf, "litert"), (lambda x: keras.ops.erfinv(x / 100), "onnx")]
)
def test_a_layer_that_a_format_does_not_know_is_named(operation, format, tmp_path, runtimes):
    class Mine(keras.layers.Layer):
        def call(self, inputs):
            return operation(inputs)

    inputs = keras.Input((SIZE, SIZE, 3))
    x = Mine(name="my_layer")(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(InputError, match=r"the layer 'my_layer' \(op Erf"):
        OtherFormat(format=format).write(ServingModel(finished_run(model)), tmp_path / "file", np.zeros(0))
    assert not list(tmp_path.iterdir())


def compared(model, folder, *, precisions=PRECISIONS):
    """Write a model in every format, and compare each with the model in this process."""
    served = ServingModel(finished_run(model))
    images = photos(8, model.input_shape[1])
    expected = {name: value.numpy() for name, value in served.network()(images).items()}
    forms = wanted_formats(["litert", "onnx"], precisions, representative=len(images))
    for form in forms:
        path = folder / f"{model.name}{form.ending}"
        form.write(served, path, images)
        found = ask_file.inspect(str(path))
        ask = ask_file.open_file(str(path), threads=2)
        answers = {
            f"{name} {kind}": values
            for kind, size in (("together", 8), ("again", 8), ("alone", 1))
            for name, values in ask_file.in_batches(ask, images, size).items()
        }
        checks = other_formats._compare(
            found, answers, expected, other_formats.LIMITS[form.precision], model.input_shape[1]
        )
        # What is likeliest says little with random weights, whose scores hardly differ; int8 may name another class.
        assert [each for each in checks if not each["passed"] and each["name"] != "class"] == [], form.title


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["MobileNetV2", "EfficientNetB0", "ConvNeXtTiny", "MobileNetV3Small", "ResNet50V2", "DenseNet121", "NASNetMobile"],
)
def test_networks_of_keras_applications(name, tmp_path, runtimes):
    backbone = find(name)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((backbone.smallest_size, backbone.smallest_size, 3))
    own = {"include_preprocessing": False} if name.startswith(("ConvNeXt", "MobileNetV3")) else {}
    pixels = preprocess(backbone.preprocessing, inputs)
    features = getattr(keras.applications, name)(input_tensor=pixels, weights=None, include_top=False, **own)
    x = keras.layers.GlobalAveragePooling2D()(features.output)
    compared(keras.Model(inputs, keras.layers.Dense(3)(x), name=name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name.startswith("test_")])
def test_every_kind_of_the_zoo(name, tmp_path, runtimes):
    model = zoo.build_model(name, input_shape=(SIZE, SIZE, 3), num_classes=3)
    train_norms(model)
    compared(model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("pool", [name for name in zoo.POOLS if zoo.POOLS[name].window])
def test_every_pool(pool, tmp_path, runtimes):
    model = zoo.build_model("test_vgg", input_shape=(SIZE, SIZE, 3), num_classes=3, pool=pool)
    train_norms(model)
    if pool in ("max", "avg", "blur", "max_blur", "separable"):
        compared(model, tmp_path)
        return
    # They slice a view of six dimensions, which the converter's own runtime cannot run.
    with pytest.raises(InputError, match=r"'stage1_pool' \(op STRIDED_SLICE\).*--precision float32 float16"):
        write_litert(
            ServingModel(finished_run(model)), tmp_path / "file", precision="int8", representative=photos(2, SIZE)
        )
    compared(model, tmp_path, precisions=("float32", "float16"))


@pytest.mark.slow
def test_precisions_are_what_they_are_called(tmp_path, runtimes):
    model = zoo.build_model("test_vgg", input_shape=(SIZE, SIZE, 3), num_classes=3)
    served = ServingModel(finished_run(model))
    size = {}
    for precision in PRECISIONS:
        path = tmp_path / f"{precision}.tflite"
        write_litert(served, path, precision=precision, representative=photos(4, SIZE))
        size[precision] = path.stat().st_size
    assert size["float32"] > size["float16"] > size["int8"]
    with pytest.raises(InputError, match="Received: none"):
        write_litert(served, tmp_path / "file", precision="int8")
    with pytest.raises(InputError, match="float16"):
        write_litert(served, tmp_path / "file", precision="float1")


@pytest.mark.slow
def test_an_onnx_file_names_its_classes(tmp_path, runtimes):
    import onnx

    model = zoo.build_model("test_vgg", input_shape=(SIZE, SIZE, 3), num_classes=3)
    write_onnx(ServingModel(finished_run(model)), tmp_path / "model.onnx")
    props = {each.key: each.value for each in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(props["classes"]) == ["class 0", "class 1", "class 2"]
