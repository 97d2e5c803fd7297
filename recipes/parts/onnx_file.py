"""A trained classifier as an ONNX file, for ONNX Runtime and whatever else reads the format."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recipes.parts.names import printable
from recipes.parts.runtime import native_stderr_held_back
from recipes.parts.serving_model import ServingModel
from zoo.errors import InputError


def write_onnx(served: ServingModel, path: Path) -> None:
    """Write the network as an ONNX file of standard operators.

    Its inputs and outputs are those of `ServingModel.network`, and its metadata has the `classes` as a JSON list.

    Args:
        served: The model.
        path: The file to write.

    Raises:
        InputError: If ONNX has no operator for one of the layers, which is named.
    """
    import onnx
    import tf2onnx

    log = logging.getLogger("tf2onnx")
    level = log.level
    network = served.network()
    with native_stderr_held_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a converter that supports many versions of everything
        log.setLevel(logging.CRITICAL)
        try:
            proto, _ = tf2onnx.convert.from_function(
                network,
                input_signature=network.input_signature,
                custom_op_handlers={name: (handler, []) for name, handler in _HANDLERS.items()},
            )
        finally:
            log.setLevel(level)
    # What tf2onnx does not know it copies into the file, which is then no ONNX any more.
    for node in proto.graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            raise InputError(
                f"ONNX has no operator for {served.layer_at(node.name)} (op {printable(node.op_type)}). "
                "Nothing is exported"
            )
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, {"classes": json.dumps(served.classes)})
    onnx.save(proto, path)


def _one_minus_erf(graph: Any, node: Any, *_: object) -> None:
    erf = graph.make_node("Erf", node.input).output[0]
    _replace(graph, node, "Sub", [_one(graph, node), erf])


def _exp_minus_one(graph: Any, node: Any, *_: object) -> None:
    exp = graph.make_node("Exp", node.input).output[0]
    _replace(graph, node, "Sub", [exp, _one(graph, node)])


def _one(graph: Any, node: Any) -> str:
    return str(graph.make_const(f"{node.name}/one", np.ones((), np.float32)).output[0])


def _replace(graph: Any, node: Any, kind: str, inputs: list[str]) -> None:
    outputs = list(node.output)
    shapes, dtypes = [graph.get_shape(name) for name in outputs], [graph.get_dtype(name) for name in outputs]
    graph.remove_node(node.name)
    graph.make_node(kind, inputs, outputs=outputs, name=node.name, shapes=shapes, dtypes=dtypes)


# Of GELU, and of CELU: tf2onnx 1.17 knows neither.
_HANDLERS: dict[str, Callable[..., None]] = {"Erfc": _one_minus_erf, "Expm1": _exp_minus_one}
