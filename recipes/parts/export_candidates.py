"""The same classifier in every form that can be served here, to see which is fast."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from recipes.parts import ask_file
from recipes.parts.extras import require
from recipes.parts.failure import Failed
from recipes.parts.finished_run import FinishedRun
from recipes.parts.litert import write_litert
from recipes.parts.onnx_file import write_onnx
from recipes.parts.serving_model import ServingModel
from zoo.errors import InputError

LIMIT = 1e-4
"""How far a logit may be from that of our SavedModel, as a fraction of the largest."""

OURS, STOCK = "zoo export", "model.export()"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One form of a classifier."""

    name: str
    prepare: Callable[[np.ndarray], Any]
    """From pixels, uint8 `(batch, size, size, 3)`, to what `ask` takes. Its time does not count."""
    ask: Callable[[Any], Any]
    """All outputs, as arrays. This is what takes the time."""
    logits: Callable[[Any], np.ndarray] = itemgetter("logits")
    """What of the outputs are the logits, `(batch, classes)` in the order of the run."""


@contextmanager
def candidates(
    finished: FinishedRun, *, threads: int, working: Callable[[str], Any]
) -> Iterator[tuple[list[Candidate], dict[str, str]]]:
    """Make every form of a classifier that can be made here.

    Args:
        finished: The classifier.
        threads: How many compute in those that do not run in TensorFlow.
        working: Makes a context for a job, from what it is called.

    Yields:
        The candidates, ours and the stock one first; and why others are missing, by name. Their files are gone at the
        end.
    """
    served = ServingModel(finished)
    makers: dict[str, Callable[[Path], Candidate]] = {
        OURS: lambda folder: _ours(served, folder),
        STOCK: lambda folder: _stock(finished, folder),
        "LiteRT": lambda folder: _litert(served, folder, threads),
        "ONNX Runtime": lambda folder: _onnx(served, folder, threads),
        "OpenVINO": lambda folder: _openvino(served, threads),
    }
    made: list[Candidate] = []
    missing: dict[str, str] = {}
    with TemporaryDirectory() as folder:
        for name, make in makers.items():
            with working(f"making {name}"):
                try:
                    made.append(make(Path(folder)))
                except InputError as error:  # not installed, or it has nothing for a layer
                    missing[name] = str(error)
        yield made, missing


def check_answers(made: list[Candidate], pixels: np.ndarray) -> float:
    """Make sure that all candidates answer the same.

    Args:
        made: Candidates, ours first.
        pixels: Images to ask, uint8 `(batch, size, size, 3)`.

    Returns:
        The largest difference of a logit to ours, as a fraction of the largest.

    Raises:
        Failed: If it is above `LIMIT`.
    """
    ours, *others = [each.logits(each.ask(each.prepare(pixels))) for each in made]
    largest = 0.0
    for each, logits in zip(made[1:], others, strict=True):
        difference = float(np.max(np.abs(logits - ours)) / np.max(np.abs(ours)))
        if not difference <= LIMIT:  # NaN is not above anything
            raise Failed(
                f"{each.name} answers otherwise: logits differ by {difference:.2g} of the largest, at most {LIMIT:g} "
                "is allowed"
            )
        largest = max(largest, difference)
    return largest


def _ours(served: ServingModel, folder: Path) -> Candidate:
    served.save(folder / "ours")
    return Candidate(
        name=OURS,
        prepare=lambda pixels: {"pixels": tf.constant(pixels)},
        ask=_signature(folder / "ours", "pixels"),
    )


def _stock(finished: FinishedRun, folder: Path) -> Candidate:
    finished.model.export(str(folder / "stock"), verbose=False)
    name = finished.model.inputs[0].name
    return Candidate(
        name=STOCK,
        prepare=lambda pixels: {name: tf.constant(pixels, tf.float32)},
        ask=_signature(folder / "stock", "serving_default"),
        logits=lambda answer: next(iter(answer.values())),
    )


def _signature(folder: Path, name: str) -> Callable[[dict[str, tf.Tensor]], dict[str, np.ndarray]]:
    loaded = tf.saved_model.load(str(folder))  # which the function keeps, as it holds the weights
    return lambda inputs: {key: value.numpy() for key, value in loaded.signatures[name](**inputs).items()}


def _litert(served: ServingModel, folder: Path, threads: int) -> Candidate:
    require("litert")
    write_litert(served, folder / "model.tflite", precision="float32")
    return _file("LiteRT", folder / "model.tflite", threads)


def _onnx(served: ServingModel, folder: Path, threads: int) -> Candidate:
    require("onnx")
    write_onnx(served, folder / "model.onnx")
    return _file("ONNX Runtime", folder / "model.onnx", threads)


def _file(name: str, path: Path, threads: int) -> Candidate:
    ask = ask_file.open_file(str(path), threads=threads)
    return Candidate(name=name, prepare=lambda pixels: pixels, ask=ask)


def _openvino(served: ServingModel, threads: int) -> Candidate:
    require("openvino")
    import openvino

    # Where a CPU has instructions for 16 bits OpenVINO would use them: scores were off by 0.07.
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.convert_model(served.network().get_concrete_function())
    compiled = openvino.Core().compile_model(network, "CPU", options)
    return Candidate(name="OpenVINO", prepare=lambda pixels: pixels, ask=compiled)
