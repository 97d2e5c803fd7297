"""How fast is an export, next to the usual one and to other runtimes?

    zoo benchmark-export runs/finetune-20260101T120000
    zoo benchmark-export --backbone MobileNetV2 --weights PATH/mobilenet_v2.weights.h5 --image-size 160

The same trained model is timed as our SavedModel (`pixels`, at the model's own size), as the SavedModel of Keras's own
`model.export()`, and with LiteRT, ONNX Runtime and OpenVINO where these are installed, all in float32, on the CPU and
with the same number of threads. First it is made sure that all give the same logits. Then they take turns, round by
round, and a ratio is the median of the rounds' ratios: a slow moment of the machine hits all alike. Converting images
to what each takes does not count; ours does the softmax, the order and the names of the classes besides.

Decoding and resizing JPEGs, which the `serving_default` of our SavedModel does on the server, are timed apart.

Measured, 2 threads on 2 CPU cores, 1,000 classes (second command, and --backbone efficientnet_lite0), images a second
at batch 1, 8 and 32:

                     MobileNetV2, 160 pixels    EfficientNet-Lite0, 224 pixels
    zoo export         74   215   249             64   122   128
    model.export()     65   153   170             53    88    90
    LiteRT            355   440   370            172   162   160
    ONNX Runtime      314   408   360            161   168   166
    OpenVINO          185   310   304             86   157   152

At batch 32 the ratio to `model.export()` is 1.43 and 1.47. Of a JPEG of 640 x 480 pixels (49 kB) decoding takes 0.8 ms
and resizing 1.0 and 1.3, where the networks take 4.2 and 7.4.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from recipes.parts import cost_tables, runtime
from recipes.parts.backbones import check_weights, find
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.failure import Failed
from recipes.parts.ordered import usable_cores
from zoo.errors import InputError

if TYPE_CHECKING:
    from recipes.parts.finished_run import FinishedRun

BATCH_SIZES = (1, 8, 32)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure, and how."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders: the last lines that `zoo finetune` or `zoo train` printed."""
    backbone: str | None = None
    """Instead of runs: a model of `zoo list` or of keras.applications, with a head that has not been trained."""
    weights: str = "imagenet"
    """For --backbone: `imagenet`, or a file of weights."""
    image_size: int | None = None
    """For --backbone: height and width of the images, pixels; by default what it was designed for."""
    num_classes: int = 1000
    """For --backbone."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if a model has any. May be given several times."""
    threads: int | None = None
    """How many threads compute; by default one a core."""
    seconds: float = 12.0
    """How long to measure with each batch size."""
    json: bool = False
    """Print a JSON list with an object for each model."""


def run(config: Config) -> list[dict[str, Any]]:
    """Measure.

    Args:
        config: What to measure, and how.

    Returns:
        For each model `model`, `image_size`, `classes`, `threads`, `difference` (the largest of a logit to ours),
        `batches` (by batch size and candidate, see `recipes.parts.serving_speed.measure_candidates`), `parts` (see
        `measure_parts` there), and `missing`: why candidates are not there, by name.

    Raises:
        InputError: If a run folder or a number is no good.
        Failed: If two candidates do not answer the same, or TensorFlow has run already in this process.
    """
    check(config)
    threads = config.threads or usable_cores()
    runtime.start(seed=0, deterministic=False)
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        raise Failed("TensorFlow has run already in this process, with its threads: measure in a new one") from None

    from recipes.parts.finished_run import load_run

    with Display(quiet=config.json) as display:
        if config.backbone is not None:
            return [measure(build(config, config.backbone), config, threads, display)]
        return [measure(load_run(each, plugins=config.plugin), config, threads, display) for each in config.runs]


def check(config: Config) -> None:
    """Refuse what makes no sense, before anything is loaded."""
    if bool(config.runs) == (config.backbone is not None):
        raise InputError("Give run folders, or a network with --backbone")
    for name in ("threads", "image_size", "num_classes", "seconds"):
        if (value := getattr(config, name)) is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} is above 0. Received: {value}")
    if config.backbone is not None:
        check_weights(find(config.backbone), config.weights)


