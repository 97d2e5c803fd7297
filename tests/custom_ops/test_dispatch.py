"""Which form runs, and the two things that TensorFlow tells only in private and that the choice relies on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import custom_ops
from custom_ops import dispatch, layers, ops
from custom_ops.kernels import gradient, soft
from custom_ops.window import Window


def holds_compiled_function(function, *arguments) -> bool:
    """Whether the graph of a function, or one that it calls, is marked for XLA."""
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments).graph.as_graph_def()
    return any(
        called.attr["_XlaMustCompile"].b for called in graph.library.function if "_XlaMustCompile" in called.attr
    )


X = tf.reshape(tf.range(64.0), (1, 8, 8, 1))


def test_lowering_forces_a_form_and_then_lets_go():
    assert dispatch.choose("soft", X) == "xla"
    with custom_ops.lowering("native"):
        assert dispatch.choose("soft", X) == "native"
        with custom_ops.lowering("xla"):
            assert dispatch.choose("max", X) == "xla"
        assert dispatch.choose("soft", X) == "native"
    with pytest.raises(ZeroDivisionError), custom_ops.lowering("native"):
        _ = 1 / 0
    assert dispatch.choose("soft", X) == "xla"


def test_lowering_decides_what_the_graph_holds():
    for form, compiled in (("xla", True), ("native", False)):
        with custom_ops.lowering(form):
            assert holds_compiled_function(ops.soft_pool2d, X) == compiled


def test_lowering_refuses_other_words():
    with pytest.raises(ValueError, match=r"`form` must be 'xla' or 'native'\. Received: form='fast'"):
        dispatch.lowering("fast").__enter__()


def test_xla_is_seen_while_it_compiles():
    seen = []

    def look(x):
        seen.append(dispatch.xla_is_compiling())
        return x

    look(X)
    tf.function(look, autograph=False)(X)
    tf.function(look, jit_compile=True, autograph=False)(X)
    inner = tf.function(look, autograph=False)
    tf.function(lambda x: inner(x), jit_compile=True, autograph=False)(X)
    branch = tf.function(lambda x: tf.cond(x[0, 0, 0, 0] > 0, lambda: look(x), lambda: x), autograph=False)
    tf.function(lambda x: branch(x), jit_compile=True, autograph=False)(X)
    assert seen == [False, False, True, True, True]


@pytest.mark.parametrize("jit_compile", [True, False])
def test_xla_is_seen_inside_fit(jit_compile):
    seen = []

    class Look(keras.layers.Layer):
        def call(self, x):
            seen.append(dispatch.xla_is_compiling())
            return x

    model = keras.Sequential([keras.Input((2,)), Look(), keras.layers.Dense(1)])
    seen.clear()  # building looks, too
    model.compile("sgd", "mse", jit_compile=jit_compile)
    model.fit(np.zeros((4, 2)), np.zeros((4, 1)), verbose=0)
    assert seen
    assert all(compiling == jit_compile for compiling in seen)


def test_an_open_tape_is_seen():
    assert not dispatch.gradient_is_recorded()
    with tf.GradientTape():
        assert dispatch.gradient_is_recorded()
    assert not dispatch.gradient_is_recorded()


def test_the_table_decides_a_direct_call(monkeypatch):
    monkeypatch.setitem(dispatch.NATIVE_IS_FASTER, "max", (2.0, 1.0))
    one_and_a_half = tf.zeros((1, 375_000, 1, 1))
    three = tf.zeros((1, 750_000, 1, 1))
    assert [dispatch.choose("max", x) for x in (X, one_and_a_half, three)] == ["xla", "xla", "native"]
    with tf.GradientTape():
        assert [dispatch.choose("max", x) for x in (X, one_and_a_half)] == ["xla", "native"]
    assert dispatch.choose("an operator without a line", three) == "xla"


def test_an_unknown_size_counts_as_large(monkeypatch):
    monkeypatch.setitem(dispatch.NATIVE_IS_FASTER, "max", (2.0, 1.0))
    chosen = []

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1))], autograph=False)
    def look(x):
        chosen.append(dispatch.choose("max", x))
        return x

    look(X)
    assert chosen == ["native"]


def test_a_layer_is_native_unless_it_trains_or_xla_compiles():
    layer = layers.SoftPooling2D()
    assert not holds_compiled_function(layer, X)
    assert not holds_compiled_function(lambda x: layer(x, training=False), X)
    assert holds_compiled_function(lambda x: layer(x, training=True), X)
    with custom_ops.lowering("xla"):
        assert holds_compiled_function(layer, X)
    assert dispatch.choose("soft", X) == "xla"


def test_changing_batches_trace_a_bounded_number_of_times():
    rng = np.random.default_rng(0)
    gradient.prepared.cache_clear()

    @tf.function(reduce_retracing=True, autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(ops.soft_pool2d(x))
        return tape.gradient(loss, x)

    for batch in (4, 4, 3, 4):
        step(tf.constant(rng.normal(size=(batch, 4, 4, 2)).astype("float32")))
    assert step.experimental_get_tracing_count() == 2
    for batch in (4, 3, 1):
        ops.soft_pool2d(tf.zeros((batch, 4, 4, 2)))
    shapes = ((4, 4, 2), ())
    kernels = gradient.prepared.cache_info().currsize
    forward = gradient.prepared("xla", Window((2, 2), (2, 2), "valid"), shapes, soft.soft_forward, None)
    assert gradient.prepared.cache_info().currsize == kernels, "the kernel was not found in the cache"
    assert forward.experimental_get_tracing_count() <= 3


def test_many_kernels_do_not_warn_of_retracing(caplog):
    for strides in range(1, 8):
        ops.max_pool2d(X, 1, strides)
    assert "retracing" not in caplog.text
