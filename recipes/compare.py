"""Which network, which kind of layer and which depth costs what?

    zoo compare efficientnet_lite0 MobileNetV2 VGG16
    zoo compare efficientnet_lite0 MobileNetV2 --image-size 96 --num-classes 10
    zoo compare --layers --height 14 --channels 32 --filters 64 --kernel-size 3
    zoo compare vgg_small separable_vgg_small --depths 1 2 3 4 --figure depths.png
    zoo compare vgg_small mine.json --plugin my_blocks.py

Networks are those of `zoo list` and of keras.applications, and specs of your own in JSON files, side by side; parts
that these name, or models that you register, come from a Python file (`zoo/README.md` has an example). With --depths,
each is built with so many blocks in every stage, and a figure shows parameters, multiply-adds and receptive field
against depth. With --layers, kinds of layer are compared on the same input, by formula and by the time they take here.

Multiply-adds are those of convolutions and dense layers, for one image; memory is that of all outputs as float32. The
receptive field, in pixels, is that of the last feature map; `all` is the whole image.

Measured with `zoo compare --layers` on 2 CPU cores, three runs: separable convolution needs 0.127 of the multiply-adds
of a convolution, and 0.47 to 0.52 of its time; a dense layer 22 times as many, and 15 to 16 times the time.
"""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from recipes.parts import cost_tables, layer_kinds, runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.networks import check_network, describe_network, known_weights, spec_of
from zoo.errors import InputError
from zoo.plugins import load_plugin

SECONDS = 4.0
"""How long to take the time of layers."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to compare, and how to show it."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """Models of `zoo list`, or of keras.applications, such as MobileNetV2; or paths of specs, NAME.json."""
    image_size: int | None = None
    """Height and width of the images, pixels; by default what each network was designed for."""
    num_classes: int = 1000
    """Outputs of the classifier."""
    depths: tuple[int, ...] = ()
    """Build each model, of the zoo, with so many blocks in every stage: --depths 1 2 3."""
    figure: Path = Path("depths.png")
    """Where to put the figure of --depths."""
    layers: bool = False
    """Compare kinds of layer, on an input of `height x width x channels` and with an output of `filters` channels."""
    height: int = 14
    """For --layers."""
    width: int = 14
    """For --layers."""
    channels: int = 32
    """For --layers: channels of the input."""
    filters: int = 64
    """For --layers: channels of the output."""
    kernel_size: int = 3
    """For --layers: height and width of a window."""
    batch_size: int = 32
    """For --layers: images that go through at once while the time is taken."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers blocks, pools, stems, heads or models of your own. May be given several times."""
    json: bool = False
    """Print a JSON list of objects."""


def run(config: Config) -> list[dict[str, Any]]:
    """Compare networks, depths or layers.

    Args:
        config: What to compare.

    Returns:
        A dict of names and numbers for each: see `compare_models`, `compare_depths` and `compare_layers`.

    Raises:
        InputError: If a name is unknown, a number out of range, or a plugin fails.
    """
    if config.layers:
        if config.models or config.depths or config.plugin:
            raise InputError("--layers compares kinds of layer. Leave out models, --depths and --plugin")
        return compare_layers(config)
    if not config.models:
        raise InputError("Give the models to compare, as in: zoo compare efficientnet_lite0 MobileNetV2; or --layers")
    if config.plugin:
        runtime.start(seed=0, deterministic=False)  # plugins import Keras
        for file in config.plugin:
            load_plugin(file)
    for name in config.models:
        check_network(name, image_size=config.image_size, num_classes=config.num_classes)
    return compare_depths(config) if config.depths else compare_models(config)


def compare_models(config: Config) -> list[dict[str, Any]]:
    """What each network costs, in a dict with the names of `row`."""
    runtime.start(seed=0, deterministic=False)
    with Display(quiet=config.json) as display, display.working("building models") as progress:
        rows = []
        for place, name in enumerate(config.models):
            progress(place, len(config.models))
            rows.append(row(name, None, config))
    return rows


def compare_depths(config: Config) -> list[dict[str, Any]]:
    """What each network costs at each depth, in a dict with the names of `row`; also as a figure."""
    if min(config.depths) < 1:
        raise InputError(f"--depths are 1 or more. Received: {' '.join(map(str, config.depths))}")
    for name in config.models:
        if spec_of(name) is None:
            raise InputError(f"The depth of {name} cannot be changed: that takes models of the zoo, see `zoo list`")
    if config.figure.suffix.lower() != ".png" or not config.figure.parent.is_dir():
        raise InputError(f"--figure is the path of a .png file in a folder that exists. Received: {config.figure}")
    runtime.start(seed=0, deterministic=False)
    from recipes.parts.depth_figure import draw_depths

    cases = [(name, depth) for name in dict.fromkeys(config.models) for depth in sorted(set(config.depths))]
    with Display(quiet=config.json) as display, display.working("building models") as progress:
        rows = []
        for place, (name, depth) in enumerate(cases):
            progress(place, len(cases))
            rows.append(row(name, depth, config))
    draw_depths(config.figure, rows)
    return rows


def row(name: str, depth: int | None, config: Config) -> dict[str, Any]:
    """What one network costs.

    Args:
        name: Of the network.
        depth: Blocks in each stage; None leaves the network as it is.
        config: Size of the images, and number of classes.

    Returns:
        `model`, `depth`, `input_shape`, `parameters`, `trainable`, `multiply_adds`, `activation_bytes`,
        `feature_map` (the shape of the last one), `receptive_field` and `stride` of its positions (pixels),
        `sees_all` (whether each sees all of the image), and `top1` (share of ImageNet's validation images, as
        reported for pretrained weights at the size that they were made for).
    """
    costs = describe_network(name, image_size=config.image_size, num_classes=config.num_classes, depth=depth)
    total, features = costs.total, costs.features
    return {
        "model": name,
        "depth": depth,
        "input_shape": costs.input_shape,
        "parameters": total.parameters,
        "trainable": total.trainable,
        "multiply_adds": total.multiply_adds,
        "activation_bytes": total.activation_bytes,
        "feature_map": features.output_shape,
        "receptive_field": features.receptive_field,
        "stride": features.stride,
        "sees_all": features.sees_all,
        "top1": next((entry.top1 for entry in known_weights(name) if entry.top1 is not None and depth is None), None),
    }


