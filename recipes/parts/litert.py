"""A trained classifier as a LiteRT (formerly TensorFlow Lite) file, for phones, browsers and small boards.

Float32 and int8 are what they are called. With float16, weights are stored in half the space, and a CPU computes in
float32 with them.
"""

import re
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.convert_phase import ConverterError

from recipes.parts.names import printable
from recipes.parts.runtime import native_stderr_held_back
from recipes.parts.serving_model import ServingModel
from zoo.errors import InputError
from zoo.registry import unknown_name

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def write_litert(
    served: ServingModel, path: Path, *, precision: Precision, representative: np.ndarray | None = None
) -> None:
    """Write the network as a LiteRT file of builtin ops.

    It has one signature, `serving_default`, with the inputs and outputs of `ServingModel.network`. With int8 all layers
    compute in int8, in ranges taken from `representative`, and the softmax alone in float32, as scores in steps of
    1/256 would be no probabilities any more.

    Args:
        served: The model.
        path: The file to write.
        precision: `float32`, `float16` or `int8`.
        representative: For `int8`: images as in training, uint8 `(n, size, size, 3)`; some hundred.

    Raises:
        InputError: If LiteRT has no op for one of the layers, which is named.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    converter = _converter(served)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        if representative is None or not len(representative):
            raise InputError("int8 needs images to take the ranges of activations from. Received: none")
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in representative)
        # In two steps, as tf.lite.experimental.QuantizationDebugger does it, to leave out the softmax.
        converter._experimental_calibrate_only = True
    with native_stderr_held_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tf.lite, which calls its own deprecated parts
        try:
            content: bytes = converter.convert()
        except ConverterError as error:
            raise InputError(_unsupported(error, served)) from None
        except RuntimeError as error:  # of the calibration, which runs the model
            if precision != "int8":
                raise
            raise InputError(_not_run(error, served)) from None
        if precision == "int8":
            content = mlir_quantize(content, denylisted_ops=["SOFTMAX"])
    path.write_bytes(content)


def _converter(served: ServingModel) -> Any:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([served.network().get_concrete_function()], served)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _not_run(error: RuntimeError, served: ServingModel) -> str:
    """One line on what could not be run in float32 in order to see the ranges of activations."""
    where = printable(" ".join(str(error).split()))
    node = re.search(r"Node number [0-9]+ \(([A-Z0-9_]+)\)", where)
    if node:
        model = schema.ModelT.InitFromPackedBuf(_converter(served).convert())
        graph, code = model.subgraphs[0], getattr(schema.BuiltinOperator, node[1], None)
        of_kind = [each for each in graph.operators if model.operatorCodes[each.opcodeIndex].builtinCode == code]
        if of_kind:
            place = graph.tensors[of_kind[0].outputs[0]].name.decode().split(";")[0]
            where = f"{served.layer_at(place)} (op {node[1]})"
    return (
        f"LiteRT cannot take ranges for int8 from {where}. Nothing is exported; leave int8 out, with "
        "--precision float32 float16"
    )


def _unsupported(error: ConverterError, served: ServingModel) -> str:
    """One line on what could not be converted."""
    for each in error.errors:
        if each.operator.name:
            place = next((call.name for call in each.location.call if call.name), "").split("@")[0]
            op = each.operator.name.removeprefix("tf.")
            return f"LiteRT has no builtin op for {served.layer_at(place)} (op {printable(op)}). Nothing is exported"
    reason = next(iter(str(error).splitlines()), "")
    return f"LiteRT cannot hold this model: {printable(reason)}. Nothing is exported"
