"""What networks cost, against published figures, against counting by brute force, and against trial."""

import math
import operator

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers

import custom_ops
import zoo
from zoo import InputError, ModelSpec, build_model
from zoo.cost import figures as known
from zoo.cost.describe import describe
from zoo.cost.multiply_adds import multiply_adds

# Parameters, trainable ones, and multiply-adds (millions) with 1,000 classes, as published for the first and as counted
# in this way for EfficientNet-Lite, at the size that each model was designed for.
PUBLISHED = {
    "mobilenet_v1_0.25": (475_544, 470_072, 41.0),
    "mobilenet_v1_1.0": (4_253_864, 4_231_976, 568.7),
    "mobilenet_v2_1.0": (3_538_984, 3_504_872, 300.8),
    "vgg16": (138_357_544, 138_357_544, 15_470),
    "efficientnet_lite0": (4_694_024, 4_652_008, 385),
    "efficientnet_lite1": (5_470_344, 5_416_680, 600),
    "efficientnet_lite2": (6_150_168, 6_092_072, 860),
    "efficientnet_lite3": (8_273_768, 8_197_096, 1383),
    "efficientnet_lite4": (13_118_936, 13_006_568, 2553),
}
# Extents at the last feature map: Araujo et al., Computing Receptive Fields of Convolutional Neural Networks.
RECEPTIVE_FIELDS = {"MobileNet": 315, "MobileNetV2": 491, "VGG16": 212, "ResNet50": 483, "InceptionV3": 1311}


def in_millions(number, published):
    """Rounded as the published figure is."""
    digits = 1 if published % 1 else 0
    return round(number / 1e6, digits)


# ------------------------------------------------------------------------------------------------ published


@pytest.mark.parametrize("name", PUBLISHED)
def test_known_figures_are_the_published_ones(name):
    parameters, _, millions = PUBLISHED[name]
    assert known.figures(name).parameters(1000) == parameters
    assert in_millions(known.figures(name).multiply_adds(1000), millions) == millions


def check_published(model, name):
    parameters, trainable, millions = PUBLISHED[name]
    costs = describe(model)
    assert (costs.total.parameters, costs.total.trainable) == (parameters, trainable)
    assert in_millions(costs.total.multiply_adds, millions) == millions
    return costs


def test_mobilenet_of_keras_costs_what_is_published():
    costs = check_published(keras.applications.MobileNet(weights=None, alpha=0.25), "mobilenet_v1_0.25")
    assert costs.features.receptive_field == (RECEPTIVE_FIELDS["MobileNet"],) * 2
    assert costs.features.stride == (32, 32)


# VGG16 takes half a gigabyte.
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "vgg16")) for n in PUBLISHED])
def test_zoo_models_cost_what_is_published(name):
    check_published(build_model(name, input_shape=zoo.MODELS[name].input_shape, num_classes=1000), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
def test_receptive_fields_are_the_published_ones(name):
    model = getattr(keras.applications, name)(weights=None)
    assert describe(model).features.receptive_field == (RECEPTIVE_FIELDS[name],) * 2


def smallest_of_each_family():
    names = {}
    for name in sorted(zoo.list_models(), key=lambda name: known.figures(name).body_multiply_adds):
        names.setdefault(zoo.MODELS[name].family, name)
    return list(names.values())


def test_every_model_has_figures():
    assert known._all_figures().keys() == set(zoo.list_models()), "run: python -m zoo.cost.figures"
    assert known.figures("of somebody else") is None


@pytest.mark.parametrize("name", smallest_of_each_family())
def test_figures_are_current(name):
    assert known.measure(name) == known.figures(name), "run: python -m zoo.cost.figures"


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_all_figures_are_current(name):
    assert known.measure(name) == known.figures(name), "run: python -m zoo.cost.figures"


def test_figures_hold_for_any_number_of_classes():
    costs = describe(build_model("test_vgg", input_shape=zoo.MODELS["test_vgg"].input_shape, num_classes=7))
    assert known.figures("test_vgg").parameters(7) == costs.total.parameters
    assert known.figures("test_vgg").multiply_adds(7) == costs.total.multiply_adds


# ------------------------------------------------------------------------------------------- multiply-adds

# With every weight above zero and no padding, each pair of an output and an input that depend on each other is one
# multiply-add, and one nonzero entry of the layer's Jacobian.
COUNTED = {
    "conv": (layers.Conv2D(4, 3), (6, 5, 3)),
    "strides": (layers.Conv2D(4, (3, 2), strides=2), (7, 6, 3)),
    "dilation": (layers.Conv2D(2, 3, dilation_rate=2), (7, 6, 2)),
    "1x1": (layers.Conv2D(4, 1), (3, 2, 5)),
    "1d": (layers.Conv1D(4, 3), (8, 3)),
    "3d": (layers.Conv3D(2, 2), (3, 4, 3, 2)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 6, 3)),
    "depthwise 1d": (layers.DepthwiseConv1D(3), (7, 3)),
    "transposed": (layers.Conv2DTranspose(3, 3, strides=2), (3, 4, 2)),
    "transposed 1d": (layers.Conv1DTranspose(3, 2), (4, 2)),
    "dense": (layers.Dense(5), (7,)),
    "dense on a map": (layers.Dense(5), (2, 3, 4)),
}


