"""Grouping of layers into blocks, and the choice of blocks to train."""

import math

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from recipes.parts.backbones import find, names
from recipes.parts.blocks import Block, group_layers, select
from zoo.errors import InputError
from zoo.graph import Graph


def lettered(*depths):
    """The blocks of an EfficientNet, as in `block2b`."""
    return [f"block{stage}{letter}" for stage, depth in enumerate(depths, 1) for letter in "abcdefghijklmno"[:depth]]


def numbered(pattern, *depths, first=1):
    """Blocks with the number of their stage, from `first` on, and their own, from 1 on, as in `conv2_block3`."""
    return [pattern.format(stage, block + 1) for stage, depth in enumerate(depths, first) for block in range(depth)]


# The smallest network of each family, by the depths of its stages in the literature; the others are slow tests.
EXPECTED_NAMES = {
    "efficientnet_lite0": ["stem", *numbered("stage{}_block{}", 1, 2, 2, 3, 3, 4, 1), "head_conv", "head"],
    "test_lenet": ["stage1_block1", "stage2_block1", "head"],
    "test_vgg": ["stage1_block1", "stage2_block1", "head"],
    "test_separable_vgg": ["stem", "stage1_block1", "stage2_block1", "head"],
    "test_resnet": ["stem", "stage1_block1", "stage2_block1", "head"],
    "mobilenet_v1_0.25": ["stem", *numbered("stage{}_block{}", 1, 2, 2, 6, 2), "head"],
    "mobilenet_v2_0.35": ["stem", *numbered("stage{}_block{}", 1, 2, 3, 4, 3, 3, 1), "head_conv", "head"],
    "EfficientNetB0": ["stem", *lettered(1, 2, 2, 3, 3, 4, 1), "top", "head"],
    "EfficientNetV2B0": ["stem", *lettered(1, 2, 2, 3, 5, 8), "top", "head"],
    "EfficientNetV2S": ["stem", *lettered(2, 4, 4, 6, 9, 15), "top", "head"],
    "ConvNeXtTiny": [
        *("stem", "stage_0_block_0", "stage_0_block_1", "stage_0_block_2"),
        *("downsampling_block_0", "stage_1_block_0", "stage_1_block_1", "stage_1_block_2"),
        *("downsampling_block_1", *(f"stage_2_block_{n}" for n in range(9))),
        *("downsampling_block_2", "stage_3_block_0", "stage_3_block_1", "stage_3_block_2", "head"),
    ],
    "MobileNet": ["stem", *(f"block_{n}" for n in range(1, 14)), "head"],
    "MobileNetV2": ["stem", *(f"block_{n}" for n in range(17)), "top", "head"],
    "MobileNetV3Small": [
        *("stem", "expanded_conv", *(f"expanded_conv_{n}" for n in range(1, 11)), "top", "head"),
    ],
    "ResNet50": ["conv1", *numbered("conv{}_block{}", 3, 4, 6, 3, first=2), "head"],
    "ResNet50V2": ["conv1", *numbered("conv{}_block{}", 3, 4, 6, 3, first=2), "head"],
    "DenseNet121": [
        *("conv1", *numbered("conv{}_block{}", 6, first=2), "pool2"),
        *(*numbered("conv{}_block{}", 12, first=3), "pool3"),
        *(*numbered("conv{}_block{}", 24, first=4), "pool4"),
        *(*numbered("conv{}_block{}", 16, first=5), "head"),
    ],
    "VGG16": ["block1", "block2", "block3", "block4", "block5", "head"],
    "Xception": [*(f"block{n}" for n in range(1, 15)), "head"],
    "InceptionV3": ["stem", *(f"mixed{n}" for n in range(11)), "head"],
    "InceptionResNetV2": [
        *("stem", "mixed_5b", *(f"block35_{n}" for n in range(1, 11))),
        *("mixed_6a", *(f"block17_{n}" for n in range(1, 21))),
        *("mixed_7a", *(f"block8_{n}" for n in range(1, 11)), "conv_7b", "head"),
    ],
    "NASNetMobile": [
        *("stem", "stem_1", "stem_2"),
        *("cell_0", "cell_1", "cell_2", "cell_3", "reduce_4"),
        *("cell_5", "cell_6", "cell_7", "cell_8", "reduce_8"),
        *("cell_9", "cell_10", "cell_11", "cell_12", "head"),
    ],
}
SMALLEST = {find(name).family: name for name in EXPECTED_NAMES}
LARGE = ("NASNetMobile", "InceptionResNetV2", "EfficientNetV2S")
SLOW = sorted(set(names()) - set(EXPECTED_NAMES))


