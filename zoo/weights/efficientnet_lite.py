"""Which tensor of a torch checkpoint of EfficientNet-Lite belongs to which layer of ours.

The checkpoints number all blocks through (`_blocks.0` to `_blocks.15`), number the batch normalizations by
their place in the block, and store convolutions as (out, in, height, width) where Keras has (height, width,
in, out).
"""

from collections.abc import Iterator, Mapping

import numpy as np

from zoo.spec import ModelSpec

# Per kind of layer, in the order of the layer's weights in Keras: the tensor, and the order of its axes.
_CONV = (("weight", (2, 3, 1, 0)),)
_DEPTHWISE = (("weight", (2, 3, 0, 1)),)
_NORM = (("weight", (0,)), ("bias", (0,)), ("running_mean", (0,)), ("running_var", (0,)))
_DENSE = (("weight", (1, 0)), ("bias", (0,)))


def layers_from_torch(tensors: Mapping[str, np.ndarray], spec: ModelSpec) -> dict[str, list[np.ndarray]]:
    """Sort the tensors of a checkpoint by layer.

    Nothing is checked here: a tensor that is missing is left out, one that belongs to no layer keeps its own
    name, and one with another number of axes keeps their order. Whoever compares the result with the model
    finds all three.

    Args:
        tensors: The tensors of the checkpoint by name.
        spec: The model whose layers they are for.

    Returns:
        For each layer its arrays, in the order of the layer's weights in Keras.
    """
    # How many batches were seen in training is torch's own bookkeeping.
    remaining = {name: array for name, array in tensors.items() if not name.endswith(".num_batches_tracked")}
    layers: dict[str, list[np.ndarray]] = {}
    for layer, prefix, parts in _layers(spec):
        for part, axes in parts:
            array = remaining.pop(f"{prefix}.{part}", None)
            if array is not None:
                ordered = array.transpose(axes) if array.ndim == len(axes) else array
                layers.setdefault(layer, []).append(ordered)
    return layers | {name: [array] for name, array in remaining.items()}


def _layers(spec: ModelSpec) -> Iterator[tuple[str, str, tuple[tuple[str, tuple[int, ...]], ...]]]:
    """Yield our layer, the checkpoint's prefix and the kind of layer, in the order of the network."""
    yield "stem_conv", "_conv_stem", _CONV
    yield "stem_norm", "_bn0", _NORM
    number = 0
    for stage_number, stage in enumerate(spec.stages, start=1):
        for block_number in range(1, stage.depth + 1):
            ours, theirs = f"stage{stage_number}_block{block_number}", f"_blocks.{number}"
            if dict(stage.arguments).get("expansion") != 1:
                yield f"{ours}_expand_conv", f"{theirs}._expand_conv", _CONV
                yield f"{ours}_expand_norm", f"{theirs}._bn0", _NORM
            yield f"{ours}_depthwise_conv", f"{theirs}._depthwise_conv", _DEPTHWISE
            yield f"{ours}_depthwise_norm", f"{theirs}._bn1", _NORM
            yield f"{ours}_project_conv", f"{theirs}._project_conv", _CONV
            yield f"{ours}_project_norm", f"{theirs}._bn2", _NORM
            number += 1
    yield "head_conv", "_conv_head", _CONV
    yield "head_norm", "_bn1", _NORM
    yield "head_logits", "_fc", _DENSE
