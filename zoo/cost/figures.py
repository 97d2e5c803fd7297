"""What the models of the zoo cost, known in advance, so that listing them needs neither a network nor TensorFlow.

The figures stand in `figures.json`. They are measured, not computed from specs: a formula would repeat what every
block does, and be wrong for the first block that somebody adds. A test builds the models and compares. After a
change of a model, or for a new one:

    python -m zoo.cost.figures
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path

from zoo.models import MODELS

_FILE = Path(__file__).with_name("figures.json")
_ANY_CLASSES = 1000  # the figures do not depend on it


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a model costs at the image size that it was designed for.

    The last layer is the only one that depends on the number of classes; it has `features + 1` parameters a class.

    Args:
        body_parameters: Parameters of all other layers, trainable and frozen.
        body_multiply_adds: Multiply-adds of all other layers for one image, counted as in `zoo.cost.multiply_adds`.
        features: Numbers that the last layer computes each logit from.
    """

    body_parameters: int
    body_multiply_adds: int
    features: int

    def parameters(self, num_classes: int) -> int:
        """All parameters of a model with so many classes."""
        return self.body_parameters + (self.features + 1) * num_classes

    def multiply_adds(self, num_classes: int) -> int:
        """Multiply-adds for one image of a model with so many classes."""
        return self.body_multiply_adds + self.features * num_classes


def figures(name: str) -> Figures | None:
    """What a model costs; None for one that somebody registered and nobody measured.

    Args:
        name: One of `zoo.list_models()`.
    """
    return _all_figures().get(name)


@functools.cache
def _all_figures() -> dict[str, Figures]:
    return {name: Figures(**values) for name, values in json.loads(_FILE.read_text(encoding="utf-8")).items()}


def measure(name: str) -> Figures:
    """Build a model and see what it costs."""
    import keras

    from zoo.build import build_model
    from zoo.cost.describe import describe

    model = build_model(name, input_shape=MODELS[name].input_shape, num_classes=_ANY_CLASSES)
    costs = describe(model)
    logits = next(layer for layer in costs.layers if layer.name == "head_logits")
    keras.backend.clear_session()
    return Figures(
        body_parameters=costs.total.parameters - logits.parameters,
        body_multiply_adds=costs.total.multiply_adds - logits.multiply_adds,
        features=logits.multiply_adds // _ANY_CLASSES,
    )


def main() -> None:
    """Measure all models and write the file."""
    lines = [f"  {json.dumps(name)}: {json.dumps(dataclasses.asdict(measure(name)))}" for name in MODELS]
    _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{_FILE}: {len(lines)} models")


if __name__ == "__main__":
    main()