def compare_layers(config: Config) -> list[dict[str, Any]]:
    """What each kind of layer costs by formula, and in time on this machine.

    Returns:
        For each kind `layer`, `parameters_formula`, `parameters`, `multiply_adds_formula`, `multiply_adds`,
        `milliseconds` (median over all rounds), and `cost` and `time`: multiply-adds and milliseconds over those
        of the convolution, the latter as the median over rounds in which both were run. Those of a layer that
        is too large to be built are None.
    """
    sizes = _sizes(config)
    if config.batch_size < 1:
        raise InputError(f"--batch-size is 1 or more. Received: {config.batch_size}")
    runtime.start(seed=0, deterministic=False)
    from custom_ops.benchmark import ratio

    with Display(quiet=config.json) as display, display.working("taking the time of layers"):
        rounds = layer_kinds.measure(sizes, batch_size=config.batch_size, seconds=SECONDS)
    kinds = layer_kinds.kinds(sizes)
    convolution = next(kind for kind in kinds if kind.name == "convolution")
    return [
        {
            "layer": kind.name,
            "parameters_formula": kind.parameters_formula,
            "parameters": kind.parameters,
            "multiply_adds_formula": kind.multiply_adds_formula,
            "multiply_adds": kind.multiply_adds,
            "cost": kind.multiply_adds / convolution.multiply_adds,
            "milliseconds": statistics.median(rounds[kind.name]) if kind.name in rounds else None,
            "time": ratio(rounds[kind.name], rounds["convolution"]) if kind.name in rounds else None,
        }
        for kind in kinds
    ]


def _sizes(config: Config) -> layer_kinds.Sizes:
    return layer_kinds.Sizes(
        height=config.height,
        width=config.width,
        channels=config.channels,
        filters=config.filters,
        kernel_size=config.kernel_size,
    )


def show_models(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table with a network a row."""
    sweep = rows[0]["depth"] is not None
    with Display() as display:
        headings = ("parameters", "mult-\nadds M", "memory\nMB", "field", "stride", "feature\nmap")
        made = cost_tables.table(
            *("model", "blocks\na stage" if sweep else "pixels"),
            *headings,
            *([] if sweep else ["top-1"]),
            roomy=display.console.width >= cost_tables.ROOMY,
        )
        for values in rows:
            cells = [
                values["model"],
                str(values["depth"]) if sweep else cost_tables.square(values["input_shape"][:-1]),
                cost_tables.count(values["parameters"]),
                cost_tables.millions(values["multiply_adds"]),
                cost_tables.millions(values["activation_bytes"]),
                "all" if values["sees_all"] else cost_tables.square(values["receptive_field"]),
                cost_tables.square(values["stride"]),
                cost_tables.times(values["feature_map"]),
            ]
            top1 = "" if values["top1"] is None else f"{values['top1']:.3f}"
            cost_tables.add_row(made, cells if sweep else [*cells, top1])
        display.show(made)


def show_layers(rows: Sequence[dict[str, Any]], config: Config) -> None:
    """Print a table with a kind of layer a row, and what the formulas come to."""
    with Display() as display:
        headings = ("parameters", "", "mult-adds", "M", "of\nconv.", "ms", "of\nconv.")
        made = cost_tables.table("layer", *headings, roomy=display.console.width >= cost_tables.ROOMY)
        for values in rows:
            measured = values["milliseconds"] is not None
            cells = [
                values["layer"],
                values["parameters_formula"],
                cost_tables.count(values["parameters"]),
                values["multiply_adds_formula"],
                cost_tables.millions(values["multiply_adds"]),
                f"{values['cost']:.3g}",
                f"{values['milliseconds']:.3g}" if measured else "",
                f"{values['time']:.2f}" if measured else "",
            ]
            cost_tables.add_row(made, cells)
        display.show(made)
        display.say()
        for line in _conclusions(rows, config):
            display.say(line)


def _conclusions(rows: Sequence[dict[str, Any]], config: Config) -> list[str]:
    by_name = {values["layer"]: values for values in rows}
    separable = by_name["separable"]
    filters, size = config.filters, config.kernel_size
    lines = [
        f"input {config.height}x{config.width}x{config.channels} (H, W, C), {filters} filters (N), window "
        f"{size}x{size} (k), strides of 1, same padding, no biases; multiply-adds of one image",
        f"ms: median for a batch of {config.batch_size}, forward, all layers in turn, on {os.cpu_count()} CPU cores",
        f"separable / convolution = 1/N + 1/k² = 1/{filters} + 1/{size * size} = {separable['cost']:.3f} of the "
        f"multiply-adds, and {separable['time']:.2f} of the time here",
    ]
    dense = by_name["dense"]
    if dense["milliseconds"] is None:
        lines.append(f"dense: too large to measure, its weights alone take {4 * dense['parameters'] / 1e9:,.1f} GB")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(Config, args=arguments, prog="zoo compare", description=__doc__)
        rows = run(config)
        if config.json:
            print(json.dumps(rows, indent=1))
        elif config.layers:
            show_layers(rows, config)
        else:
            show_models(rows)
            if config.depths:
                print(f"\nfigure: {config.figure}")

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
