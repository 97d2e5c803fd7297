"""Global, adaptive and dynamic pools against their definitions, and the messages of all operators."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from custom_ops import ops, reference


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 7, 5, 3))


@pytest.mark.parametrize("rank", [1, 2])
def test_global_pools(rank, x, rng):
    x = x if rank == 2 else x[:, :, 0]
    axes = tuple(range(1, rank + 1))

    def call(name, *arguments, **options):
        return getattr(ops, f"global_{name}_pool{rank}d")(x, *arguments, **options)

    np.testing.assert_allclose(call("avg"), x.mean(axes))
    np.testing.assert_allclose(call("max", keepdims=True), x.max(axes, keepdims=True))
    np.testing.assert_allclose(call("avg_max"), np.concatenate([x.mean(axes), x.max(axes)], -1))
    p = rng.uniform(1, 5, 3)
    np.testing.assert_allclose(call("gem", p), reference.global_gem_pool(x, p))
    np.testing.assert_allclose(call("gem", p, keepdims=True)[:, 0].numpy().reshape(2, 3), call("gem", p))
    for channels in (1, 3):
        scores = rng.normal(size=(*x.shape[:-1], channels)) * 50
        np.testing.assert_allclose(call("attention", scores), reference.global_attention_pool(x, scores))


def test_global_pools_of_large_and_half_precision_numbers():
    x = tf.fill((1, 64, 64, 1), tf.constant(1000, tf.float16))
    for y in (ops.global_avg_pool2d(x), ops.global_gem_pool2d(x, 3.0), ops.global_attention_pool2d(x, x)):
        assert y.dtype == tf.float16
        np.testing.assert_allclose(y, [[1000]], rtol=1e-3)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 4, 2)) * 1e4, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ops.global_gem_pool2d(x, 20.0)
    assert np.isfinite(y).all()
    assert np.isfinite(tape.gradient(y, x)).all()


def test_global_gem_gradients_follow_central_differences(rng):
    x, p = rng.uniform(0.5, 2, size=(2, 3, 3, 2)), rng.uniform(1, 4, 2)
    variables = [tf.constant(x), tf.constant(p)]
    with tf.GradientTape() as tape:
        tape.watch(variables)
        y = tf.reduce_sum(ops.global_gem_pool2d(*variables))
    gradients = tape.gradient(y, variables)
    for index, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)

        def moved(step, index=index, direction=direction):
            at = [value + step * direction if index == i else value for i, value in enumerate((x, p))]
            return reference.global_gem_pool(*at).sum()

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("known", [True, False], ids=["known size", "unknown size"])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_adaptive_pools_and_the_pyramid(mode, known, x):
    function = {"avg": np.mean, "max": np.max}[mode]
    x = x.astype("float32")
    size = x.shape if known else (None, None, None, 3)
    signature = [tf.TensorSpec(size)]

    def call(function, *arguments, **options):
        bound = functools.partial(function, **options)
        graph = tf.function(lambda x: bound(x, *arguments), input_signature=signature, autograph=False)
        return graph(x)

    for grid in ((3, 2), (1, 1), (7, 5)):
        y = call(getattr(ops, f"adaptive_{mode}_pool2d"), grid)
        assert y.shape[1:] == (*grid, 3)
        np.testing.assert_allclose(y, reference.adaptive_pool2d(x, grid, function), rtol=1e-5, atol=1e-6)
    pyramid = call(ops.spatial_pyramid_pool2d, (1, 2, 3), mode=mode)
    assert pyramid.shape[1] == 14 * 3
    expected = reference.spatial_pyramid_pool2d(x, (1, 2, 3), function)
    np.testing.assert_allclose(pyramid, expected, rtol=1e-5, atol=1e-6)
    steps = getattr(ops, f"adaptive_{mode}_pool1d")(x[:, :, 0], 4)
    np.testing.assert_allclose(
        steps, reference.adaptive_pool2d(x[:, :, :1], (4, 1), function)[:, :, 0], rtol=1e-5, atol=1e-6
    )


def test_keras_still_cannot_pool_to_every_grid():
    """Once it can, ours may leave it to Keras."""
    one = tf.function(lambda x: keras.ops.adaptive_average_pool(x, (1, 1), data_format="channels_last"))
    with pytest.raises(ValueError, match="Negative dimension"):
        one.get_concrete_function(tf.TensorSpec((1, 7, 7, 1)))
    unknown = tf.function(lambda x: keras.ops.adaptive_average_pool(x, (2, 2), data_format="channels_last"))
    with pytest.raises(ValueError, match="statically known"):
        unknown.get_concrete_function(tf.TensorSpec((None, None, None, 1)))


def test_k_max_keeps_the_order_and_the_first_of_equals(x):
    steps = x[:, :, 0]
    np.testing.assert_allclose(ops.k_max_pool1d(steps, 3), reference.k_max_pool1d(steps, 3))
    ties = np.array([[[1.0], [2.0], [2.0], [0.0], [2.0]]])
    variable = tf.constant(ties)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        y = ops.k_max_pool1d(variable, 2)
    np.testing.assert_array_equal(tape.gradient(y, variable)[0, :, 0], [0, 1, 1, 0, 0])


IMAGE, STEPS = np.zeros((1, 4, 4, 3), "float32"), np.zeros((1, 4, 3), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.max_pool2d(STEPS),
            r"must be \(batch, height, width, channels\)\. Received: .*\(1, 4, 3\)",
        ),
        (lambda: ops.max_pool1d(IMAGE), r"must be \(batch, steps, channels\)\. Received: .*\(1, 4, 4, 3\)"),
        (lambda: ops.avg_pool2d(IMAGE.astype("int32")), r"floating point type\. Received: int32"),
        (lambda: ops.soft_pool2d(IMAGE, 5), r"window of 5 does not fit into an input of 4"),
        (lambda: ops.soft_pool2d(IMAGE, 2, padding="full"), r"`padding` must be .* padding='full'"),
        (lambda: ops.lp_pool2d(IMAGE, 0.5), r"`p` must be a finite number of at least 1.* p=0.5"),
        (lambda: ops.gem_pool2d(IMAGE, [1.0, 2.0]), r"`p` must be a scalar or have one value per channel, 3"),
        (lambda: ops.mixed_pool2d(IMAGE, np.zeros((2, 2))), r"`alpha` must be a scalar .* \(2, 2\)"),
        (lambda: ops.gated_pool2d(IMAGE, np.zeros(3)), r"`weights` must have the shape \(2, 2\) or"),
        (lambda: ops.gated_pool1d(STEPS, np.zeros(3)), r"`weights` must have the shape \(2,\) or"),
        (lambda: ops.lip_pool2d(IMAGE, STEPS), r"`logits` must have the shape .* \(1, 4, 3\)"),
        (
            lambda: ops.separable_pool2d(IMAGE, np.zeros((2, 3)), np.zeros((3, 3))),
            r"`column_logits` must have",
        ),
        (lambda: ops.stochastic_pool2d(IMAGE, 1.5, True), r"`seed` must be an int or two of them"),
        (lambda: ops.global_attention_pool2d(IMAGE, STEPS), r"`scores` must have the shape"),
        (lambda: ops.adaptive_avg_pool2d(IMAGE, (0, 1)), r"`output_size` must be .* output_size=\(0, 1\)"),
        (lambda: ops.spatial_pyramid_pool2d(IMAGE, mode="sum"), r"`mode` must be 'avg' or 'max'"),
        (lambda: ops.k_max_pool1d(STEPS, 5), r"`k` must be at most the number of steps, 4\. Received: k=5"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