@pytest.mark.parametrize("case", COUNTED)
def test_multiply_adds_are_the_nonzeros_of_the_jacobian(case):
    layer, shape = COUNTED[case]
    layer = layer.from_config({**layer.get_config(), "name": "counted"})
    layer.build((None, *shape))
    layer.set_weights([np.ones(weight.shape) for weight in layer.weights])
    columns = np.eye(math.prod(shape), dtype="float32").reshape(-1, *shape)
    bias = layer(np.zeros((1, *shape), "float32"))
    jacobian = np.asarray(layer(columns) - bias)
    assert multiply_adds(layer, (None, *shape), (None, *jacobian.shape[1:])) == np.count_nonzero(jacobian)


def counted(*stack, shape):
    return describe(keras.Sequential([keras.Input(shape), *stack])).total.multiply_adds


def test_separable_convolution_costs_its_two_parts():
    both = counted(layers.SeparableConv2D(8, 3, depth_multiplier=2), shape=(9, 8, 4))
    parts = counted(layers.DepthwiseConv2D(3, depth_multiplier=2), layers.Conv2D(8, 1), shape=(9, 8, 4))
    assert both == parts == 7 * 6 * (9 * 4 * 2 + 8 * 8)


def test_groups_divide_the_cost():
    whole, grouped = (counted(layers.Conv2D(8, 3, groups=groups), shape=(6, 6, 4)) for groups in (1, 4))
    assert whole == 4 * grouped


def test_what_is_not_counted_is_named():
    costs = describe(
        keras.Sequential(
            [
                keras.Input((4, 6)),
                layers.EinsumDense("abc,cd->abd", (4, 5), name="einsum"),
                layers.BatchNormalization(),
                layers.PReLU(),
                custom_ops.layers.SeparablePooling1D(2),
            ]
        )
    )
    assert costs.uncounted == ("einsum",)
    assert costs.total.multiply_adds == 0


# ------------------------------------------------------------------------------------------ receptive field


def influence(model, axis):
    """Which positions of the image along an axis change which positions of the output, by trying all of them."""
    shape = model.input_shape[1:]
    background = np.random.default_rng(0).uniform(0.5, 1.0, shape).astype("float32")
    images = np.repeat(background[None], shape[axis], axis=0)
    for position, image in enumerate(images):
        np.moveaxis(image, axis, 0)[position] += 1000
    change = np.abs(np.asarray(model(images)) - np.asarray(model(background[None]))) > 1e-2
    others = tuple(other for other in range(1, change.ndim) if other != axis + 1)
    return change.any(axis=others).T  # output positions, image positions


def clean(chain, axis):
    """Which positions of the output see neither padding nor what was cropped, in the image or on the way."""
    found = np.ones(chain[-1].shape[axis + 1], bool)
    for tensor in chain[:-1]:
        windows = describe(keras.Model(tensor, chain[-1])).features.windows[axis]
        seen = (windows.at(position) for position in range(len(found)))
        found &= [0 <= first <= last < tensor.shape[axis + 1] for first, last in seen]
    return np.flatnonzero(found)


def check_receptive_field(chain):
    """Compare the windows of all positions that see no padding; False if there are none.

    The chain is what leads from the image to the output: all tensors through which every way goes.
    """
    model = keras.Model(chain[0], chain[-1])
    for layer in model.layers:
        layer.set_weights([np.full(weight.shape, 1 / math.prod(weight.shape[:-1] or (1,))) for weight in layer.weights])
    costs = describe(model).features
    assert not costs.sees_all
    for axis, windows in enumerate(costs.windows):
        places = clean(chain, axis)
        if not len(places):
            return False
        found = [np.flatnonzero(row) for row in influence(model, axis)[places]]
        assert [(seen[0], seen[-1]) for seen in found] == [windows.at(place) for place in places]
        assert costs.receptive_field[axis] == windows.size >= max(seen[-1] - seen[0] + 1 for seen in found)
    return True