def build(name):
    """A network of the table with a head, without weights."""
    backbone = find(name)
    shape = (backbone.smallest_size, backbone.smallest_size, 3)
    if backbone.library == "zoo":
        base = zoo.build_model(name, input_shape=shape, num_classes=None, weights=None)
        x = keras.layers.Dropout(0.1, name="head_dropout")(base.output)
        return keras.Model(base.input, keras.layers.Dense(3, name="head_logits")(x))
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="preprocess")(inputs)
    base = getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=x, input_shape=shape)
    return with_head(inputs, base.output)


@pytest.fixture(scope="module")
def network():
    """A function that builds a network, but keeps those that several tests ask for; all would fill the memory."""
    kept = {name: None for name in ["MobileNetV2", "MobileNetV3Small", "Xception"]}

    def get(name):
        if name not in kept:
            return build(name)
        kept[name] = kept[name] or build(name)
        return kept[name]

    return get


def with_head(inputs, features):
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(features)
    x = keras.layers.Dropout(0.1, name="head_dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head_logits")(x))


def check(model, blocks):
    """What must hold of all blocks: all layers, once, in order, with something to train in each."""
    layers = [layer for block in blocks for layer in block.layers]
    inside = [
        layer.name
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer) and layer.name != "preprocess"
    ]
    assert len(layers) == len(set(layers))
    assert set(layers) == set(inside)
    weighted = {layer.name for layer in model.layers if layer.weights}
    assert all(weighted & set(block.layers) for block in blocks)
    names = [block.name for block in blocks]
    assert len(names) == len(set(names))
    assert blocks[-1].name == "head"
    assert blocks[-1].layers[-1] == model.layers[-1].name

    # No layer reads from a layer of a later block, even through operations that are no layers.
    block_of = {layer: index for index, block in enumerate(blocks) for layer in block.layers}
    graph = Graph(model)
    latest = [-1] * len(graph.operations)
    for index, operation in enumerate(graph.operations):
        own = block_of.get(operation.name) if isinstance(operation, keras.Layer) else None
        if own is not None:
            assert latest[index] <= own, operation.name
            latest[index] = own
        for consumer in graph.consumers[index]:
            latest[consumer] = max(latest[consumer], latest[index])


def shape_of(model, blocks):
    """Blocks without the names of layers, which may depend on what was built before."""
    return [
        (
            block.name,
            [[tuple(weight.shape) for weight in model.get_layer(name).weights] for name in block.layers],
        )
        for block in blocks
    ]


def test_every_family_is_tested_by_default():
    assert set(SMALLEST) == {find(name).family for name in names()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in (*SLOW, *LARGE) else name
        for name in (*EXPECTED_NAMES, *SLOW)
    ],
)
def test_blocks_of_every_network_cover_all_layers_in_order(name, network):
    model = network(name)
    blocks = group_layers(model, find(name).block_patterns)
    check(model, blocks)
    found = [block.name for block in blocks]
    smallest = EXPECTED_NAMES[SMALLEST[find(name).family]]
    if name in EXPECTED_NAMES:
        assert found == EXPECTED_NAMES[name]
    else:
        assert found[0] == smallest[0]
        # The models for tests are smaller than any of their family.
        assert len(found) >= len(smallest) or name.startswith("test_")
    by_stride = group_layers(model)
    check(model, by_stride)
    # The names of a family agree with the graph: each boundary is one that a single tensor crosses.
    if find(name).family != "NASNet":
        assert all(crossing == 1 for crossing in crossings(model, blocks))
    assert all(crossing == 1 for crossing in crossings(model, by_stride))


def crossings(model, blocks):
    """For each boundary between two blocks, how many tensors cross it."""
    block_of = {layer: index for index, block in enumerate(blocks) for layer in block.layers}
    graph = Graph(model)
    place = [block_of.get(operation.name, -1) for operation in graph.operations]
    # An operation that is no layer belongs to the latest block it reads from.
    for index, operation in enumerate(graph.operations):
        if not isinstance(operation, keras.Layer):
            place[index] = max(place[source] for source, out in enumerate(graph.consumers) if index in out)
    for boundary in range(1, len(blocks)):
        yield sum(
            place[index] < boundary and any(place[reader] >= boundary for reader in consumers)
            for index, consumers in enumerate(graph.consumers)
        )


@pytest.mark.parametrize("name", ["MobileNetV3Small", "Xception"])
def test_automatic_names_do_not_matter(name, network):
    patterns = find(name).block_patterns
    first, second = network(name), build(name)
    blocks, again = group_layers(first, patterns), group_layers(second, patterns)
    assert blocks != again, "names have become stable: this test checks nothing any more"
    assert shape_of(first, blocks) == shape_of(second, again)


