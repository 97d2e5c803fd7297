"""Does a SavedModel answer what the trained model answered? Runs in a process of its own, as on a server.

    python -P export_check.py FOLDER

None of our packages nor Keras can be imported there. Beside the SavedModel, `FOLDER/assets.extra/check.npz` holds what
to ask and what the trained model said: see `recipes.parts.checked_export`. Prints a JSON list of checks, each with
`name`, `what` was measured, what was `found`, and the `limit` up to which it has `passed`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

REFUSED = frozenset({"custom_ops", "keras", "recipes", "zoo"})

OPS = frozenset(
    op
    for ops in (
        # inputs, constants, weights and their checkpoint
        "AssignVariableOp Const DisableCopyOnRead EnsureShape Identity IdentityN MergeV2Checkpoints NoOp "
        "Placeholder ReadVariableOp RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StopGradient "
        "StringJoin VarHandleOp",
        # functions, branches and loops
        "PartitionedCall StatefulPartitionedCall StatelessIf StatelessWhile TensorListFromTensor "
        "TensorListGetItem TensorListReserve TensorListSetItem TensorListStack",
        # from a file to pixels
        "DecodeImage DecodePaddedRaw ScaleAndTranslate Substr",
        # shapes, slices and order
        "BroadcastTo ConcatV2 ExpandDims Fill GatherV2 Pack Pad PadV2 Range Reshape ReverseV2 Shape Slice "
        "Split SplitV Squeeze StridedSlice Tile TopKV2 Transpose Unpack",
        # arithmetic
        "Abs AddN AddV2 BitwiseAnd Cast ClipByValue Cos Exp Expm1 Floor FloorDiv FloorMod Log Log1p Maximum "
        "Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Round Rsqrt Sign Sin Sqrt Square SquaredDifference "
        "Sub TruncateDiv",
        # comparison and choice
        "Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd LogicalNot LogicalOr "
        "NotEqual Select SelectV2",
        # sums and other reductions
        "All Any ArgMax Cumsum Max Mean Min Prod Sum",
        # activations
        "Elu Erf Erfc LeakyRelu LogSoftmax Relu Relu6 Selu Sigmoid Softmax Softplus Softsign Tanh",
        # layers
        "AvgPool BatchMatMulV2 BatchToSpaceND BiasAdd Conv2D Conv2DBackpropInput DepthToSpace "
        "DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter Einsum FusedBatchNormV3 MatMul MaxPool "
        "ResizeBilinear ResizeNearestNeighbor SpaceToBatchND SpaceToDepth",
    )
    for op in ops.split()
)
"""What an exported graph may consist of. None is random, none calls Python, and a server has them all."""

BATCH = 32


def measure(folder: str) -> Iterator[dict[str, Any]]:
    """Every check, those of the graph before it runs.

    Args:
        folder: Of the SavedModel.

    Yields:
        A dict as described above; none after the first of the graph that fails.
    """
    unknown, compiled = foreign_ops(f"{folder}/saved_model.pb")
    graph = (
        check("ops", "ops that are not allowed", unknown, []),
        check("xla", "functions that only XLA can run", compiled, []),
    )
    yield from graph
    if not all(each["passed"] for each in graph):
        return

    import tensorflow as tf

    loaded = tf.saved_model.load(folder)  # kept, as it holds the weights
    with np.load(f"{folder}/assets.extra/check.npz", allow_pickle=False) as stored:
        asked = {name: stored[name] for name in stored.files}
    encoded = split_images(asked["encoded"], asked["lengths"])
    names = json.loads(asked["classes"].tobytes())
    signatures = {name: in_numpy(loaded.signatures[name]) for name in ("serving_default", "pixels", "features")}

    def ask(size: int) -> dict[str, np.ndarray]:
        starts = range(0, len(encoded), size)
        parts = [signatures["serving_default"](image_bytes=tf.constant(encoded[at : at + size])) for at in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    answer, again, alone = ask(BATCH), ask(BATCH), ask(1)
    wrong = sum(sorted(row) != sorted(names) for row in decoded(answer["classes"]))
    yield (named := check("classes", "answers that do not name every class once", wrong, 0))
    if not named["passed"]:
        return
    scores = by_class(answer, names)
    expected = asked["scores"]
    yield check(
        "sorted",
        "largest rise of a score within an answer",
        np.max(np.diff(answer["scores"], axis=1), initial=0.0),
        0.0,
    )
    yield check("scores", "largest difference of a score", distance(scores, expected), 1e-4)
    yield check(
        "order", "largest gap between two scores in the wrong order", disorder(places(answer, names), expected), 2e-4
    )
    different = sum(int(np.sum(answer[name] != again[name])) for name in answer)
    one_by_one = distance(by_class(alone, names), scores)
    yield check("batch", "largest difference of a score between batches of 1 and more", one_by_one, 1e-5)

    found: dict[str, list[float]] = {"scores": [], "logits": [], "features": []}
    for rows, pixels in of_equal_size(encoded, tf):
        first, second = ({**signatures["pixels"](pixels=pixels), **signatures["features"](pixels=pixels)} for _ in "12")
        different += sum(int(np.sum(first[name] != second[name])) for name in first)
        found["scores"].append(distance(by_class(first, names), expected[rows]))
        for name in ("logits", "features"):
            found[name].append(distance(first[name], asked[name][rows]))
    yield check("pixels", "largest difference of a score, asked with pixels", np.max(found["scores"]), 1e-4)
    for name in ("logits", "features"):
        largest = max(1.0, np.abs(asked[name]).max())
        what = f"largest difference among {name}, as a fraction of the largest or of 1"
        yield check(name, what, np.max(found[name]) / largest, 1e-4)
    yield check("repeat", "values that differ between two equal calls", different, 0)


def check(name: str, what: str, found: Any, limit: Any) -> dict[str, Any]:
    """One result: a list passes if it is empty, as its limit is, and a number if it is not above its limit."""
    if isinstance(found, np.generic):
        found = found.item()
    # NaN is not above anything, and not below it either.
    passed = found == limit if isinstance(limit, list) else found <= limit
    return {"name": name, "what": what, "found": found, "limit": limit, "passed": passed}


def split_images(encoded: np.ndarray, lengths: np.ndarray) -> list[bytes]:
    """Encoded images that stand one behind the other, one by one; `lengths` are theirs, in bytes."""
    return [image.tobytes() for image in np.split(encoded, np.cumsum(lengths)[:-1])]


def foreign_ops(path: str) -> tuple[list[str], list[str]]:
    """The ops of a SavedModel that are not in `OPS`, and what in it is compiled with XLA.

    Args:
        path: Of `saved_model.pb`.

    Returns:
        Two sorted lists of names.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    unknown, compiled = set(), set()
    for meta in saved.meta_graphs:
        functions = meta.graph_def.library.function
        own = {function.signature.name for function in functions}
        for nodes in (meta.graph_def.node, *(function.node_def for function in functions)):
            unknown |= {node.op for node in nodes} - OPS - own
            compiled |= {node.name for node in nodes if node.attr["_XlaMustCompile"].b}
        compiled |= {each.signature.name for each in functions if each.attr["_XlaMustCompile"].b}
    return sorted(unknown), sorted(compiled)


