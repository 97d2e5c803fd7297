"""Which layer of a network of `keras.applications` is which layer of ours."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from zoo.spec import ModelSpec
from zoo.weights.keras_file import StoredLayers

Names: TypeAlias = Iterator[tuple[str, str]]

_DENSE_AS_CONVOLUTION = "conv_preds"  # MobileNetV1's classifier


def layers_from_keras(stored: StoredLayers, spec: ModelSpec) -> Mapping[str, list[Any]]:
    """Give the layers of a file of `keras.applications` our names.

    By their names, or where those are not the ones of today by their order: some of the published files are
    older than the names in the code, and Keras too goes by order there. A file that has our names already is
    left as it is, and so is a layer that belongs to none of ours; whoever compares the result with the model
    finds it.

    Args:
        stored: The layers of the file.
        spec: The model whose layers they are for.

    Returns:
        For each layer its arrays, in the order of the layer's weights.
    """
    if spec.family not in _FAMILIES or any(name.startswith(("stem_", "stage")) for name in stored):
        return stored
    names = dict(_FAMILIES[spec.family](spec))
    if stored.in_order and not any(name in stored for name, ours in names.items() if not ours.startswith("head_")):
        ours = dict(zip(stored, names.values(), strict=False))
    else:
        ours = names
    return {
        ours.get(name, name): _as_dense(arrays) if ours.get(name) == "head_logits" else arrays
        for name, arrays in stored.items()
    }


class _DenseKernel:
    """The kernel of a 1 x 1 convolution `(1, 1, features, classes)` as that of a dense layer; read when needed."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.shape = kernel.shape[2:]
        self.dtype = kernel.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._kernel, dtype).reshape(self.shape)


def _as_dense(arrays: list[Any]) -> list[Any]:
    return [_DenseKernel(array) if array.shape[:2] == (1, 1) and len(array.shape) == 4 else array for array in arrays]


def _vgg(spec: ModelSpec) -> Names:
    for stage_number, stage in enumerate(spec.stages, start=1):
        for number in range(1, stage.depth + 1):
            yield f"block{stage_number}_conv{number}", f"stage{stage_number}_block{number}_conv"
    for number, _ in enumerate(spec.head.hidden, start=1):
        yield f"fc{number}", f"head_dense{number}"
    yield "predictions", "head_logits"


def _mobilenet_v1(spec: ModelSpec) -> Names:
    yield "conv1", "stem_conv"
    yield "conv1_bn", "stem_norm"
    for number, block in enumerate(_blocks(spec), start=1):
        for theirs, ours in (("dw", "depthwise"), ("pw", "pointwise")):
            yield f"conv_{theirs}_{number}", f"{block}_{ours}_conv"
            yield f"conv_{theirs}_{number}_bn", f"{block}_{ours}_norm"
    yield "conv_preds", "head_logits"


def _mobilenet_v2(spec: ModelSpec) -> Names:
    yield "Conv1", "stem_conv"
    yield "bn_Conv1", "stem_norm"
    for number, block in enumerate(_blocks(spec)):
        prefix = f"block_{number}" if number else "expanded_conv"
        for part in ("expand", "depthwise", "project") if number else ("depthwise", "project"):
            yield f"{prefix}_{part}", f"{block}_{part}_conv"
            yield f"{prefix}_{part}_BN", f"{block}_{part}_norm"
    yield "Conv_1", "head_conv"
    yield "Conv_1_bn", "head_norm"
    yield "predictions", "head_logits"


def _blocks(spec: ModelSpec) -> Iterator[str]:
    for stage_number, stage in enumerate(spec.stages, start=1):
        for number in range(1, stage.depth + 1):
            yield f"stage{stage_number}_block{number}"


_FAMILIES: dict[str, Callable[[ModelSpec], Names]] = {
    "vgg": _vgg,
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
}
