"""The common changes of a model as keyword arguments; each makes a new spec."""

import dataclasses

from zoo.checks import is_count, is_number
from zoo.errors import InputError
from zoo.spec import ModelSpec, PoolSpec, StageSpec, as_pool


def vary(
    spec: ModelSpec,
    *,
    depth: int | tuple[int, ...] | None = None,
    width: float | None = None,
    pool: str | PoolSpec | None = None,
    head_pool: str | PoolSpec | None = None,
) -> ModelSpec:
    """Return a spec with another depth, width or pooling.

    Args:
        spec: What to vary.
        depth: Blocks per stage: one number for all stages, or a tuple of one for each.
        width: Multiplier of the channels. `spec.scaling` says how they are rounded, and what becomes of stem
            and head. Hidden layers of the head keep their units.
        pool: What makes the feature map smaller, by name or as a `PoolSpec`. It replaces the pooling layers
            between stages and in the stem; and where a stage begins with a strided convolution, it stands
            before that stage, whose convolutions then have strides of 1. A stem's own strided convolution
            stays: at full size it would be the dearest layer of all.
        head_pool: How the last feature map becomes one vector, by name or as a `PoolSpec`.

    Returns:
        The new spec, under the same name.

    Raises:
        InputError: If a value is not what it should be. Names are looked up when the model is built.

    Example:
        ```python
        spec = vary(MODELS["vgg_small"], depth=3, width=0.5, pool=PoolSpec("soft", {"beta": 2.0}))
        ```
    """
    if depth is not None:
        spec = _with_depth(spec, depth)
    if width is not None:
        spec = _with_width(spec, width)
    if pool is not None:
        spec = _with_pool(spec, as_pool(pool))
    if head_pool is not None:
        spec = dataclasses.replace(spec, head=dataclasses.replace(spec.head, pool=as_pool(head_pool)))
    return spec


def _with_depth(spec: ModelSpec, depth: int | tuple[int, ...]) -> ModelSpec:
    depths = tuple(depth) if isinstance(depth, tuple | list) else (depth,) * len(spec.stages)
    if not all(map(is_count, depths)) or len(depths) != len(spec.stages):
        raise InputError(
            f"`depth` must be a positive int, or {len(spec.stages)} of them, one for each stage of {spec.name}. "
            f"Received: depth={depth!r}"
        )
    stages = (dataclasses.replace(stage, depth=blocks) for stage, blocks in zip(spec.stages, depths, strict=True))
    return dataclasses.replace(spec, stages=tuple(stages))


def _with_width(spec: ModelSpec, width: float) -> ModelSpec:
    if not is_number(width) or width <= 0:
        raise InputError(f"`width` must be a number above zero. Received: width={width!r}")
    divisor = spec.scaling.divisor
    stem, head = spec.stem, spec.head
    if stem and spec.scaling.stem:
        stem = dataclasses.replace(stem, filters=round_filters(stem.filters * width, divisor))
    # The published code of MobileNet drops the fraction before it rounds, except in stem and head.
    stages = tuple(
        dataclasses.replace(stage, filters=round_filters(int(stage.filters * width), divisor)) for stage in spec.stages
    )
    if spec.scaling.head == "grow" and head.filters and width > 1:
        head = dataclasses.replace(head, filters=round_filters(head.filters * width, divisor))
    return dataclasses.replace(spec, stem=stem, stages=stages, head=head)


def round_filters(filters: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `filters`, unless that takes more than a tenth away; at least one.

    With a divisor of 1 the fraction is dropped, as in the published code of MobileNet.
    """
    if divisor == 1:
        return max(1, int(filters))
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * filters else rounded + divisor


def _with_pool(spec: ModelSpec, pool: PoolSpec) -> ModelSpec:
    stem = dataclasses.replace(spec.stem, pool=pool) if spec.stem and spec.stem.pool else spec.stem
    return dataclasses.replace(spec, stem=stem, stages=tuple(_pooled(stage, pool) for stage in spec.stages))


def _pooled(stage: StageSpec, pool: PoolSpec) -> StageSpec:
    if stage.pool:
        return dataclasses.replace(stage, pool=pool)
    if stage.strides > 1:
        return dataclasses.replace(stage, pool=pool, pool_position="before")
    return stage


def same_backbone(first: ModelSpec, second: ModelSpec) -> bool:
    """Whether stem and stages of two models of one family have the same layers with weights.

    Then the pretrained weights of the one are those of the other too; strides, pooling and head may differ.
    """
    return _backbone(first) == _backbone(second)


def _backbone(spec: ModelSpec) -> tuple[object, ...]:
    stem = (spec.stem.name, spec.stem.filters, spec.stem.kernel_size) if spec.stem else None
    stages = [(stage.block, stage.filters, stage.depth, stage.arguments) for stage in spec.stages]
    return spec.family, spec.style, stem, stages
