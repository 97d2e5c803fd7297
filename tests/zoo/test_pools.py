"""Pooling by name: every layer of custom_ops is there, wherever it can stand."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import custom_ops.layers
from zoo import POOLS, HeadSpec, InputError, ModelSpec, PoolSpec, StageSpec, build_model
from zoo.pools import Pool, pool_whole, pool_windows

WINDOWS = [name for name in POOLS if POOLS[name].window]
WHOLE = [name for name in POOLS if POOLS[name].whole]
# What must be given.
ARGUMENTS = {"adaptive_avg": {"output_size": 2}, "adaptive_max": {"output_size": 2}}
SHAPE = (13, 10, 3)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 1, (2, *SHAPE)).astype("float32")


def model_of(name: str, *, whole: bool = False, **arguments: Any) -> keras.Model:
    inputs = keras.Input(SHAPE)
    pool = PoolSpec(name, ARGUMENTS.get(name, {}) | arguments)
    outputs = pool_whole(inputs, pool, name="p") if whole else pool_windows(inputs, pool, strides=2, name="p")
    return keras.Model(inputs, outputs)


def test_every_layer_of_custom_ops_has_a_name() -> None:
    layers = {type(model_of(name).layers[-1]).__name__ for name in WINDOWS}
    layers |= {type(layer).__name__ for name in WHOLE for layer in model_of(name, whole=True).layers}
    # Those of Keras, under Keras's names.
    stock = {"MaxPooling2D", "AvgPooling2D", "GlobalAvgPooling2D", "GlobalMaxPooling2D"}
    assert {name for name in dir(custom_ops.layers) if name.endswith("2D")} - stock <= layers
    assert {"MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"} <= layers


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_halve_the_map_and_have_its_scale(name: str, images: np.ndarray) -> None:
    model = model_of(name)
    assert model.layers[-1].name == "p"
    outputs = np.asarray(model(images))
    # Windows side by side leave out the odd last row; filters that overlap do not.
    assert outputs.shape == (2, 7 if "blur" in name else 6, 5, 3)
    if name != "lp":  # which is no mean
        assert (outputs >= images.min()).all()
        assert (outputs <= images.max() + 1e-6).all()
    with pytest.raises(InputError, match=rf"The pool '{name}'"):
        model_of(name, pool_size=0)
    assert model_of(name, pool_size=3).output_shape == (None, 7, 5, 3)
    assert model_of(name, pool_size=(3, 3), padding="valid").layers[-1].padding == "valid"


@pytest.mark.parametrize("name", WHOLE)
def test_whole_maps_become_vectors_in_float32(name: str, images: np.ndarray, keras_settings: None) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = model_of(name, whole=True)
    assert model.layers[-1].name == "p"
    cells = {"avg_max": 2, "spatial_pyramid": 21, "adaptive_avg": 4, "adaptive_max": 4, "flatten": 13 * 10}
    outputs = model(images)
    assert outputs.shape == (2, 3 * cells.get(name, 1))
    assert outputs.dtype == "float32"


def test_against_numpy(images: np.ndarray) -> None:
    windows = images[:, :12].reshape(2, 6, 2, 5, 2, 3)
    np.testing.assert_array_equal(model_of("max")(images), windows.max((2, 4)))
    np.testing.assert_allclose(model_of("avg")(images), windows.mean((2, 4)), rtol=1e-6)
    np.testing.assert_allclose(model_of("lip")(images), windows.mean((2, 4)), rtol=1e-6)
    np.testing.assert_allclose(
        model_of("gem", p=2.0, learned=False)(images), np.sqrt((windows**2).mean((2, 4))), rtol=1e-5
    )
    np.testing.assert_allclose(model_of("avg", whole=True)(images), images.mean((1, 2)), rtol=1e-5)
    flat = np.asarray(model_of("adaptive_avg", whole=True, output_size=1)(images))
    np.testing.assert_allclose(flat, images.mean((1, 2)), rtol=1e-5)


def test_a_whole_map_can_have_any_size_unless_it_is_laid_flat() -> None:
    inputs = keras.Input((None, None, 3))
    assert pool_whole(inputs, PoolSpec("adaptive_max", {"output_size": 7}), name="p").shape == (None, 147)
    with pytest.raises(InputError, match=r"'flatten' needs images of one size: .*'adaptive_avg'"):
        pool_whole(inputs, PoolSpec("flatten"), name="p")


@pytest.mark.parametrize(
    ("name", "whole", "arguments", "message"),
    [
        ("sofft", False, {}, r"Unknown pool 'sofft'\. Did you mean soft\?"),
        ("soft", False, {"betta": 1.0}, r"Unknown argument of the pool 'soft': 'betta'\. Did you mean beta\?"),
        ("max", False, {"strides": 2}, r"Unknown argument of the pool 'max': 'strides'\."),
        ("avg", True, {"keepdims": True}, r"Unknown argument of the pool 'avg': 'keepdims'\."),
        ("gem", True, {"p": 0.5}, r"The pool 'gem': .*`?p`?"),
        ("soft", True, {}, r"The pool 'soft' stands between layers; in the head there are: max, avg, gem, "),
        ("flatten", False, {}, r"The pool 'flatten' ends a network; between layers there are: max, avg, gem, lp, "),
    ],
)
def test_mistakes_are_refused(name: str, whole: bool, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_of(name, whole=whole, **arguments)


def test_a_pool_of_the_user(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(POOLS, "_entries", dict(POOLS._entries))

    def corner(inputs: Any, *, strides: int, name: str, flip: bool = False) -> Any:
        return keras.layers.Cropping2D(((int(flip), 0), (0, 0)), name=name)(inputs)

    POOLS.add("corner", Pool(window=corner))
    assert model_of("corner", flip=True).output_shape == (None, 12, 10, 3)
    with pytest.raises(InputError, match=r"Unknown argument of the pool 'corner': 'flipp'\. Did you mean flip\?"):
        model_of("corner", flipp=True)


def test_all_pools_in_one_network_save_and_load(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    stages = tuple(
        StageSpec(block="vgg", filters=3, depth=1, pool=PoolSpec(name, {"pool_size": 2})) for name in WINDOWS
    )
    spec = dataclasses.replace(tiny_spec, stem=None, stages=stages, head=HeadSpec(name="pool", pool="attention"))
    model = build_model(spec, input_shape=(24, 24, 3), num_classes=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))