PADDING = st.sampled_from(["same", "valid"])


SIZE = st.integers(1, 4)
WINDOW = st.tuples(SIZE, SIZE)
BORDERS = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)


def layer(kind, **arguments):
    """A layer and its arguments, which are drawn; the layer itself is made in the test."""
    return st.tuples(st.just(kind), st.fixed_dictionaries(arguments))


LAYERS = st.one_of(
    layer(layers.Conv2D, filters=st.just(1), kernel_size=WINDOW, strides=st.integers(1, 3), padding=PADDING),
    layer(layers.Conv2D, filters=st.just(1), kernel_size=WINDOW, dilation_rate=st.integers(2, 3), padding=PADDING),
    layer(layers.DepthwiseConv2D, kernel_size=WINDOW, strides=st.integers(1, 2), padding=PADDING),
    layer(layers.SeparableConv2D, filters=st.just(1), kernel_size=WINDOW, strides=st.integers(1, 2), padding=PADDING),
    layer(layers.MaxPooling2D, pool_size=WINDOW, strides=st.integers(1, 3), padding=PADDING),
    layer(layers.AveragePooling2D, pool_size=WINDOW, strides=st.integers(1, 3), padding=PADDING),
    layer(layers.Conv2DTranspose, filters=st.just(1), kernel_size=st.integers(2, 5), strides=SIZE, padding=PADDING),
    layer(layers.UpSampling2D, size=st.integers(1, 3), interpolation=st.sampled_from(["nearest", "bilinear"])),
    layer(layers.ZeroPadding2D, padding=BORDERS),
    layer(layers.Cropping2D, cropping=BORDERS),
)
BRANCHES = st.fixed_dictionaries({"kernel_size": st.integers(1, 5), "dilation_rate": st.integers(1, 2)})


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.integers(40, 50), st.integers(40, 50)),
    st.lists(st.tuples(LAYERS, st.none() | BRANCHES), min_size=1, max_size=4),
)
def test_receptive_fields_are_what_trial_finds(size, chain):
    tensors = [keras.Input((*size, 1))]
    for (kind, arguments), branch in chain:
        if kind is layers.Conv2DTranspose:  # a smaller kernel leaves positions that see nothing
            assume(arguments["kernel_size"] >= arguments["strides"])
        x = kind(**arguments)(tensors[-1])
        tensors.append(x)
        assume(min(x.shape[1:3]) >= 8 and max(x.shape[1:3]) <= 150)
        if branch:
            tensors.append(layers.Add()([x, layers.Conv2D(1, padding="same", **branch)(x)]))
    assume(check_receptive_field(tensors))


POOLS = {
    "max": lambda padding: custom_ops.layers.MaxPooling2D(3, 2, padding),
    "blur": lambda padding: custom_ops.layers.BlurPooling2D(3, 2, padding),
    "soft": lambda padding: custom_ops.layers.SoftPooling2D((2, 3), 2, padding),
    "max_blur": lambda padding: custom_ops.layers.MaxBlurPooling2D(3, 5, 2, padding),
    "adaptive": lambda padding: custom_ops.layers.AdaptiveAvgPooling2D(12),
}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("pool", POOLS)
def test_receptive_fields_of_our_pools(pool, padding):
    image = keras.Input((48, 60, 1))
    x = layers.Conv2D(1, 3, strides=2, padding="same")(image)
    assert check_receptive_field([image, x, POOLS[pool](padding)(x)])


def test_receptive_field_along_time():
    stack = [layers.Conv1D(2, 3, padding="causal", dilation_rate=rate) for rate in (1, 2, 4, 8)]
    costs = describe(keras.Sequential([keras.Input((100, 2)), *stack]))
    assert costs.features.receptive_field == (31,)


def test_a_gate_lets_every_position_see_the_image():
    image = keras.Input((32, 24, 3))
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    gate = layers.Dense(4)(layers.GlobalAveragePooling2D(name="squeeze")(x))
    x = layers.Multiply(name="gated")([x, layers.Reshape((1, 1, 4))(gate)])
    x = layers.Conv2D(4, 3, name="after")(x)
    by_name = {layer.name: layer for layer in describe(keras.Model(image, x)).layers}
    assert (by_name["conv"].sees_all, by_name["conv"].receptive_field) == (False, (3, 3))
    assert (by_name["squeeze"].sees_all, by_name["squeeze"].stride) == (True, ())
    for name in ("gated", "after"):
        assert (by_name[name].sees_all, by_name[name].receptive_field) == (True, (32, 24))
        assert by_name[name].stride == (2, 2)


