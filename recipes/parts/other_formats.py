"""An export in other formats than a SavedModel: which files there are, and whether each answers as the model did."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table

from recipes.parts import ask_file, cost_tables, fresh_process
from recipes.parts.checked_export import ANSWERS, describe
from recipes.parts.display import Display
from recipes.parts.export_check import check, disorder, distance
from recipes.parts.export_images import ExportImages
from recipes.parts.failure import Failed
from recipes.parts.names import printable
from recipes.parts.ordered import usable_cores
from recipes.parts.runtime import native_stderr_held_back
from recipes.parts.serving_model import ServingModel
from zoo.errors import InputError

if TYPE_CHECKING:
    from recipes.parts.litert import Precision

Format = Literal["litert", "onnx"]

LIMITS: dict["Precision", float] = {"float32": 1e-4, "float16": 0.05, "int8": 1.0}
"""How far a score may be from that of the trained model. An int8 file is judged by its likeliest classes instead."""

OTHER_CLASS = 0.5
"""On which share of the images the likeliest class of an int8 file may be another than that of the trained model. One
that is merely worse is kept, with a warning; this is for one that is of no use, such as after wrong ranges."""

LOSS = 0.01
"""How much accuracy a file may lose without a warning."""

THREADS = (1, 2)
"""How many threads the time of one image is measured with."""


@dataclass(frozen=True, kw_only=True)
class OtherFormat:
    """A file beside the SavedModel."""

    format: Format
    precision: "Precision" = "float32"

    @property
    def ending(self) -> str:
        """What follows `NAME-VERSION` in its name."""
        suffix = {"litert": ".tflite", "onnx": ".onnx"}[self.format]
        return suffix if self.precision == "float32" else f"-{self.precision}{suffix}"

    @property
    def title(self) -> str:
        """What people call it."""
        return {"litert": f"LiteRT {self.precision}", "onnx": "ONNX"}[self.format]

    def write(self, served: ServingModel, path: Path, representative: np.ndarray) -> None:
        """Write the file; raises `InputError` if the format has nothing for a layer, which is named.

        Args:
            served: What is exported.
            path: The file.
            representative: Training images for int8, uint8 `(n, size, size, 3)`.
        """
        # Converters are imported by those who need them, as they use parts of TensorFlow that are not public.
        if self.format == "onnx":
            from recipes.parts.onnx_file import write_onnx

            write_onnx(served, path)
        else:
            from recipes.parts.litert import write_litert

            write_litert(served, path, precision=self.precision, representative=representative)


def wanted_formats(
    formats: Sequence[str], precisions: Sequence["Precision"], *, representative: int
) -> tuple[OtherFormat, ...]:
    """Which files to write.

    Args:
        formats: Those that were asked for, the SavedModel among them or not.
        precisions: Of LiteRT; none means all, or all but int8 where that cannot be.
        representative: How many training images there are.

    Raises:
        InputError: If int8 was asked for, and no training image can be found.
    """
    if not representative and "int8" in precisions:
        raise InputError(
            "int8 takes the ranges of its numbers from training images, of which none can be found: give their place "
            "with --data, or leave int8 out, with --precision float32 float16"
        )
    chosen = [each for each in LIMITS if each in precisions or not precisions]
    if not representative:
        chosen = [each for each in chosen if each != "int8"]
    litert = [OtherFormat(format="litert", precision=each) for each in chosen if "litert" in formats]
    return (*litert, *([OtherFormat(format="onnx")] if "onnx" in formats else []))


def write_checked(
    form: OtherFormat,
    served: ServingModel,
    path: Path,
    version: Path,
    pixels: np.ndarray,
    images: ExportImages,
    display: Display,
) -> dict[str, Any]:
    """Write a file, check it, and measure it on the test images.

    Args:
        form: What to write.
        served: What is exported.
        path: The file.
        version: The folder of the SavedModel, with what the trained model answered.
        pixels: The images of that, decoded.
        images: Training and test images.
        display: Where to show what is being done.

    Returns:
        For the model card: see `check_file`, and `accuracy`, None if there are no test images.

    Raises:
        InputError: If the format has nothing for a layer, which is named.
        Failed: If a check has not passed.
    """
    with display.working(f"writing {form.title}"):
        form.write(served, path, images.representative)
    with display.working(f"checking {form.title} in a fresh process"):
        described = check_file(path, form, version, pixels, threads=THREADS)
    accuracy = None
    if len(images.test):
        with display.working(f"testing {form.title}") as progress, native_stderr_held_back():
            ask = ask_file.open_file(str(path), threads=usable_cores())
            accuracy = measure_accuracy(ask, images.test, images.labels, progress)
    calibrated = {"representative_images": len(images.representative)} if form.precision == "int8" else {}
    return {**described, "accuracy": accuracy, **calibrated}


def check_file(
    path: Path, form: OtherFormat, version: Path, pixels: np.ndarray, *, threads: Sequence[int] = ()
) -> dict[str, Any]:
    """Compare a file with what the trained model answered, in a fresh process that has only the runtime of the format.

    Args:
        path: The file.
        form: What it is.
        version: The folder of the SavedModel, with what the trained model answered.
        pixels: The images of that, decoded, uint8 `(n, size, size, 3)`.
        threads: With how many to measure the time of one image.

    Returns:
        For the model card: `format`, `precision`, `ending`, `bytes`, `sha256`, `contract`, `checks` (all passed),
        `float_operators` and `milliseconds`, by the number of threads.

    Raises:
        Failed: If a check has not passed, or the process failed; one line.
    """
    with np.load(version / ANSWERS, allow_pickle=False) as stored:
        expected = {name: stored[name] for name in ("scores", "logits")}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "pixels.npy"), pixels)
        found = fresh_process.ask(
            ask_file.__file__,
            str(path.absolute()),
            folder,
            *map(str, threads),
            folder=folder,
            failed=f"{printable(path.name)} cannot be run",
        )
        with np.load(Path(folder, "answers.npz"), allow_pickle=False) as stored:
            answers = {name: stored[name] for name in stored.files}
    checks = _compare(found, answers, expected, LIMITS[form.precision], pixels.shape[1])
    for each in checks:
        if not each["passed"]:
            raise Failed(f"The {form.title} file failed the check '{each['name']}': {describe(each)}")
    content = path.read_bytes()
    return {
        "format": form.format,
        "precision": form.precision,
        "ending": form.ending,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "contract": found["contract"],
        "checks": checks,
        "float_operators": found["float"],
        "milliseconds": found["milliseconds"],
    }


def measure_accuracy(
    ask: Callable[[np.ndarray], ask_file.Answer],
    images: np.ndarray,
    labels: np.ndarray,
    progress: Callable[[int, int | None], None],
) -> float:
    """The fraction of images whose likeliest class is theirs.

    Args:
        ask: From `recipes.parts.ask_file.open_file`.
        images: uint8 `(n, size, size, 3)`.
        labels: Indices of their classes, `(n,)`.
        progress: Is told of every batch.
    """
    right = 0
    for start in range(0, len(images), ask_file.BATCH):
        logits = ask(np.ascontiguousarray(images[start : start + ask_file.BATCH]))["logits"]
        right += int(np.sum(np.argmax(logits, axis=1) == labels[start : start + ask_file.BATCH]))
        progress(min(start + ask_file.BATCH, len(images)), len(images))
    return right / len(images)


def format_rows(card: dict[str, Any]) -> list[list[str]]:
    """A table of a version's files, for people: a heading, the SavedModel, and every other file.

    Args:
        card: What `model_card.json` holds.
    """
    original = card["accuracy"]

    def known(value: float | None, pattern: str) -> str:
        return "" if value is None else format(value, pattern)

    heading = ["file", "MB", "test accuracy", *(f"ms, {each} thread{'s' * (each > 1)}" for each in THREADS)]
    blank = [""] * len(THREADS)
    rows = [["SavedModel", f"{card['bytes'] / 1e6:.1f}", known(original, ".4f"), *blank]]
    for other in card["other_formats"]:
        times = [known(other["milliseconds"].get(str(each)), ".2f") for each in THREADS]
        rows.append([other["file"], f"{other['bytes'] / 1e6:.1f}", known(other["accuracy"], ".4f"), *times])
    return [heading, *rows]


def formats_table(card: dict[str, Any]) -> Table:
    """The same as a table for a terminal."""
    heading, *rows = format_rows(card)
    made = cost_tables.table(*heading)
    for row in rows:
        cost_tables.add_row(made, row)
    return made


def warnings_on(card: dict[str, Any]) -> list[str]:
    """What must not be overlooked in other formats, a line each."""
    lines = []
    for other in card["other_formats"]:
        if other["accuracy"] is not None and card["accuracy"] - other["accuracy"] > LOSS:
            points = 100 * (card["accuracy"] - other["accuracy"])
            lines.append(
                f"{other['file']} LOSES {points:.1f} POINTS of test accuracy: {other['accuracy']:.4f}, and the trained "
                f"model {card['accuracy']:.4f}"
            )
        if other["precision"] == "int8" and other["accuracy"] is None:
            lines.append(f"how much accuracy {other['file']} loses is not known, as there are no test images")
        if other["precision"] == "int8" and set(other["float_operators"]) - {"SOFTMAX"}:
            lines.append(
                f"{other['file']} computes in float32 where LiteRT has no int8: {', '.join(other['float_operators'])}"
            )
    return lines


def other_class(logits: np.ndarray, expected: np.ndarray) -> float:
    """The share of images whose likeliest class is another than expected.

    Args:
        logits: `(n, classes)`.
        expected: The same of the trained model.
    """
    return float(np.mean(np.argmax(logits, axis=1) != np.argmax(expected, axis=1)))


def _compare(
    found: dict[str, Any], answers: ask_file.Answer, expected: ask_file.Answer, limit: float, size: int
) -> list[dict[str, Any]]:
    classes = expected["scores"].shape[1]
    promised = {"pixels": ["uint8", [None, size, size, 3]]}
    promised |= {name: ["float32", [None, classes]] for name in ("scores", "logits")}
    broken = sorted(
        name for name in promised.keys() | found["contract"].keys() if promised.get(name) != found["contract"].get(name)
    )
    checks = [
        check("operators", "operators that not every runtime of the format has", found["foreign"], []),
        check("contract", "inputs and outputs that are not as promised", broken, []),
    ]
    if broken:
        return checks
    scores = answers["scores together"]
    apart = distance(scores, expected["scores"])
    alone = distance(answers["scores alone"], scores)
    different = sum(int(np.sum(answers[f"{name} together"] != answers[f"{name} again"])) for name in expected)
    checks += [
        check("scores", "largest difference of a score", apart, limit),
        check("batch", "largest difference of a score between batches of 1 and more", alone, 1e-5),
        check("repeat", "values that differ between two equal calls", different, 0),
    ]
    if limit == LIMITS["int8"]:
        other = other_class(answers["logits together"], expected["logits"])
        checks.append(check("class", "share of images whose likeliest class is another", other, OTHER_CLASS))
    else:
        order = disorder(np.argsort(-scores, axis=1, kind="stable"), expected["scores"])
        checks.append(check("order", "largest gap between two scores in the wrong order", order, 2 * limit))
    if limit < LIMITS["float16"]:
        largest = max(1.0, float(np.abs(expected["logits"]).max()))
        what = "largest difference among logits, as a fraction of the largest or of 1"
        checks.append(check("logits", what, distance(answers["logits together"], expected["logits"]) / largest, limit))
    return checks
