"""Every layer through the same properties: config, saving, export, XLA, mixed precision, shapes, messages."""

import dataclasses
import inspect
import json
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

import custom_ops
from custom_ops import layers, ops
from custom_ops.layers.base import register


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer with a value that is not the default one for each argument of its constructor."""

    name: str
    arguments: dict[str, Any]

    @property
    def rank(self) -> int:
        return int(self.name[-2])

    def make(self, **keywords):
        return getattr(layers, self.name)(**self.arguments, **keywords)

    def input(self, batch=2, dtype="float32"):
        shape = (batch, 9, 8, 3) if self.rank == 2 else (batch, 9, 3)
        x = np.random.default_rng(0).normal(size=shape).astype(dtype)
        return [x, x[::-1]] if self.name.startswith("Lip") else x

    def symbolic_input(self, *spatial):
        inputs = [keras.Input((*spatial[: self.rank], 3)) for _ in range(2)]
        return inputs if self.name.startswith("Lip") else inputs[0]


WINDOW = {"pool_size": 3, "strides": 2, "padding": "same"}
EXPONENT = {"p": 2.5, "per_channel": True}
CASES = [
    Case(f"{name}{rank}D", arguments)
    for rank in (1, 2)
    for name, arguments in {
        "MaxPooling": WINDOW,
        "AvgPooling": WINDOW,
        "LpPooling": {**WINDOW, **EXPONENT, "learned": True},
        "GemPooling": {**WINDOW, **EXPONENT},
        "SoftPooling": {**WINDOW, "beta": 2.0},
        "LipPooling": WINDOW,
        "MixedPooling": {**WINDOW, "per_channel": True},
        "GatedPooling": {**WINDOW, "per_channel": True},
        "StochasticPooling": {**WINDOW, "seed": 3},
        "BlurPooling": {**WINDOW, "pool_size": 4},
        "MaxBlurPooling": {**WINDOW, "filter_size": 4},
        "SeparablePooling": WINDOW,
        "MedianPooling": WINDOW,
        "GlobalAvgMaxPooling": {"keepdims": True},
        "GlobalGemPooling": {**EXPONENT, "keepdims": True},
        "GlobalAttentionPooling": {"keepdims": True},
        "AdaptiveAvgPooling": {"output_size": 3},
        "AdaptiveMaxPooling": {"output_size": 3},
    }.items()
] + [
    Case("SpatialPyramidPooling2D", {"levels": (1, 3), "mode": "avg"}),
    Case("KMaxPooling1D", {"k": 2}),
]
KERAS_OWN = {f"Global{kind}Pooling{rank}D" for kind in ("Avg", "Max") for rank in (1, 2)}
by_layer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def perturb(layer):
    """Moves the weights from where they start, the same way each time."""
    rng = np.random.default_rng(1)
    layer.set_weights([w + 0.3 * np.abs(rng.normal(size=w.shape)) for w in layer.get_weights()])


def test_each_layer_has_a_case():
    public = {name for name in dir(layers) if name.endswith(("1D", "2D"))}
    assert public - KERAS_OWN == {case.name for case in CASES}
    assert all(getattr(layers, name).__module__.startswith("keras.") for name in KERAS_OWN)


@by_layer
def test_config_holds_every_argument(case):
    layer = case.make()
    config = layer.get_config()
    own = set(inspect.signature(type(layer).__init__).parameters) - {"self", "keywords"}
    assert own <= set(config)
    defaults = inspect.signature(type(layer).__init__).parameters
    if "learned" not in own or case.name.startswith("Lp"):
        assert own == set(case.arguments)
    for name, value in case.arguments.items():
        assert value != defaults[name].default
    again = type(layer).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    x = case.input()
    y = layer(x)
    again(x)
    perturb(layer)
    again.set_weights(layer.get_weights())
    assert not layer.weights or np.abs(layer(x) - y).max() > 1e-4
    np.testing.assert_array_equal(again(x), layer(x))


@by_layer
def test_shapes_are_the_same_symbolically_and_eagerly(case):
    layer = case.make()
    x = case.input()
    y = layer(x)
    shapes = [v.shape for v in x] if isinstance(x, list) else x.shape
    assert tuple(layer.compute_output_shape(shapes)) == tuple(y.shape)
    symbolic = layer(case.symbolic_input(None, None))
    known = layer(case.symbolic_input(9, 8))
    assert known.shape == (None, *y.shape[1:])
    assert all(unknown in (None, size) for unknown, size in zip(symbolic.shape, known.shape, strict=True))
    half = case.make(dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(half(x).dtype) == "bfloat16"
    assert half.compute_dtype == "bfloat16"


def all_layers(spatial, rank, names=("",)):
    """A model with the outputs of the layers of a rank, or of those whose names hold one of `names`."""
    x = inputs = keras.Input((*spatial[:rank], 3))
    x = keras.layers.Dense(3)(x)
    chosen = [case for case in CASES if case.rank == rank and any(name in case.name for name in names)]
    outputs = {case.name: case.make(name=case.name)([x, x] if case.name.startswith("Lip") else x) for case in chosen}
    model = keras.Model(inputs, outputs)
    for layer in model.layers:
        perturb(layer)
    return model


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 2])
def model(request):
    return all_layers((9, 8), request.param)


@pytest.fixture
def x(model):
    return np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")


def test_a_saved_model_comes_back(model, x, tmp_path):
    model.save(tmp_path / "model.keras")
    revived = keras.models.load_model(tmp_path / "model.keras")
    for name, y in model(x).items():
        np.testing.assert_array_equal(revived(x)[name], y)


def test_export_holds_no_compiled_function_and_runs_in_a_new_process(model, x, tmp_path):
    model.export(tmp_path / "model", verbose=False)
    graphs = saved_model_pb2.SavedModel.FromString((tmp_path / "model" / "saved_model.pb").read_bytes())
    marked = [
        function.signature.name
        for graph in graphs.meta_graphs
        for function in graph.graph_def.library.function
        if function.attr["_XlaMustCompile"].b
    ]
    assert not marked
    np.savez(tmp_path / "expected.npz", x=x, **{name: np.asarray(y) for name, y in model(x).items()})
    script = """
