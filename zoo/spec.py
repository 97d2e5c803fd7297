"""What a model is, as plain data.

A `ModelSpec` is a frozen tree of numbers and names: it can be compared, hashed, written to JSON and read
back, and `zoo.build.build_model` turns it into a network. To vary one, use `dataclasses.replace`. Nothing
here knows Keras; the names of stems, blocks and heads are looked up when the model is built.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from zoo.errors import InputError

PlainValue: TypeAlias = bool | int | float | str | None
Spec = TypeVar("Spec")


@dataclass(frozen=True, kw_only=True)
class PreprocessingSpec:
    """How pixels become what the network was trained on: `pixels * scale + offset`, pixels from 0 to 255.

    Args:
        scale: Factor, not zero.
        offset: What is added after scaling.
    """

    scale: float
    offset: float

    def __post_init__(self) -> None:
        _check_number(self, "scale")
        _check_number(self, "offset")
        if self.scale == 0:
            raise InputError("PreprocessingSpec: `scale` must not be zero.")

    @property
    def value_range(self) -> tuple[float, float]:
        """What the pixels 0 and 255 become."""
        return self.offset, 255 * self.scale + self.offset


@dataclass(frozen=True, kw_only=True)
class StyleSpec:
    """What all layers of a model share.

    Args:
        activation: A Keras activation by name, such as `"relu6"`.
        norm_momentum: Share of the old moving average that batch normalization keeps at each step.
        norm_epsilon: What batch normalization adds to the variance.
    """

    activation: str
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3

    def __post_init__(self) -> None:
        _check_name(self, "activation")
        _check_number(self, "norm_momentum")
        _check_number(self, "norm_epsilon")
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
        strides: Step of the convolution, pixels.
    """

    name: str = "conv"
    filters: int
    kernel_size: int = 3
    strides: int = 2

    def __post_init__(self) -> None:
        _check_name(self, "name")
        for field_name in ("filters", "kernel_size", "strides"):
            _check_count(self, field_name)


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """A run of equal blocks; the first one may reduce the size of the feature map.

    Args:
        block: A name in `zoo.blocks.BLOCKS`.
        filters: Output channels of every block.
        depth: Number of blocks.
        strides: Step of the first block, pixels; the others have 1.
        arguments: What the block takes beyond these, by keyword. A mapping of plain values; it is kept as
            sorted pairs, since a spec is hashable.
    """

    block: str
    filters: int
    depth: int
    strides: int = 1
    arguments: Mapping[str, PlainValue] | tuple[tuple[str, PlainValue], ...] = ()

    def __post_init__(self) -> None:
        _check_name(self, "block")
        for field_name in ("filters", "depth", "strides"):
            _check_count(self, field_name)
        try:
            arguments = dict(self.arguments)
        except (TypeError, ValueError):
            raise InputError(
                f"StageSpec: `arguments` must be a mapping. Received: arguments={self.arguments!r}"
            ) from None
        for name, value in arguments.items():
            if not isinstance(name, str) or not isinstance(value, bool | int | float | str | None):
                raise InputError(
                    "StageSpec: `arguments` must map names to plain values (bool, int, float, str or None). "
                    f"Received: {name!r}: {value!r}"
                )
        object.__setattr__(self, "arguments", tuple(sorted(arguments.items())))


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """The layers after the last stage.

    Args:
        name: A name in `zoo.heads.HEADS`.
        filters: Channels of the features that are pooled and classified.
        dropout: Fraction of the pooled features that is dropped in training, in [0, 1).
    """

    name: str = "conv"
    filters: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_name(self, "name")
        _check_count(self, "filters")
        _check_number(self, "dropout")
        if not 0 <= self.dropout < 1:
            raise InputError(f"HeadSpec: `dropout` must be in [0, 1). Received: dropout={self.dropout}")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A network, without the shape of its input and the number of its classes.

    Args:
        name: Name of the model; pretrained weights are found by it.
        family: Name of the family, which is the file under `zoo/models`.
        image_size: Height and width that the model was designed for, pixels.
        preprocessing: How pixels are normalised.
        style: Activation and batch normalization.
        stem: The layers before stage 1.
        stages: The stages, at least one.
        head: The layers after the last stage.
    """

    name: str
    family: str
    image_size: int
    preprocessing: PreprocessingSpec
    style: StyleSpec
    stem: StemSpec
    stages: tuple[StageSpec, ...]
    head: HeadSpec

    def __post_init__(self) -> None:
        _check_name(self, "name")
        _check_name(self, "family")
        _check_count(self, "image_size")
        for field_name, part in _PARTS.items():
            if not isinstance(getattr(self, field_name), part):
                raise InputError(
                    f"ModelSpec: `{field_name}` must be a {part.__name__}. "
                    f"Received: {field_name}={getattr(self, field_name)!r}"
                )
        stages = tuple(self.stages) if isinstance(self.stages, tuple | list) else ()
        if not stages or not all(isinstance(stage, StageSpec) for stage in stages):
            raise InputError(f"ModelSpec: `stages` must hold StageSpecs, at least one. Received: {self.stages!r}")
        object.__setattr__(self, "stages", stages)

    @property
    def output_stride(self) -> int:
        """Pixels of the input for one step in the last feature map."""
        return self.stem.strides * math.prod(stage.strides for stage in self.stages)

    @property
    def smallest_image_size(self) -> int:
        """Height and width below which the last strides find nothing left to reduce, pixels."""
        return self.output_stride

    def to_json(self) -> str:
        """Return the spec as a JSON object, which `from_json` reads back as an equal spec."""
        plain = dataclasses.asdict(self)
        for stage in plain["stages"]:
            stage["arguments"] = dict(stage["arguments"])
        return json.dumps(plain, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Return the spec that `to_json` wrote.

        Raises:
            InputError: If the text is no JSON, or a field is missing, unknown or has a value out of its
            range.
        """
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"This is no JSON: {error}") from None
        if isinstance(plain, dict):
            for field_name, part in _PARTS.items():
                if field_name in plain:
                    plain[field_name] = _construct(part, plain[field_name])
            if isinstance(plain.get("stages"), list):
                plain["stages"] = tuple(_construct(StageSpec, stage) for stage in plain["stages"])
        return _construct(cls, plain)


_PARTS: dict[str, Any] = {
    "preprocessing": PreprocessingSpec,
    "style": StyleSpec,
    "stem": StemSpec,
    "head": HeadSpec,
}


def _construct(spec_class: type[Spec], plain: object) -> Spec:
    """Call a spec's constructor with the fields of a JSON object."""
    if not isinstance(plain, dict):
        raise InputError(f"{spec_class.__name__} must be a JSON object. Received: {plain!r}")
    try:
        return spec_class(**plain)
    except TypeError as error:  # a missing or unknown field; wrong values are InputErrors already
        raise InputError(f"{spec_class.__name__}: {str(error).partition('__init__() ')[2] or error}.") from None


def _check_name(spec: object, field_name: str) -> None:
    value = getattr(spec, field_name)
    if not isinstance(value, str) or not value or "/" in value:
        raise InputError(
            f"{type(spec).__name__}: `{field_name}` must be a name without slashes. Received: {field_name}={value!r}"
        )


def _check_count(spec: object, field_name: str) -> None:
    value = getattr(spec, field_name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(
            f"{type(spec).__name__}: `{field_name}` must be a positive int. Received: {field_name}={value!r}"
        )


def _check_number(spec: object, field_name: str) -> None:
    value = getattr(spec, field_name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{type(spec).__name__}: `{field_name}` must be a finite number. Received: {field_name}={value!r}"
        )
