"""Weights from files: every kind that Keras writes, the publisher's kind, and what does not fit."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from zoo import HeadSpec, InputError, ModelSpec, build_model
from zoo.weights import load

SHAPE = (16, 16, 3)


@pytest.fixture
def trained(tiny_spec: ModelSpec) -> keras.Model:
    """A model with weights of its own, batch-norm statistics included."""
    return randomised(build_model(tiny_spec, input_shape=SHAPE, num_classes=5))


def randomised(model: keras.Model) -> keras.Model:
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.1, 1, variable.shape))
    return model


def save(model: keras.Model, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def assert_equal(first: keras.Model, second: keras.Model, *, except_classifier: bool = False) -> None:
    second_layers = {layer.name: layer for layer in second.layers}
    compared = 0
    for layer in first.layers:
        if layer.name not in second_layers or (except_classifier and layer.name == "head_logits"):
            continue
        for a, b in zip(layer.get_weights(), second_layers[layer.name].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b, err_msg=layer.name)
            compared += 1
    assert compared >= len(first.weights) - 2


FILE_NAMES = ["model.keras", "model.weights.h5", "model.h5"]


@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("compiled", [False, True])
def test_loads_what_keras_saves(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, name: str, compiled: bool
) -> None:
    if compiled:  # the file then holds the optimizer's variables too
        trained.compile("adam", "mse")
        trained.optimizer.build(trained.trainable_variables)
    path = save(trained, tmp_path / name)
    assert_equal(trained, build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path))
    assert_equal(trained, build_model(tiny_spec, input_shape=(8, 12, 3), num_classes=5, weights=str(path)))


def test_loads_weights_in_the_oldest_layout(trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    """Weights alone in an `.h5`, as keras.applications publishes them: the root of the file is the model."""
    save(trained, tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as whole, h5py.File(tmp_path / "weights.h5", "w") as weights:
        for key in whole["model_weights"]:
            whole.copy(f"model_weights/{key}", weights)
        for key, value in whole["model_weights"].attrs.items():
            weights.attrs[key] = value
    weights_path = tmp_path / "weights.h5"
    assert_equal(trained, build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=weights_path))


@pytest.mark.parametrize("name", FILE_NAMES)
@pytest.mark.parametrize("num_classes", [3, None])
def test_another_number_of_classes_leaves_only_the_classifier(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, name: str, num_classes: int | None
) -> None:
    path = save(trained, tmp_path / name)
    keras.utils.set_random_seed(0)
    fresh = build_model(tiny_spec, input_shape=SHAPE, num_classes=num_classes)
    keras.utils.set_random_seed(0)
    model = build_model(tiny_spec, input_shape=SHAPE, num_classes=num_classes, weights=path)
    assert_equal(trained, model, except_classifier=True)
    if num_classes:
        for loaded, initial in zip(model.weights[-2:], fresh.weights[-2:], strict=True):
            np.testing.assert_array_equal(loaded, initial)


def test_a_file_without_classifier_leaves_the_classifier(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    features = randomised(build_model(tiny_spec, input_shape=SHAPE, num_classes=None))
    path = save(features, tmp_path / "model.keras")
    assert_equal(features, build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path))


def test_weights_load_into_any_precision(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, keras_settings: None
) -> None:
    path = save(trained, tmp_path / "model.keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert_equal(trained, build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path))


def test_a_model_file_runs_none_of_its_code(trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    """Only the arrays of a `.keras` file are read, so a layer with code in it is neither refused nor run."""
    outputs = keras.layers.Lambda(lambda x: x + 1, name="code")(trained.output)
    path = save(keras.Model(trained.input, outputs), tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode"):
        keras.saving.load_model(path)
    assert_equal(trained, build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path))


@pytest.mark.parametrize("name", FILE_NAMES)
def test_the_first_tensor_that_does_not_fit_is_named_with_both_shapes(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, name: str
) -> None:
    path = save(trained, tmp_path / name)
    wider = dataclasses.replace(tiny_spec.stages[1], filters=7)
    spec = dataclasses.replace(tiny_spec, stages=(tiny_spec.stages[0], wider))
    with pytest.raises(InputError) as error:
        build_model(spec, input_shape=SHAPE, num_classes=5, weights=path)
    assert str(error.value) == (
        f"{path} does not fit tiny: stage2_block1_project_conv/kernel has the shape (1, 1, 8, 6) "
        "in the file, (1, 1, 8, 7) in the model."
    )
    # The first kernel may have other input channels, but it is not of any shape.
    stem = dataclasses.replace(tiny_spec.stem, kernel_size=5)
    with pytest.raises(InputError, match=r"stem_conv/kernel has the shape \(3, 3, 3, 4\) in the file, \(5, 5, 1, 4"):
        build_model(dataclasses.replace(tiny_spec, stem=stem), input_shape=(16, 16, 1), num_classes=5, weights=path)


def test_missing_and_surplus_layers_are_named(trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "model.weights.h5")

    def with_depth(depth: int) -> ModelSpec:
        stages = (tiny_spec.stages[0], dataclasses.replace(tiny_spec.stages[1], depth=depth))
        return dataclasses.replace(tiny_spec, stages=stages)

    with pytest.raises(InputError, match="it has no weights for the layer stage2_block3_expand_conv"):
        build_model(with_depth(3), input_shape=SHAPE, num_classes=5, weights=path)
    # All layers of the smaller model are in the file, with the right shapes; it is another network still.
    with pytest.raises(InputError, match=r"the model has no layer stage2_block2_\w+, which the file"):
        build_model(with_depth(1), input_shape=SHAPE, num_classes=5, weights=path)


def test_a_layer_with_other_variables_is_named(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    inputs = keras.Input(SHAPE)
    other = keras.Model(inputs, keras.layers.Conv2D(4, 3, name="stem_conv")(inputs))
    path = save(other, tmp_path / "model.weights.h5")
    with pytest.raises(InputError, match="the layer stem_conv has 2 arrays in the file, 1 in the model"):
        build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path)


def first_array(file: h5py.File) -> tuple[h5py.Group, str]:
    for group in file["layers"].values():
        if "0" in group["vars"] and group["vars"].attrs["name"] == "stem_conv":
            return group["vars"], "0"
    raise AssertionError


@pytest.mark.parametrize("trick", ["external link", "soft link", "external values", "virtual", "integers", "huge"])
def test_hdf5_that_points_elsewhere_or_lies_is_refused(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, trick: str
) -> None:
    path = save(trained, tmp_path / "model.weights.h5")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros((3, 3, 3, 4), "float32")
    with h5py.File(path, "a") as file:
        group, key = first_array(file)
        del group[key]
        if trick == "external link":
            group[key] = h5py.ExternalLink(str(secret), "x")
        elif trick == "soft link":
            group[key] = h5py.SoftLink("/layers")
        elif trick == "external values":
            group.create_dataset(key, (3, 3, 3, 4), "float32", external=[(str(secret), 0, 432)])
        elif trick == "virtual":
            layout = h5py.VirtualLayout((3, 3, 3, 4), "float32")
            layout[:] = h5py.VirtualSource(str(secret), "x", (3, 3, 3, 4))
            group.create_virtual_dataset(key, layout)
        elif trick == "integers":  # what Keras makes of bfloat16
            group[key] = np.zeros((3, 3, 3, 4), "uint16")
        else:
            group.create_dataset(key, (2**40,), "float32", chunks=(2**20,), compression="gzip")
    message = {
        "integers": "stem_conv/kernel is stored as uint16",
        "huge": r"has the shape \(1099511627776,\)",
    }
    with pytest.raises(InputError, match=message.get(trick, "is not a Keras file of weights, or is damaged")):
        build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10_000_000))
    with pytest.raises(InputError, match=r"its model\.weights\.h5 unpacks to more than the file"):
        build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path)


@pytest.mark.parametrize("name", [*FILE_NAMES, "model.pth"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_damaged_files_are_refused(
    trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, name: str, kept: int
) -> None:
    path = tmp_path / name
    if name.endswith(".pth"):
        path.write_bytes(b"\x80\x02" * kept)
    else:
        save(trained, path)
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="or is damaged"):
        build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path)


def test_files_with_something_else_are_refused(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    def error(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path)
        return str(caught.value)

    (tmp_path / "empty.h5").write_bytes(_hdf5({}))
    assert "'layers' in / is missing" in error(tmp_path / "empty.h5")
    (tmp_path / "nothing.h5").write_bytes(_hdf5({"layers/dense/vars": None}))
    assert "holds no weights by layer name" in error(tmp_path / "nothing.h5")
    (tmp_path / "array.h5").write_bytes(_hdf5({"layers": np.zeros(3)}))
    assert "'layers' in / is no group" in error(tmp_path / "array.h5")
    with zipfile.ZipFile(tmp_path / "archive.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert "is not a Keras file of weights" in error(tmp_path / "archive.keras")
    (tmp_path / "weights.bin").write_bytes(b"")
    assert "must be a file .keras, .weights.h5 or .h5, or a torch checkpoint .pth" in error(tmp_path / "weights.bin")
    assert "There is no file" in error(tmp_path)


def _hdf5(members: dict[str, Any]) -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, value in members.items():
            if value is None:
                file.create_group(name)
            else:
                file[name] = value
    return memory.getvalue()


# The tensors of a torch checkpoint for `tiny_spec`, by the publisher's names.
def torch_tensors(model: keras.Model) -> dict[str, np.ndarray]:
    def conv(name: str) -> np.ndarray:
        return np.asarray(model.get_layer(name).kernel).transpose(3, 2, 0, 1)

    def depthwise(name: str) -> np.ndarray:
        return np.asarray(model.get_layer(name).kernel).transpose(2, 3, 0, 1)

    tensors = {"_conv_stem.weight": conv("stem_conv"), "_conv_head.weight": conv("head_conv")}
    norms = {"_bn0": "stem_norm", "_bn1": "head_norm"}
    for number, block in enumerate(("stage1_block1", "stage2_block1", "stage2_block2")):
        if number > 0:
            tensors[f"_blocks.{number}._expand_conv.weight"] = conv(f"{block}_expand_conv")
            norms[f"_blocks.{number}._bn0"] = f"{block}_expand_norm"
        tensors[f"_blocks.{number}._depthwise_conv.weight"] = depthwise(f"{block}_depthwise_conv")
        tensors[f"_blocks.{number}._project_conv.weight"] = conv(f"{block}_project_conv")
        norms[f"_blocks.{number}._bn1"] = f"{block}_depthwise_norm"
        norms[f"_blocks.{number}._bn2"] = f"{block}_project_norm"
    for theirs, ours in norms.items():
        layer = model.get_layer(ours)
        tensors[f"{theirs}.weight"] = np.asarray(layer.gamma)
        tensors[f"{theirs}.bias"] = np.asarray(layer.beta)
        tensors[f"{theirs}.running_mean"] = np.asarray(layer.moving_mean)
        tensors[f"{theirs}.running_var"] = np.asarray(layer.moving_variance)
        tensors[f"{theirs}.num_batches_tracked"] = np.array(3)
    classifier = model.get_layer("head_logits")
    return tensors | {"_fc.weight": np.asarray(classifier.kernel).T, "_fc.bias": np.asarray(classifier.bias)}


@pytest.mark.parametrize("num_classes", [5, 3, None])
def test_loads_a_torch_checkpoint(
    trained: keras.Model,
    tiny_spec: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_classes: int | None,
) -> None:
    (tmp_path / "model.pth").touch()
    monkeypatch.setattr(load, "read_torch_checkpoint", lambda path: torch_tensors(trained))
    model = build_model(tiny_spec, input_shape=SHAPE, num_classes=num_classes, weights=tmp_path / "model.pth")
    assert_equal(trained, model, except_classifier=num_classes != 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_blocks.1._bn2.bias": None},
            "the layer stage2_block1_project_norm has 3 arrays in the file, 4 in",
        ),
        ({"_conv_stem.weight": None}, "it has no weights for the layer stem_conv"),
        ({"_blocks.3.x": np.zeros(1)}, r"the model has no layer _blocks\.3\.x, which the file has"),
        (
            {"_conv_head.weight": np.zeros(8)},
            r"head_conv/kernel has the shape \(8,\) in the file, \(1, 1, 6, 8\)",
        ),
        (
            {"_conv_head.weight": np.zeros((8, 6, 3, 3), "f")},
            r"head_conv/kernel has the shape \(3, 3, 6, 8\) in",
        ),
        ({"_bn1.bias": np.zeros(8, "int64")}, "head_norm/beta is stored as int64; only floats can be loaded"),
    ],
)
def test_a_torch_checkpoint_that_does_not_fit_is_refused(
    trained: keras.Model,
    tiny_spec: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, np.ndarray | None],
    message: str,
) -> None:
    (tmp_path / "model.pth").touch()
    tensors = {k: v for k, v in (torch_tensors(trained) | change).items() if v is not None}
    monkeypatch.setattr(load, "read_torch_checkpoint", lambda path: tensors)
    with pytest.raises(InputError, match=message):
        build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=tmp_path / "model.pth")


def test_a_family_without_torch_checkpoints_takes_none(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    spec = dataclasses.replace(tiny_spec, family="other")
    with pytest.raises(InputError, match=r"must be a file \.keras, \.weights\.h5 or \.h5\. Received: "):
        build_model(spec, input_shape=SHAPE, num_classes=5, weights=tmp_path / "model.pth")


@pytest.mark.parametrize("name", FILE_NAMES)
def test_what_a_change_leaves_is_listed(trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path, name: str) -> None:
    path = save(trained, tmp_path / name)
    report = build_model(tiny_spec, input_shape=SHAPE, num_classes=5, weights=path).load_report
    assert (report.path, len(report.loaded), report.kept, report.unused) == (path, len(trained.weights), (), ())

    model = build_model(
        tiny_spec, input_shape=(16, 16, 1), num_classes=5, pool="gem", head_pool="avg_max", weights=path
    )
    report = model.load_report
    assert report.kept == (
        "stem_conv/kernel: the shape (3, 3, 3, 4) in the file, (3, 3, 1, 4) in the model",
        "stage2_pool/p: the file has no layer stage2_pool",
        "head_logits/kernel: the shape (8, 5) in the file, (16, 5) in the model",
    )
    assert len(report.loaded) == len(trained.weights) - 2
    assert "head_logits/bias" in report.loaded
    np.testing.assert_array_equal(model.get_layer("head_logits").bias, trained.get_layer("head_logits").bias)
    for line in report.kept:
        assert f"Not loaded: {line}" in str(report)

    head = HeadSpec(name="pool", hidden=(3,))
    report = build_model(
        dataclasses.replace(tiny_spec, head=head), input_shape=SHAPE, num_classes=5, weights=path
    ).load_report
    assert report.unused == ("head_conv", "head_norm")
    assert "Not used: head_norm" in str(report)


@pytest.mark.parametrize("name", FILE_NAMES)
def test_learned_pools_are_loaded_but_not_into_another_kind(tiny_spec: ModelSpec, tmp_path: Path, name: str) -> None:
    model = build_model(tiny_spec, input_shape=SHAPE, num_classes=5, pool="mixed", head_pool="gem")
    model.get_layer("stage2_pool").alpha.assign(0.25)
    model.get_layer("head_pool").exponent.assign(4.0)
    path = save(model, tmp_path / name)
    again = build_model(tiny_spec, input_shape=SHAPE, num_classes=5, pool="mixed", head_pool="gem", weights=path)
    assert again.load_report.kept == ()
    assert float(again.get_layer("stage2_pool").alpha) == 0.25
    assert float(again.get_layer("head_pool").exponent) == 4.0
    # Both have one number, but an exponent of 0.25 is none.
    other = build_model(tiny_spec, input_shape=SHAPE, num_classes=5, pool="gem", head_pool="avg", weights=path)
    assert other.load_report.kept == ("stage2_pool/p: stage2_pool is another kind of layer in the file",)
    assert float(other.get_layer("stage2_pool").exponent) == 3.0


def test_a_refused_file_changes_nothing(trained: keras.Model, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "model.weights.h5")
    deeper = dataclasses.replace(
        tiny_spec, stages=(tiny_spec.stages[0], dataclasses.replace(tiny_spec.stages[1], depth=3))
    )
    model = build_model(deeper, input_shape=SHAPE, num_classes=5)
    before = model.get_weights()
    with pytest.raises(InputError, match="no weights for the layer stage2_block3_expand_conv"):
        load.load_weights(model, deeper, path)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