import sys, numpy as np, tensorflow as tf
expected = dict(np.load(sys.argv[2]))
model = tf.saved_model.load(sys.argv[1])
outputs = model.serve(expected.pop("x"))
assert expected.keys() == outputs.keys()
for name, y in expected.items():
    np.testing.assert_allclose(outputs[name], y, rtol=1e-5, atol=1e-6, err_msg=name)
assert "custom_ops" not in sys.modules
"""
    arguments = [sys.executable, "-c", script, str(tmp_path / "model"), str(tmp_path / "expected.npz")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_all_layers_train_under_xla(model, x):
    check_training(model, x, jit_compile=True)


def test_some_layers_train_under_xla():
    """As above, for the time that compiling takes."""
    some = ("MaxPooling", "StochasticPooling", "Attention")
    x = np.random.default_rng(0).normal(size=(2, 9, 8, 3)).astype("float32")
    check_training(all_layers((9, 8), 2, some), x, jit_compile=True)


@pytest.mark.slow
def test_all_layers_train_without_xla(model, x):
    check_training(model, x, jit_compile=False)


def check_training(model, x, jit_compile):
    """One step changes every weight, and leaves nothing infinite."""
    keras.utils.set_random_seed(0)
    copy = keras.models.clone_model(model)
    before = [w.numpy() for w in copy.trainable_weights]
    copy.compile("sgd", {name: "mse" for name in copy.output_names}, jit_compile=jit_compile)
    targets = {name: np.ones(y.shape, "float32") for name, y in model(x).items()}
    history = copy.fit(x, targets, epochs=1, batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, old in zip(copy.trainable_weights, before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 0, weight.path


def test_layers_of_a_window_do_what_their_operator_does():
    x = CASES[-3].input()
    assert x.ndim == 4
    np.testing.assert_allclose(
        layers.MaxBlurPooling2D(2, 4, (2, 1), "same")(x),
        ops.max_blur_pool2d(x, 2, 4, (2, 1), "same"),
        rtol=1e-5,
    )
    soft = ops.soft_pool2d(x, (2, 3), 1, beta=3.0)
    np.testing.assert_allclose(layers.SoftPooling2D((2, 3), 1, beta=3.0)(x), soft, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layers.MedianPooling2D()(x), ops.median_pool2d(x))


# --------------------------------------------------------------------------------- where learning starts


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("rank", [1, 2])
def test_learned_layers_start_as_a_known_pooling(rank, padding):
    shape = (2, 7, 8, 3) if rank == 2 else (2, 7, 3)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")

    def layer(name, **options):
        return getattr(layers, f"{name}Pooling{rank}D")(3, 2, padding, **options)

    average, maximum = layer("Avg")(x), layer("Max")(x)
    np.testing.assert_allclose(layer("Separable")(x), average, rtol=1e-5, atol=1e-6)
    for name in ("Mixed", "Gated"):
        for per_channel in (False, True):
            y = layer(name, per_channel=per_channel)(x)
            np.testing.assert_allclose(y, (average + maximum) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer("Soft", beta=0.0)(x), average, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer("Lip")([x, np.ones_like(x)]), average, rtol=1e-5, atol=1e-6)
    positive = np.abs(x) + 0.1
    np.testing.assert_allclose(layer("Gem", p=1.0)(positive), layer("Avg")(positive), rtol=1e-5)
    cubes = layer("Avg")(positive**3)
    np.testing.assert_allclose(layer("Gem")(positive), np.cbrt(cubes), rtol=1e-5)
    if padding == "valid":
        sums = layer("Avg")(x**2) * 3**rank
        np.testing.assert_allclose(layer("Lp")(x), np.sqrt(sums), rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2])
def test_learned_global_layers_start_as_a_known_pooling(rank):
    shape = (2, 7, 8, 3) if rank == 2 else (2, 7, 3)
    x = np.abs(np.random.default_rng(0).normal(size=shape)).astype("float32") + 0.1
    average = getattr(layers, f"GlobalAvgPooling{rank}D")()
    attention = getattr(layers, f"GlobalAttentionPooling{rank}D")()
    gem = getattr(layers, f"GlobalGemPooling{rank}D")
    np.testing.assert_allclose(attention(x), average(x), rtol=1e-5)
    np.testing.assert_allclose(gem(p=1.0, learned=False)(x), average(x), rtol=1e-5)
    np.testing.assert_allclose(gem()(x), np.cbrt(average(x**3)), rtol=1e-5)


def test_a_learned_exponent_stays_at_one_or_above():
    layer = layers.GemPooling2D(p=1.0)
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    model.compile(keras.optimizers.SGD(100.0), "mse")
    # A target below the mean pulls p down.
    x = np.random.default_rng(0).uniform(1, 2, (8, 4, 4, 1))
    model.fit(x, np.zeros((8, 2, 2, 1)), verbose=0)
    assert layer.exponent.numpy() == 1


def test_stochastic_layer_draws_in_training_only():
    x = np.abs(np.random.default_rng(0).normal(size=(4, 8, 8, 3))).astype("float32")
    layer = layers.StochasticPooling2D(seed=1)
    np.testing.assert_allclose(layer(x), ops.stochastic_pool2d(x, 0, False), rtol=1e-5)
    first, second = layer(x, training=True), layer(x, training=True)
    assert not np.array_equal(first, second)
    again = layers.StochasticPooling2D(seed=1)
    np.testing.assert_array_equal(again(x, training=True), first)
    assert np.isin(first, x).all()


# -------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.MaxPooling2D(0), r"`pool_size` must be a positive int .* pool_size=0"),
        (lambda: layers.MaxPooling2D(2, strides=0), r"`strides` must be a positive int .* strides=0"),
        (lambda: layers.MaxPooling1D((2, 2)), r"`pool_size` .* pool_size=\(2, 2\)"),
        (lambda: layers.AvgPooling2D(2, 2, "smae"), r"`padding` must be 'valid' or 'same'.* padding='smae'"),
        (lambda: layers.LpPooling2D(p=0.5), r"`p` must be a finite number of at least 1.* p=0.5"),
        (lambda: layers.LpPooling2D(p="3"), r"`p` must be a finite number.* p='3'"),
        (lambda: layers.LpPooling2D(per_channel=True), r"`per_channel=True` needs `learned=True`"),
        (lambda: layers.GemPooling2D(learned=1), r"`learned` must be True or False.* learned=1"),
        (lambda: layers.SoftPooling2D(beta=None), r"`beta` must be a finite number.* beta=None"),
        (lambda: layers.MixedPooling2D(per_channel="yes"), r"`per_channel` must be True or False"),
        (lambda: layers.StochasticPooling2D(seed=1.5), r"`seed` must be an int or None.* seed=1.5"),
        (lambda: layers.MaxBlurPooling2D(2, filter_size=-1), r"`filter_size` must be .* filter_size=-1"),
        (lambda: layers.GlobalGemPooling2D(keepdims=1), r"`keepdims` must be True or False.* keepdims=1"),
        (lambda: layers.AdaptiveAvgPooling2D(0), r"`output_size` must be .* output_size=0"),
        (lambda: layers.SpatialPyramidPooling2D(levels=2), r"`levels` must be a tuple .* levels=2"),
        (lambda: layers.SpatialPyramidPooling2D(mode="sum"), r"`mode` must be 'avg' or 'max'.* mode='sum'"),
        (lambda: layers.KMaxPooling1D(0), r"`k` must be a positive int .* k=0"),
    ],
)
def test_mistakes_are_named_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_window_that_does_not_fit_is_named_while_the_model_is_built():
    with pytest.raises(ValueError, match=r"window of 5 does not fit into an input of 4"):
        layers.SoftPooling2D(5)(keras.Input((4, 4, 1)))


def test_a_second_class_of_the_same_name_is_refused():
    assert register(layers.MaxPooling2D) is layers.MaxPooling2D
    other = type("MaxPooling2D", (keras.layers.Layer,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="custom_ops>MaxPooling2D is registered already"):
        register(other)
    assert keras.saving.get_registered_object("custom_ops>MaxPooling2D") is layers.MaxPooling2D


def test_the_package_shows_what_it_has():
    assert {"layers", "lowering", "ops"} <= set(dir(custom_ops))