def test_a_block_to_the_end_holds_what_was_counted_by_hand(network):
    model = network("MobileNetV2")
    blocks = group_layers(model, find("MobileNetV2").block_patterns)
    layers = [layer for index in select(blocks, "from:block_13")[:-1] for layer in blocks[index].layers]
    # block_13 to block_16 and the last convolution: 96 channels, 160 three times, 320, 1280; inside 6 times.
    convolutions = (96 * 576 + 9 * 576 + 576 * 160) + 2 * (160 * 960 + 9 * 960 + 960 * 160)
    convolutions += (160 * 960 + 9 * 960 + 960 * 320) + 320 * 1280
    norms = 2 * ((2 * 576 + 160) + 2 * (2 * 960 + 160) + (2 * 960 + 320) + 1280)
    weights = [weight for layer in layers for weight in model.get_layer(layer).trainable_weights]
    assert sum(math.prod(weight.shape) for weight in weights) == convolutions + norms


def test_fallback_groups_by_output_stride():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="a")(inputs)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(4, 3, padding="same", name="b")(x)])
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", name="c")(x)
    x = keras.layers.MaxPooling2D(4, name="last_pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(3, name="hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    assert group_layers(model) == (
        Block("stride_2", ("a", "b", "sum")),
        # The last pooling has a stride of its own, but nothing to train.
        Block("stride_4", ("pool", "c", "last_pool")),
        Block("head", ("flat", "hidden", "out")),
    )


PARTS = st.lists(
    st.sampled_from(["conv", "down", "residual", "branches", "gate", "square", "shared"]), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=20)
@given(parts=PARTS, named=st.booleans())
def test_blocks_of_any_network_are_valid(parts, named):
    inputs = keras.Input((16, 16, 2))
    x = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    for number, part in enumerate(parts):
        x = grow(x, part, f"part{number}" if named else None)
    model = with_head(inputs, x)
    blocks = group_layers(model, ((r"(part\d+x?)_.*", r"\1"),) if named else ())
    check(model, blocks)
    if "shared" not in parts:
        assert all(crossing == 1 for crossing in crossings(model, blocks))

    graph = Graph(model)
    readers = graph.consumers
    ends = [
        end
        for end in range(len(readers))
        if sum(any(reader > end for reader in readers[index]) for index in range(end + 1)) <= 1
    ]
    assert [segment[-1] for segment in graph.segments()] == ends


def grow(x, part, name):
    def conv(x, letter, block=name, **arguments):
        named = {"name": f"{block}_{letter}"} if name else {}
        return keras.layers.Conv2D(2, 3, padding="same", **named, **arguments)(x)

    if part == "conv":
        return keras.layers.ReLU()(conv(x, "a"))
    if part == "down":
        return conv(x, "a", strides=2)
    if part == "residual":
        return keras.layers.Add()([x, keras.layers.Conv2D(2, 1)(conv(x, "a"))])
    if part == "branches":
        return conv(keras.layers.Concatenate()([conv(x, "a"), keras.layers.ReLU()(x)]), "b")
    if part == "gate":
        weights = keras.layers.GlobalAveragePooling2D(keepdims=True)(conv(x, "a"))
        return x * weights
    if part == "shared":  # by two blocks that no single tensor separates
        y = keras.layers.ReLU()(x)
        z = conv(keras.layers.Concatenate()([conv(y, "a"), y]), "b", block=f"{name}x")
        return keras.layers.Add()([x, z])
    return conv(x, "a") * x + x


BLOCKS = tuple(Block(name, (f"{name}_conv",)) for name in ("stem", "block_1", "block_2", "top", "head"))


@pytest.mark.parametrize(
    ("unfreeze", "expected"),
    [
        ("none", ()),
        ("head", (4,)),
        ("last:1", (3, 4)),
        ("last:4", (0, 1, 2, 3, 4)),
        ("from:block_2", (2, 3, 4)),
        ("from:head", (4,)),
        ("blocks:block_1", (1, 4)),
        ("blocks:top,stem", (0, 3, 4)),
        ("blocks:head,stem,stem", (0, 4)),
        ("all", (0, 1, 2, 3, 4)),
    ],
)
def test_select(unfreeze, expected):
    assert select(BLOCKS, unfreeze) == expected


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("last:0", "from 1 to 4"),
        ("last:5", "from 1 to 4"),
        ("last:-1", "from:block_2"),
        ("last:", "last:N"),
        ("from:block2", "block_2.*stem, block_1, block_2, top, head"),
        ("from", "from:BLOCK"),
        ("blocks:block_1,block2", "block_2.*stem, block_1, block_2, top, head"),
        ("blocks:", "blocks:NAME,NAME"),
        ("auto", "measured"),
        ("everything", "none, head, last:N"),
        ("", "none, head, last:N"),
    ],
)
def test_select_says_what_it_takes(unfreeze, message):
    with pytest.raises(InputError, match=message):
        select(BLOCKS, unfreeze)
