"""What a model is, as plain data.

A `ModelSpec` is a frozen tree of numbers and names: it can be compared, hashed, written to JSON and read
back, and `zoo.build.build_model` turns it into a network. To vary one, use `zoo.vary`, or
`dataclasses.replace` for what that does not know. Nothing here knows Keras; the names of stems, blocks, pools
and heads are looked up when the model is built.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.checks import (
    Arguments,
    check_choice,
    check_count,
    check_flag,
    check_name,
    check_number,
    is_count,
    is_number,
    plain_arguments,
)
from zoo.errors import InputError


@dataclass(frozen=True)
class PoolSpec:
    """A way of pooling.

    Args:
        name: A name in `zoo.pools.POOLS`.
        arguments: What the pooling layer takes beyond its strides, by keyword: `{"pool_size": 3}`. A mapping
            of plain values; it is kept as sorted pairs, since a spec is hashable.
    """

    name: str
    arguments: Arguments = ()

    def __post_init__(self) -> None:
        check_name(self, "name")
        object.__setattr__(self, "arguments", plain_arguments(self, self.arguments))


@dataclass(frozen=True, kw_only=True)
class PreprocessingSpec:
    """How pixels become what the network was trained on: `pixels * scale + offset`, pixels from 0 to 255.

    Args:
        scale: Factor, not zero.
        offset: What is added after scaling: a number, or three of them for red, green and blue. Images with
            another number of channels get the mean of the three.
        channel_order: `"rgb"`, or `"bgr"` to swap red and blue of what was so computed, for networks whose
            makers read images in that order.
    """

    scale: float
    offset: float | tuple[float, float, float]
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        check_number(self, "scale")
        if self.scale == 0:
            raise InputError("PreprocessingSpec: `scale` must not be zero.")
        if isinstance(self.offset, tuple | list) and len(self.offset) == 3 and all(map(is_number, self.offset)):
            object.__setattr__(self, "offset", tuple(self.offset))
        elif not is_number(self.offset):
            raise InputError(
                "PreprocessingSpec: `offset` must be a finite number, or three of them for red, green and blue. "
                f"Received: offset={self.offset!r}"
            )
        check_choice(self, "channel_order", ("rgb", "bgr"))

    @property
    def value_range(self) -> tuple[float, float]:
        """What the pixels 0 and 255 become; over all colours, the lowest and the highest."""
        offsets = self.offset if isinstance(self.offset, tuple) else (self.offset,)
        return min(offsets), 255 * self.scale + max(offsets)


@dataclass(frozen=True, kw_only=True)
class StyleSpec:
    """What all layers of a model share.

    Args:
        activation: A Keras activation by name, such as `"relu6"`.
        batch_norm: Whether convolutions are followed by batch normalization. Without it they have a bias.
        norm_momentum: Share of the old moving average that batch normalization keeps at each step.
        norm_epsilon: What batch normalization adds to the variance.
    """

    activation: str
    batch_norm: bool = True
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_name(self, "activation")
        check_flag(self, "batch_norm")
        check_number(self, "norm_momentum")
        check_number(self, "norm_epsilon")
        if not 0 <= self.norm_momentum < 1:
            raise InputError(
                f"StyleSpec: `norm_momentum` must be in [0, 1). Received: norm_momentum={self.norm_momentum}"
            )
        if self.norm_epsilon <= 0:
            raise InputError(
                f"StyleSpec: `norm_epsilon` must be above zero. Received: norm_epsilon={self.norm_epsilon}"
            )


@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """The layers before stage 1.

    Args:
        name: A name in `zoo.stems.STEMS`.
        filters: Output channels.
        kernel_size: Height and width of the convolution's window, pixels.
        strides: How many times smaller the feature map becomes.
        pool: What makes it smaller: `None` for the convolution itself, or a pooling layer after it, by name
            or as a `PoolSpec`; the convolution then has strides of 1.
    """

    name: str = "conv"
    filters: int
    kernel_size: int = 3
    strides: int = 2
    pool: PoolSpec | str | None = None

    def __post_init__(self) -> None:
        check_name(self, "name")
        for field_name in ("filters", "kernel_size", "strides"):
            check_count(self, field_name)
        _set_pool(self)


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A run of equal blocks on feature maps of one size.

    Args:
        block: A name in `zoo.blocks.BLOCKS`.
        filters: Output channels of every block.
        depth: Number of blocks.
        strides: How many times smaller the feature map becomes.
        pool: What makes it smaller: `None` for the convolution of the first block, or a pooling layer, by
            name or as a `PoolSpec`; all blocks then have strides of 1.
        pool_position: Where that layer stands: `"after"` the last block, as in VGG, or `"before"` the first
            one, in place of its strides.
        arguments: What the block takes beyond these, by keyword. A mapping of plain values; it is kept as
            sorted pairs, since a spec is hashable.
    """

    block: str
    filters: int
    depth: int
    strides: int = 1
    pool: PoolSpec | str | None = None
    pool_position: Literal["before", "after"] = "after"
    arguments: Arguments = ()

    def __post_init__(self) -> None:
        check_name(self, "block")
        for field_name in ("filters", "depth", "strides"):
            check_count(self, field_name)
        _set_pool(self)
        check_choice(self, "pool_position", ("before", "after"))
        object.__setattr__(self, "arguments", plain_arguments(self, self.arguments))


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """The layers after the last stage.

    Args:
        name: A name in `zoo.heads.HEADS`.
        filters: Channels of the 1 x 1 convolution before the pooling, in heads that have one.
        pool: How the last feature map becomes one vector: by name or as a `PoolSpec`.
        hidden: Units of the dense layers between that vector and the logits.
        dropout: Fraction of what the logits are computed from that is dropped in training, in [0, 1).
    """

    name: str = "conv"
    filters: int | None = None
    pool: PoolSpec | str = "avg"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_name(self, "name")
        if self.filters is not None:
            check_count(self, "filters")
        _set_pool(self)
        if not isinstance(self.hidden, tuple | list) or not all(map(is_count, self.hidden)):
            raise InputError(f"HeadSpec: `hidden` must hold positive ints. Received: hidden={self.hidden!r}")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        check_number(self, "dropout")
        if not 0 <= self.dropout < 1:
            raise InputError(f"HeadSpec: `dropout` must be in [0, 1). Received: dropout={self.dropout}")


