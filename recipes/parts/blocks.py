"""Which layers belong together: the blocks of a network, from input to head, by which stages unfreeze it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from zoo.errors import InputError
from zoo.graph import Graph
from zoo.registry import unknown_name

HEAD = "head"
STEM = "stem"
_HEAD_LAYERS = (r"head_(?:pool(?:_.*)?|dropout|logits)", HEAD)


@dataclass(frozen=True)
class Block:
    """Layers that are frozen and unfrozen together."""

    name: str
    layers: tuple[str, ...]
    """Layer names, in the order in which they run."""


def group_layers(model: keras.Model, patterns: Sequence[tuple[str, str]] = ()) -> tuple[Block, ...]:
    r"""Divide the layers of a network into blocks.

    No layer of a block depends on a layer of a later block, so the blocks from any one on can be trained
    while those before it stay frozen. Every layer is in one block, except the input and a layer named
    `preprocess`.

    The unit is the segment: what lies between two neighbouring places where a single tensor crosses, such as
    the input and the output of a residual block. With patterns, a layer's name tells its block; a layer
    whose name does not (many names are automatic) joins the block of its segment, and a segment without any
    telling name the one before it. Without patterns, segments of the same output stride make up a block.

    Args:
        model: A functional classifier with one image input of fixed size, in which each layer is called
            once. Its last layers are named `head_pool`, `head_dropout` and `head_logits`; without patterns,
            the head is otherwise all that follows the last image-like tensor.
        patterns: Pairs of a regular expression, which has to match the whole name of a layer, and the name
            of its block, in which `\1` stands for the first group. The first match counts.

    Returns:
        Blocks from input to head, each with at least one weight; the last one is named `head`.
    """
    graph = Graph(model)
    labels = _label_by_name(graph, (*patterns, _HEAD_LAYERS)) if patterns else _label_by_stride(graph)
    members: dict[str, list[keras.Layer]] = {}
    for operation, label in zip(graph.operations, labels, strict=True):
        # A layer of its own in Keras, but no part of the network.
        outside = isinstance(operation, keras.layers.InputLayer) or operation.name == "preprocess"
        if isinstance(operation, keras.Layer) and not outside:
            members.setdefault(label, []).append(operation)
    return tuple(
        Block(name, tuple(layer.name for layer in layers)) for name, layers in _join_weightless(members).items()
    )


def select(blocks: Sequence[Block], unfreeze: str) -> tuple[int, ...]:
    """The indexes of the blocks that train.

    Args:
        blocks: Blocks from input to head.
        unfreeze: `none`, `head`, `last:N` (the last N blocks and the head), `from:BLOCK` (that block and all
            after it), `blocks:NAME,NAME` (these, in any order, and the head, which always has to follow what changes
            before it) or `all`. What `auto` comes to has to be measured first, see `recipes.parts.importance`.

    Returns:
        Ascending indexes into `blocks`.

    Raises:
        InputError: If `unfreeze` is none of these, or asks for a block that does not exist.

    Example:
        ```python
        select(blocks, "last:1")    # (17, 18) of 19 blocks, the last of which is the head
        ```
    """
    names = [block.name for block in blocks]
    head = len(blocks) - 1
    kind, _, value = unfreeze.partition(":")
    if unfreeze == "none":
        return ()
    if unfreeze == "head":
        return (head,)
    if unfreeze == "all":
        return tuple(range(len(blocks)))
    if unfreeze == "auto":
        raise InputError("What `auto` trains has to be measured first, on images; see `recipes.parts.importance`")
    if kind == "last" and value.isdecimal():
        if not 1 <= int(value) <= head:
            raise InputError(
                f"`last:N` takes N from 1 to {head}, the number of blocks before the head. Received: {unfreeze!r}"
            )
        return tuple(range(head - int(value), len(blocks)))
    if kind == "from" and value:
        if value not in names:
            raise unknown_name("block", value, names)
        return tuple(range(names.index(value), len(blocks)))
    if kind == "blocks" and value:
        for name in value.split(","):
            if name not in names:
                raise unknown_name("block", name, names)
        return tuple(sorted({*map(names.index, value.split(",")), head}))
    raise InputError(
        "`unfreeze` must be one of: none, head, last:N (such as last:3), from:BLOCK (such as "
        f"from:{names[head // 2]}), blocks:NAME,NAME, all. Received: {unfreeze!r}"
    )


def _label_by_name(graph: Graph, patterns: Sequence[tuple[str, str]]) -> list[str]:
    """The block of each operation, by names, and by place in the graph where the name says nothing."""
    labels: list[str] = []
    for segment in graph.segments():
        told = {index: label for index in segment if (label := _match(graph.operations[index].name, patterns))}
        if told:
            order = list(dict.fromkeys(told.values()))
            for index in reversed(segment):
                if index not in told:
                    readers = [told[reader] for reader in graph.consumers[index] if reader in segment]
                    told[index] = min(readers, key=order.index, default=order[-1])
            labels += [told[index] for index in segment]
        else:
            # As an activation after a residual sum, or, before any telling name, the convolutions of a stem.
            labels += [labels[-1] if labels else STEM] * len(segment)
    return labels


def _match(name: str, patterns: Sequence[tuple[str, str]]) -> str | None:
    for pattern, block in patterns:
        if match := re.fullmatch(pattern, name):
            return match.expand(block)
    return None


def _label_by_stride(graph: Graph) -> list[str]:
    """The block of each operation, by how much smaller than the input the output of its segment is."""
    labels: list[str] = []
    size = graph.operations[0].output.shape[1]
    stride = 1
    in_head = False
    for segment in graph.segments():
        last = graph.operations[segment[-1]]
        shape = last.output.shape
        in_head = in_head or len(shape) != 4 or _match(last.name, (_HEAD_LAYERS,)) is not None
        if not in_head:
            # Rounded: a convolution without padding takes off the border as well.
            stride *= 2 ** max(0, round(math.log2(size / shape[1])))
            size = shape[1]
        labels += [HEAD if in_head else f"stride_{stride}"] * len(segment)
    return labels


def _join_weightless(members: dict[str, list[keras.Layer]]) -> dict[str, list[keras.Layer]]:
    """Let a block without weights, in which nothing can train, join the one before it, or else after it."""
    joined: dict[str, list[keras.Layer]] = {}
    leading: list[keras.Layer] = []
    for name, layers in members.items():
        if any(layer.weights for layer in layers):
            joined[name] = leading + layers
            leading = []
        elif joined:
            joined[list(joined)[-1]] += layers
        else:
            leading += layers
    return joined
