"""Which models does the zoo have?

    zoo list
    zoo list --family mobilenet_v2 --max-params 3000000
    zoo list --pretrained --num-classes 10

Parameters and multiply-adds (of convolutions and dense layers, for one image of the size shown) are those of a model
with so many classes. `zoo describe NAME` has the rest. Answers in half a second, since it does not start TensorFlow.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from recipes.parts import backbones, cost_tables
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.networks import known_weights
from zoo.cost.figures import figures
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.registry import unknown_name


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which models, and how to show them."""

    family: str | None = None
    """Only models of this family."""
    max_params: int | None = None
    """Only models with at most so many parameters."""
    pretrained: bool = False
    """Only models with pretrained weights."""
    num_classes: int = 1000
    """Outputs of the classifier, which count among the parameters."""
    csv: bool = False
    """Print CSV."""
    json: bool = False
    """Print a JSON list of objects."""


def run(config: Config) -> list[dict[str, Any]]:
    """Find the models that fit.

    Args:
        config: Which models.

    Returns:
        For each model, family by family, its `name`, `family`, `parameters`, `multiply_adds`, `image_size` (height
        and width, pixels), `channels`, `weights` (names of pretrained ones), `top1` (share of ImageNet's validation
        images, as reported for the first of them) and its `licence`. What is not known is None.

    Raises:
        InputError: If there is no such family, or a number is out of range.
    """
    families = list(dict.fromkeys(spec.family for spec in map(MODELS.__getitem__, MODELS)))
    if config.family is not None and config.family not in families:
        raise unknown_name("family", config.family, families)
    if config.num_classes < 1:
        raise InputError(f"The number of classes is 1 or more. Received: {config.num_classes}")
    if config.csv and config.json:
        raise InputError("Give --csv or --json, not both")
    rows = [_row(name, config.num_classes) for name in MODELS]
    return [
        row
        for row in rows
        if config.family in (None, row["family"])
        and (config.max_params is None or (row["parameters"] is not None and row["parameters"] <= config.max_params))
        and (row["weights"] or not config.pretrained)
    ]


def _row(name: str, num_classes: int) -> dict[str, Any]:
    spec, known, weights = MODELS[name], figures(name), known_weights(name)
    return {
        "name": name,
        "family": spec.family,
        "parameters": known and known.parameters(num_classes),
        "multiply_adds": known and known.multiply_adds(num_classes),
        "image_size": spec.image_size,
        "channels": spec.channels,
        "weights": tuple(dict.fromkeys(entry.name for entry in weights)),
        "top1": next((entry.top1 for entry in weights if entry.top1 is not None), None),
        "licence": next((entry.licence for entry in weights), None),
    }


def show(rows: Sequence[dict[str, Any]], num_classes: int) -> None:
    """Print a table with one model a row."""
    with Display() as display:
        if not rows:
            display.say("no model fits")
            return
        roomy = display.console.width >= cost_tables.ROOMY
        headings = ("model", "family", "parameters", "mult-\nadds M", "image\npx", "weights", "top-1")
        made = cost_tables.table(*headings, *(["licence"] if roomy else []), words=2, roomy=roomy)
        for row in rows:
            cells = [
                row["name"],
                row["family"],
                "" if row["parameters"] is None else f"{row['parameters']:,}",
                "" if row["multiply_adds"] is None else cost_tables.millions(row["multiply_adds"]),
                str(row["image_size"]),
                ", ".join(row["weights"]),
                "" if row["top1"] is None else f"{row['top1']:.3f}",
            ]
            cost_tables.add_row(made, [*cells, row["licence"] or ""] if roomy else cells)
        display.show(made)
        display.say()
        others = len(backbones.names()) - len(MODELS)
        display.say(
            f"Costs with {num_classes:,} classes. The {others} networks of keras.applications can be used by name too."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        config = tyro.cli(Config, args=arguments, prog="zoo list", description=__doc__)
        rows = run(config)
        if config.json:
            print(json.dumps(rows, indent=1))
        elif config.csv:
            cost_tables.write_csv([{**row, "weights": " ".join(row["weights"])} for row in rows])
        else:
            show(rows, config.num_classes)

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
