"""Ask a LiteRT or ONNX file. As a script it runs in a process of its own, as in an application that has only the file.

    python -P ask_file.py FILE FOLDER [THREADS ...]

Neither TensorFlow nor any of our packages can be imported there. `FOLDER/pixels.npy` holds what to ask, uint8
`(n, size, size, 3)`; the answers are written to `FOLDER/answers.npz`. Prints a JSON object: the `contract`, see
`inspect`, the `operators` that the file consists of, those that are `foreign` to the format, and the `milliseconds`
that one image takes with each number of threads.
"""

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

REFUSED = ("custom_ops", "keras", "recipes", "tensorflow", "zoo")
BATCH = 32

Answer: TypeAlias = dict[str, np.ndarray]


def open_file(path: str, *, threads: int = 1) -> Callable[[np.ndarray], Answer]:
    """Load a file.

    Args:
        path: Ends in `.tflite` or `.onnx`.
        threads: How many compute one answer.

    Returns:
        From pixels, uint8 `(batch, size, size, 3)`, to `scores` and `logits`, float32 `(batch, classes)`.
    """
    if path.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=path, num_threads=threads)
        runner = interpreter.get_signature_runner("serving_default")
        # The runner does not keep the interpreter, which has to live as long.
        return lambda pixels, interpreter=interpreter: dict(runner(pixels=pixels))  # type: ignore[misc]  # a default
    session = _session(path, threads)
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def inspect(path: str) -> dict[str, Any]:
    """What stands in a file.

    Returns:
        `contract`: by name, dtype and shape of each input and output, where None stands for any number. `operators`:
        how many there are of each kind. `foreign`: kinds that not every runtime of the format has. `float`: kinds that
        compute in floating point.
    """
    return _inspect_litert(path) if path.endswith(".tflite") else _inspect_onnx(path)


def _inspect_litert(path: str) -> dict[str, Any]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    with open(path, "rb") as file:
        model = schema.ModelT.InitFromPackedBuf(file.read())
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    # Early files have one byte for the kind, too few for all kinds that there are now.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    operators: Counter[str] = Counter()
    foreign, floating = set(), set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = names[codes[operator.opcodeIndex]]
            operators[name] += 1
            if name == "CUSTOM":
                foreign.add(model.operatorCodes[operator.opcodeIndex].customCode.decode(errors="replace"))
            tensors = [graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
            if any(tensor.type == schema.TensorType.FLOAT32 for tensor in tensors):
                floating.add(name)
    runner = Interpreter(model_path=path).get_signature_runner("serving_default")
    details = {**runner.get_input_details(), **runner.get_output_details()}
    contract = {
        name: [np.dtype(each["dtype"]).name, [None if side < 0 else int(side) for side in each["shape_signature"]]]
        for name, each in details.items()
    }
    return {
        "contract": contract,
        "operators": dict(operators),
        "foreign": sorted(foreign),
        "float": sorted(floating - {"CAST", "DEQUANTIZE", "QUANTIZE"}),
    }


def _inspect_onnx(path: str) -> dict[str, Any]:
    import onnx

    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    contract = {}
    for tensor in (*model.graph.input, *model.graph.output):
        kind = tensor.type.tensor_type
        sides = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
        contract[tensor.name] = [onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, sides]
    return {
        "contract": contract,
        "operators": dict(Counter(node.op_type for node in model.graph.node)),
        "foreign": sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}),
        "float": [],
    }


def _session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def milliseconds(path: str, image: np.ndarray, *, threads: int) -> float:
    """The median time of an answer to one image, after a few that do not count; of 50, or as many as take 2 s.

    Args:
        path: The file.
        image: uint8 `(1, size, size, 3)`.
        threads: How many compute.
    """
    ask = open_file(path, threads=threads)
    for _ in range(5):
        ask(image)
    times: list[float] = []
    while len(times) < 5 or (len(times) < 50 and sum(times) < 2):
        began = time.perf_counter()
        ask(image)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def in_batches(ask: Callable[[np.ndarray], Answer], pixels: np.ndarray, size: int) -> Answer:
    """Answers to many images, asked `size` at a time."""
    parts = [ask(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def main() -> None:
    """Ask the file that the command line names."""
    # What stands as None among the modules cannot be imported, wherever it is installed.
    sys.modules.update(dict.fromkeys(REFUSED))  # type: ignore[arg-type]  # None is allowed, though not declared
    path, folder, *threads = sys.argv[1:]
    pixels = np.load(f"{folder}/pixels.npy", allow_pickle=False)
    found = inspect(path)
    ask = open_file(path)
    answers: dict[str, Any] = {
        f"{name} {kind}": values
        for kind, size in (("together", BATCH), ("again", BATCH), ("alone", 1))
        for name, values in in_batches(ask, pixels, size).items()
    }
    np.savez(f"{folder}/answers.npz", **answers)
    times = {each: milliseconds(path, pixels[:1], threads=int(each)) for each in threads}
    assert all(sys.modules[name] is None for name in REFUSED)
    print(json.dumps({**found, "milliseconds": times}))


if __name__ == "__main__":
    main()