def build(config: Config, name: str) -> "FinishedRun":
    """A backbone with a head of random weights, as if it had been trained."""
    from recipes.parts.classifier import build_classifier
    from recipes.parts.finished_run import FinishedRun

    size = config.image_size or find(name).default_size
    classifier = build_classifier(name, image_size=size, num_classes=config.num_classes, weights=config.weights)
    return FinishedRun(
        folder=Path(name),
        data="",
        image_size=size,
        resize="crop",
        classes=tuple(f"class {index}" for index in range(config.num_classes)),
        temperature=1.0,
        model=classifier.model,
    )


def measure(finished: "FinishedRun", config: Config, threads: int, display: Display) -> dict[str, Any]:
    """Measure one classifier; returns an object as `run` has them."""
    import numpy as np

    from recipes.parts.check_images import photo
    from recipes.parts.export_candidates import candidates, check_answers
    from recipes.parts.serving_speed import measure_candidates, measure_parts

    size = finished.image_size
    with (
        runtime.native_stderr_held_back(),
        candidates(finished, threads=threads, working=display.working) as (
            made,
            missing,
        ),
    ):
        difference = check_answers(made, np.stack([np.asarray(photo(size, size, seed)) for seed in range(8)]))
        batches = {}
        for batch_size in BATCH_SIZES:
            with display.working(f"taking times, batch size {batch_size}"):
                batches[batch_size] = measure_candidates(made, size=size, batch_size=batch_size, seconds=config.seconds)
        with display.working("taking times of the parts"):
            parts = measure_parts(finished, made[0], batch_size=BATCH_SIZES[-1], seconds=config.seconds)
    return {
        "model": finished.model.name,
        "image_size": size,
        "classes": len(finished.classes),
        "threads": threads,
        "difference": difference,
        "batches": batches,
        "parts": parts,
        "missing": missing,
    }


def show(found: dict[str, Any]) -> None:
    """Print what was measured of one model."""
    from recipes.parts.serving_speed import JPEG_HEIGHT, JPEG_QUALITY, JPEG_WIDTH

    one, *_, many = BATCH_SIZES
    batches, parts, size = found["batches"], found["parts"], found["image_size"]
    with Display() as display:
        display.say(f"{found['model']}, {size} pixels, {found['classes']} classes, {found['threads']} threads, float32")
        headings = (*(f"images/s\nbatch {each}" for each in BATCH_SIZES), f"ms\nbatch {one}", "in 80 % of\nthe rounds")
        made = cost_tables.table("", *headings, f"x stock\nbatch {many}")
        for name, alone in batches[one].items():
            cells = [f"{batches[each][name]['images_per_second']:.0f}" for each in BATCH_SIZES]
            cells += [f"{alone['milliseconds']:.2f}", f"{alone['fastest']:.2f} to {alone['slowest']:.2f}"]
            cost_tables.add_row(made, [name, *cells, f"{batches[many][name]['times_stock']:.2f}"])
        display.show(made)
        for name, why in found["missing"].items():
            display.say(f"{name}: {why}")
        display.say(f"All give the same logits, within {found['difference']:.1g} of the largest.")
        display.say(
            f"ms an image, in batches of {many}, of JPEGs of {JPEG_WIDTH} x {JPEG_HEIGHT} pixels in quality "
            f"{JPEG_QUALITY} ({parts['kilobytes']:.0f} kB): decode {parts['decode']['milliseconds']:.2f}, resize "
            f"{parts['resize']['milliseconds']:.2f}, both {parts['decode and resize']['milliseconds']:.2f}, network "
            f"{parts['network']['milliseconds']:.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(Config, args=arguments, prog="zoo benchmark-export", description=__doc__)
        found = run(config)
        if config.json:
            print(json.dumps(found, indent=1))
        else:
            for each in found:
                show(each)

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