@pytest.mark.parametrize(
    "layer", [layers.Flatten(), layers.Reshape((12, 8, 2)), layers.GlobalMaxPooling2D(keepdims=True)]
)
def test_behind_it_positions_are_no_places_any_more(layer):
    costs = describe(keras.Sequential([keras.Input((8, 12, 2)), layers.Conv2D(2, 3, padding="same"), layer]))
    assert costs.layers[-1].sees_all
    assert costs.layers[-1].receptive_field == (8, 12)
    assert costs.features is costs.layers[0]


# ------------------------------------------------------------------------------------------- walking a graph


def test_layers_stages_and_total_add_up(tiny_spec: ModelSpec):
    model = build_model(tiny_spec, input_shape=(16, 12, 3), num_classes=5)
    model.get_layer("stem_conv").trainable = False
    costs = describe(model)
    assert [layer.name for layer in costs.layers] == [layer.name for layer in model.layers[1:]]
    assert [stage.name for stage in costs.stages] == ["preprocess", "stem", "stage1", "stage2", "head"]
    for name in ("trainable", "frozen", "parameters", "multiply_adds", "activation_bytes"):
        value = operator.attrgetter(name)
        assert sum(map(value, costs.layers)) == sum(map(value, costs.stages)) == value(costs.total)
    assert costs.total.parameters == model.count_params()
    assert costs.total.trainable == sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert costs.total.activation_bytes == sum(4 * math.prod(layer.output.shape[1:]) for layer in model.layers[1:])
    stem = costs.stages[1]
    assert (stem.output_shape, stem.receptive_field, stem.stride) == ((8, 6, 4), (3, 3), (2, 2))


def test_models_inside_the_model_are_opened_and_shared_layers_count_each_call():
    inner_image = keras.Input((None, None, 4))
    inner = keras.Model(inner_image, layers.Conv2D(4, 3, padding="same", name="deep")(inner_image), name="inner")
    chain = keras.Sequential(
        [layers.Conv2D(4, 2, strides=2, name="patches"), layers.LayerNormalization()], name="chain"
    )
    image = keras.Input((8, 8, 3))
    x = inner(chain(image))
    x = keras.ops.add(inner(x), x)
    model = keras.Model(image, x)
    costs = describe(model)
    assert costs.layers[0].name == "chain/patches"
    deep = [layer for layer in costs.layers if layer.name == "inner/deep"]
    assert [layer.multiply_adds for layer in deep] == [4 * 4 * 9 * 4 * 4] * 2
    assert [layer.parameters for layer in deep] == [9 * 4 * 4 + 4, 0]
    assert costs.total.parameters == model.count_params()
    assert costs.features.receptive_field == (10, 10)


def test_operations_that_are_no_layers_are_walked():
    costs = describe(
        keras.applications.MobileNetV3Small(weights=None, include_top=False, include_preprocessing=False),
        input_shape=(64, 96, 3),
    )
    assert costs.features.output_shape == (2, 3, 576)
    assert {"Add", "Multiply", "Conv2D"} <= {layer.kind for layer in costs.layers}
    assert [stage.name for stage in costs.stages] == [f"stride {2**n}" for n in range(1, 6)]


def test_stages_can_be_given():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, name="a")(image)
    x = layers.ReLU(name="b")(x)
    costs = describe(keras.Model(image, layers.Conv2D(2, 3, name="c")(x)), stages={"a": "first", "c": "second"})
    assert [(layer.name, layer.stage) for layer in costs.layers] == [("a", "first"), ("b", "first"), ("c", "second")]


class Own(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: Own(), {}, "functional"),
        (lambda: keras.Sequential([layers.Dense(2)]), {}, "functional"),
        (lambda: keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]), {}, "give `input_shape`"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)]),
            {"input_shape": (9, 8, 3)},
            r"takes inputs of \(8, 8, 3\). Received",
        ),
        (
            lambda: keras.Sequential([keras.Input((3, 8, 8)), layers.MaxPooling2D(data_format="channels_first")]),
            {},
            "channels_first",
        ),
    ],
)
def test_what_cannot_be_described_is_told(model, options, message):
    with pytest.raises(InputError, match=message):
        describe(model(), **options)