@dataclass(frozen=True, kw_only=True)
class ScalingSpec:
    """What a width multiplier does to the channels of a model; those of its stages are always multiplied.

    Args:
        divisor: Channels are rounded to a multiple of this.
        stem: Whether the stem's channels are multiplied too.
        head: `"fixed"`: the head keeps its channels; `"grow"`: multipliers above 1 apply to them.
    """

    divisor: int = 1
    stem: bool = True
    head: Literal["fixed", "grow"] = "fixed"

    def __post_init__(self) -> None:
        check_count(self, "divisor")
        check_flag(self, "stem")
        check_choice(self, "head", ("fixed", "grow"))


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network, without the shape of its input and the number of its classes.

    Args:
        name: Name of the model.
        family: Name of the family, which is the file under `zoo/models`.
        image_size: Height and width that the model was designed for, pixels.
        channels: Channels of the images that it was designed for.
        preprocessing: How pixels are normalised.
        style: Activation and batch normalization.
        stem: The layers before stage 1, if there are any.
        stages: The stages, at least one.
        head: The layers after the last stage.
        scaling: What a width multiplier does.
    """

    name: str
    family: str
    image_size: int
    channels: int = 3
    preprocessing: PreprocessingSpec
    style: StyleSpec
    stem: StemSpec | None = None
    stages: tuple[StageSpec, ...]
    head: HeadSpec
    scaling: ScalingSpec = ScalingSpec()

    def __post_init__(self) -> None:
        check_name(self, "name")
        check_name(self, "family")
        check_count(self, "image_size")
        check_count(self, "channels")
        for field_name, part in PARTS.items():
            value = getattr(self, field_name)
            if not isinstance(value, part) and not (field_name == "stem" and value is None):
                raise InputError(
                    f"ModelSpec: `{field_name}` must be a {part.__name__}. Received: {field_name}={value!r}"
                )
        stages = tuple(self.stages) if isinstance(self.stages, tuple | list) else ()
        if not stages or not all(isinstance(stage, StageSpec) for stage in stages):
            raise InputError(f"ModelSpec: `stages` must hold StageSpecs, at least one. Received: {self.stages!r}")
        object.__setattr__(self, "stages", stages)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the images that the model was designed for: `(height, width, channels)`."""
        return self.image_size, self.image_size, self.channels

    @property
    def reductions(self) -> tuple[tuple[str, int], ...]:
        """Every part of the network in its order, and how many times smaller it makes the feature map."""
        stem = (("the stem", self.stem.strides),) if self.stem else ()
        return *stem, *((f"stage {index}", stage.strides) for index, stage in enumerate(self.stages, start=1))

    @property
    def output_stride(self) -> int:
        """Pixels of the input for one step in the last feature map."""
        return math.prod(strides for _, strides in self.reductions)

    @property
    def smallest_image_size(self) -> int:
        """Height and width below which the last strides find nothing left to reduce, pixels."""
        return self.output_stride

    def to_json(self) -> str:
        """Return the spec as a JSON object, which `from_json` reads back as an equal spec."""
        from zoo.spec_json import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Return the spec that `to_json` wrote.

        Raises:
            InputError: If the text is no JSON, or a field is missing, unknown, given twice or has a value out
            of its range.
        """
        from zoo.spec_json import from_json

        return from_json(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec to a JSON file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ModelSpec":
        """Return the spec in a JSON file.

        Raises:
            InputError: If the file cannot be read, or as in `from_json`.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The spec {str(path)!r} cannot be read: {error}") from None
        return cls.from_json(text)


PARTS: dict[str, type] = {
    "preprocessing": PreprocessingSpec,
    "style": StyleSpec,
    "stem": StemSpec,
    "head": HeadSpec,
    "scaling": ScalingSpec,
}


def as_pool(value: PoolSpec | str | None) -> PoolSpec:
    """Return a `PoolSpec`; a name stands for one without arguments."""
    if isinstance(value, PoolSpec):
        return value
    if isinstance(value, str):
        return PoolSpec(value)
    raise InputError(f"A pool must be a name or a PoolSpec. Received: {value!r}")


def _set_pool(spec: StemSpec | StageSpec | HeadSpec) -> None:
    if spec.pool is not None or isinstance(spec, HeadSpec):
        object.__setattr__(spec, "pool", as_pool(spec.pool))
