"""What does a finished run look at in an image?

    zoo visualize runs/finetune-20260101T120000 --image photo.jpg
    zoo visualize RUN --image photo.jpg --class-name cat               # what would speak for another class
    zoo visualize RUN --image photo.jpg --layer stage3_block2_norm     # Grad-CAM on another feature map

Draws one figure: the image as the network takes it, Grad-CAM of the predicted class on it, the scores, the kernels of
the first convolution, and feature maps wherever they become smaller, before and after. By default it goes into the run
folder, as `visualize-photo.png`, and never in the place of another file. The last line printed is its path.

Works from the run folder alone: the image is decoded and resized as in training, and scores carry the run's
calibration.

Grad-CAM shows where the network found what speaks for a class, as coarsely as the feature map it is made of. That is
the last one before the pooling of the head; a layer before it is finer, and says less of the class.

Measured: 8 s on 2 CPU cores for EfficientNet-Lite0 at 224 pixels, start of TensorFlow included (three runs).
"""

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.names import printable
from zoo.errors import InputError
from zoo.registry import unknown_name

if TYPE_CHECKING:
    from zoo.graph import Call

TOP = 5
"""How many classes to show."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to look at, with what."""

    run: tyro.conf.Positional[Path]
    """A run folder: the last line that `zoo finetune` or `zoo train` printed."""
    image: Path
    """An image file: JPEG, PNG, BMP, GIF or WebP."""
    class_name: str | None = None
    """The class whose evidence Grad-CAM shows; the predicted one by default."""
    layer: str | None = None
    """The layer whose feature map Grad-CAM weighs; by default the last one before the pooling of the head."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if the model has any. May be given several times."""
    out: Path | None = None
    """Where to put the figure: a .png file that does not exist yet. By default RUN/visualize-<name of the image>.png,
    with a number added if there is one already."""


def run(config: Config) -> Path:
    """Draw what a run looks at in an image.

    Args:
        config: What to look at, with what.

    Returns:
        The path of the figure.

    Raises:
        InputError: If the run folder or the image is no good, there is no such class or layer, or the figure's
            place is taken.
    """
    path = figure_path(config)
    runtime.start(seed=0, deterministic=False)

    import numpy as np

    from recipes.parts.feature_maps import (
        compute,
        feature_map_calls,
        find_feature_map,
        find_reductions,
        last_feature_map,
    )
    from recipes.parts.finished_run import load_run
    from recipes.parts.first_kernels import first_kernels
    from recipes.parts.grad_cam import enlarge, grad_cam
    from recipes.parts.image_file import load_image
    from recipes.parts.metrics import log_softmax
    from recipes.parts.visualization_figure import Evidence, draw_visualization
    from zoo.graph import Graph

    finished = load_run(config.run, plugins=config.plugin)
    if config.class_name is not None and config.class_name not in finished.classes:
        raise unknown_name("class", printable(config.class_name), map(printable, finished.classes))
    graph = Graph(finished.model)
    explained = last_feature_map(graph) if config.layer is None else find_feature_map(graph, config.layer)
    with runtime.native_stderr_held_back():
        image = load_image(config.image, size=finished.image_size, resize=finished.resize).numpy()
    pixels = image.astype(np.float32)

    reductions = find_reductions(graph)
    tensors = [tensor for reduction in reductions for tensor in (reduction.before, reduction.after)]
    logits, *maps = (values[0] for values in compute(graph, [*graph.model.outputs, *tensors], pixels[np.newaxis]))
    if not np.isfinite(logits).all():
        raise InputError(f"The model of {printable(str(config.run))} answers with what is no number: {logits}")
    scores = np.exp(log_softmax(logits / finished.temperature))
    shown = [int(index) for index in np.argsort(-scores, kind="stable")[:TOP]]
    chosen = shown[0] if config.class_name is None else finished.classes.index(config.class_name)
    shown += [] if chosen in shown else [chosen]

    evidence = None
    if explained is not None:
        heat = grad_cam(graph.model, explained.outputs[0], pixels, chosen)
        evidence = Evidence(
            class_name=finished.classes[chosen],
            layer=explained.name,
            positions=heat.shape,
            heat=enlarge(heat, image.shape[:2]),
        )
    draw_visualization(
        path,
        title=f"{finished.model.name} on {config.image.name}",
        image=image,
        scores=[(finished.classes[index], float(scores[index])) for index in shown],
        evidence=evidence,
        kernels=first_kernels(graph),
        reductions=list(zip(reductions, maps[::2], maps[1::2], strict=True)),
    )

    with Display() as display:
        for index in shown:
            display.say(f"  {scores[index]:.3f}  {printable(finished.classes[index])}")
        if explained is not None:
            display.say(f"  Grad-CAM of {printable(finished.classes[chosen])} from {positions(explained)}")
        sources = {reduction.source for reduction in reductions[-1:]}
        finer = [call for call in feature_map_calls(graph) if call.name in sources]
        if finer and config.layer is None:
            display.say(f"  finer: --layer {positions(finer[-1])}")
    return path


def positions(call: "Call") -> str:
    """The name of a layer, and how many positions its feature map has."""
    height, width = call.outputs[0].shape[1:3]
    return f"{printable(call.name)} ({height} × {width} positions)"


def figure_path(config: Config) -> Path:
    """Where the figure goes, which is no file yet.

    Raises:
        InputError: If `out` is a file that exists, or no place for a PNG.
    """
    if config.out is not None:
        if config.out.suffix.lower() != ".png" or not config.out.parent.is_dir():
            raise InputError(
                f"--out is the path of a .png file in a folder that exists. Received: {printable(str(config.out))}"
            )
        if os.path.lexists(config.out):
            raise InputError(f"{printable(str(config.out))} exists already. Choose another name with --out")
        return config.out
    # The image may have any name, also one that is too long with more before and after it.
    stem = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in config.image.stem)[:50]
    names = (f"visualize-{stem}{'' if number == 1 else f'-{number}'}.png" for number in itertools.count(1))
    return next(config.run / name for name in names if not os.path.lexists(config.run / name))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(printable(str(run(tyro.cli(Config, args=arguments, prog="zoo visualize", description=__doc__)))))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