def in_numpy(signature: Callable[..., Any]) -> Callable[..., dict[str, np.ndarray]]:
    """A signature that answers with arrays."""
    return lambda **inputs: {name: value.numpy() for name, value in signature(**inputs).items()}


def of_equal_size(encoded: list[bytes], tf: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of pixels, as a client may decode them itself: of the JPEGs and PNGs, those of the same size together.

    Args:
        encoded: Images.
        tf: TensorFlow.

    Yields:
        The indexes of some images, and their pixels, uint8 `(batch, height, width, 3)`.
    """
    batches: dict[tuple[int, ...], list[int]] = {}
    pixels = {}
    for index, image in enumerate(encoded):
        if image.startswith((b"\xff\xd8", b"\x89PNG")):
            pixels[index] = tf.io.decode_image(image, channels=3).numpy()
            batches.setdefault(pixels[index].shape, []).append(index)
    for rows in batches.values():
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            yield batch, np.stack([pixels[index] for index in batch])


def decoded(classes: np.ndarray) -> list[list[str]]:
    """The names of an answer as text."""
    return [[name.decode("utf-8") for name in row] for row in classes]


def places(answer: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """For every place in an answer, the index of the class that stands there, `(batch, classes)`."""
    index = {name: index for index, name in enumerate(names)}
    return np.array([[index[name] for name in row] for row in decoded(answer["classes"])])


def by_class(answer: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """The scores of an answer in the order of the classes, `(batch, classes)`."""
    scores = np.empty_like(answer["scores"])
    np.put_along_axis(scores, places(answer, names), answer["scores"], axis=1)
    return scores


def distance(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """The largest difference."""
    return float(np.max(np.abs(first.astype(np.float64) - second)))


def disorder(placed: np.ndarray, expected: np.ndarray) -> float:
    """By how much, at most, a class is expected to be above one that is placed before it.

    Args:
        placed: See `places`.
        expected: Scores by class, `(batch, classes)`.
    """
    scores = np.take_along_axis(expected, placed, axis=1)
    return float(np.max(scores - np.minimum.accumulate(scores, axis=1)))


def main() -> None:
    """Check the SavedModel in the folder that the command line names."""
    # What stands as None among the modules cannot be imported, wherever it is installed.
    sys.modules.update(dict.fromkeys(REFUSED))  # type: ignore[arg-type]  # None is allowed, though not declared
    checks = list(measure(sys.argv[1]))
    assert all(sys.modules[name] is None for name in REFUSED)
    print(json.dumps(checks))


if __name__ == "__main__":
    main()
