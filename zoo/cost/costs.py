"""The numbers that tell what a network costs. Plain data, without Keras."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from zoo.cost.windows import Windows

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a layer, a stage or a whole network costs for one image.

    Args:
        name: Of the layer, with the model that it stands in, if nested: `stem/conv`; or of the stage.
        output_shape: Without the batch axis.
        receptive_field: Extent of what one position of the output sees of the image along each axis, pixels.
            It does not end at the borders of the image, so that it can be larger.
        sees_all: Whether every position of the output sees all of the image, as behind global pooling, or where
            something that did so was multiplied in (squeeze-and-excite). The receptive field is the image then.
        windows: The stretch of the image that each position of the output sees of its own neighbourhood, along each
            axis: `windows[0].at(3)` is first and last row of the image for row 3. Empty where positions are no places
            in the image any more.
        trainable: Parameters that training changes.
        frozen: Parameters that it does not: moving statistics of batch normalization, and what is frozen.
        multiply_adds: Of convolutions and dense layers, see `zoo.cost.multiply_adds`.
        activation_bytes: What the outputs of all layers take as float32. Training keeps nearly all of them until
            the gradient is done, so this grows with the batch; prediction keeps a few at a time.
    """

    name: str
    output_shape: Shape
    receptive_field: Shape
    sees_all: bool
    windows: tuple[Windows, ...]
    trainable: int
    frozen: int
    multiply_adds: int
    activation_bytes: int

    @property
    def stride(self) -> tuple[float, ...]:
        """Pixels of the image from one position of the output to the next along each axis; empty as `windows`."""
        return tuple(windows.stride for windows in self.windows)

    @property
    def parameters(self) -> int:
        """All parameters, trainable and frozen."""
        return self.trainable + self.frozen


@dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """What one call of a layer costs.

    Args:
        kind: The layer's class, such as `Conv2D`.
        stage: The stage that it belongs to.
    """

    kind: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a network costs.

    Args:
        name: Of the model.
        input_shape: Of the first input, without the batch axis.
        layers: Every call of a layer or operation in the order in which they run, without inputs. The
            parameters of a layer that is called more than once stand with its first call.
        uncounted: Names of layers that hold matrices of weights but are of no kind whose multiply-adds are known.
    """

    name: str
    input_shape: Shape
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]

    @property
    def stages(self) -> tuple[Cost, ...]:
        """The sums of every stage, in the order in which the stages begin; the output is that of its last layer."""
        members: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            members.setdefault(layer.stage, []).append(layer)
        return tuple(_sum(name, layers) for name, layers in members.items())

    @property
    def features(self) -> Cost:
        """The last layer whose output is a feature map: what is pooled and classified."""
        return next((layer for layer in reversed(self.layers) if layer.windows), self.layers[-1])

    @property
    def total(self) -> Cost:
        """The sums over all layers."""
        return _sum(self.name, self.layers)


def _sum(name: str, layers: Sequence[LayerCost]) -> Cost:
    last = layers[-1]
    return Cost(
        name=name,
        output_shape=last.output_shape,
        receptive_field=last.receptive_field,
        sees_all=last.sees_all,
        windows=last.windows,
        trainable=sum(layer.trainable for layer in layers),
        frozen=sum(layer.frozen for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
    )
