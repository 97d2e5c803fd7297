"""The space of `zoo search --space architecture`: what can be different in a network of the zoo, and in its training.

Each function asks for some hyperparameters and makes another spec of one; use them in spaces of your own. Their
defaults give back the network that they start from.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from recipes.parts.search.candidates import Architecture
from zoo.spec import ModelSpec, PoolSpec, StageSpec, StemSpec, as_pool
from zoo.vary import vary

if TYPE_CHECKING:
    import keras_tuner

HyperParameters: TypeAlias = "keras_tuner.HyperParameters"

POOLS = ("max", "avg", "blur", "gem", "soft", "mixed")
HEAD_POOLS = ("avg", "max", "gem", "avg_max")
STRIDED = "strided"
"""Instead of a pool: the first convolution of a stage makes the map smaller."""
WIDTHS = (0.5, 0.75, 1.0, 1.5)
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)
SMALL_DEPTH = 3
"""Stages of so many blocks and fewer are searched from 1 block up to this."""
PLAIN, SEPARABLE = "plain", "separable"

# The defaults of `zoo train`; its rule for sgd at 64 images an update.
RATES = {"sgd": 0.1, "adamw": 2e-3}
DECAYS = {"sgd": 5e-3, "adamw": 0.05}


def sample_pooling(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose what makes feature maps smaller, in every stage that does: `pool_stage1`, `pool_stage2` ...

    Where the spec has strided convolutions they are a choice as well; a pool then stands before them in their place.

    Args:
        hp: Asked for the values.
        spec: The network to start from.

    Returns:
        The spec with other pools.
    """

    def pooled(index: int, stage: StageSpec) -> StageSpec:
        if stage.strides == 1:
            return stage
        now = as_pool(stage.pool).name if stage.pool else STRIDED
        name = hp.Choice(f"pool_stage{index}", _with(POOLS, now), default=now)
        if name == now:  # with the arguments that it has
            return stage
        return replace(stage, pool=PoolSpec(name), pool_position=stage.pool_position if stage.pool else "before")

    return _with_stages(spec, [pooled(index, stage) for index, stage in enumerate(spec.stages, start=1)])


def sample_head_pooling(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose how the last feature map becomes one vector: `head_pool`.

    Args:
        hp: Asked for the value.
        spec: The network to start from.

    Returns:
        The spec with another pool in its head.
    """
    now = as_pool(spec.head.pool).name
    name = hp.Choice("head_pool", _with(HEAD_POOLS, now), default=now)
    return spec if name == now else vary(spec, head_pool=name)


def sample_depth(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose the number of blocks of every stage: `depth_stage1`, `depth_stage2` ...

    From 1 to 3 where the spec has 3 or fewer, as in VGG, and from half as many to half as many more elsewhere.

    Args:
        hp: Asked for the values.
        spec: The network to start from.

    Returns:
        The spec with other depths.
    """

    def depth(index: int, stage: StageSpec) -> int:
        shallow = stage.depth <= SMALL_DEPTH
        least, most = (1, SMALL_DEPTH) if shallow else (stage.depth // 2, stage.depth + stage.depth // 2)
        blocks: int = hp.Int(f"depth_stage{index}", least, most, default=stage.depth)
        return blocks

    return vary(spec, depth=tuple(depth(index, stage) for index, stage in enumerate(spec.stages, start=1)))


def sample_width(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose a multiplier of the channels: `width`.

    Args:
        hp: Asked for the value.
        spec: The network to start from.

    Returns:
        The spec with other channels.
    """
    width = hp.Choice("width", list(WIDTHS), default=1.0)
    return spec if width == 1 else vary(spec, width=width)


def sample_blocks(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose between plain and depthwise-separable convolutions: `block`.

    Asked only if all stages have the same of the two, and nothing that the other one has not, as MobileNet's padding;
    residual blocks stay as they are. The very first convolution is always a plain one, as in MobileNet and Xception:
    a network without a stem gets one when it becomes separable. No block makes way for it, so that each depth remains
    another network.

    Args:
        hp: Asked for the value.
        spec: The network to start from.

    Returns:
        The spec with other blocks.
    """
    kinds = {_kind(stage) for stage in spec.stages}
    if kinds not in ({PLAIN}, {SEPARABLE}):
        return spec
    (now,) = kinds
    kind = hp.Choice("block", [PLAIN, SEPARABLE], default=now)
    if kind == now:
        return spec
    if kind == SEPARABLE and spec.stem is None:
        spec = replace(spec, stem=StemSpec(filters=spec.stages[0].filters, strides=1))
    return _with_stages(spec, [_with_kind(stage, kind) for stage in spec.stages])


def sample_dropout(hp: HyperParameters, spec: ModelSpec) -> ModelSpec:
    """Choose what part of its features the head drops in training: `dropout`.

    Args:
        hp: Asked for the value.
        spec: The network to start from.

    Returns:
        The spec with another dropout.
    """
    now = float(spec.head.dropout)
    dropout = hp.Choice("dropout", sorted({*DROPOUTS, now}), default=now)
    return spec if dropout == now else replace(spec, head=replace(spec.head, dropout=dropout))


def sample_architecture(hp: HyperParameters, base: ModelSpec) -> Architecture:
    """Choose a network and how it is trained.

    Args:
        hp: Asked for the values.
        base: The network to start from.

    Returns:
        The candidate; with all defaults the network itself, trained as `zoo train` does.
    """
    spec = base
    for sample in (sample_depth, sample_width, sample_blocks, sample_pooling, sample_head_pooling, sample_dropout):
        spec = sample(hp, spec)
    optimizer = hp.Choice("optimizer", list(RATES), default="sgd")
    learning_rate, weight_decay = None, None
    for name, usual in RATES.items():
        # What is a good rate for one is none for the other.
        with hp.conditional_scope("optimizer", [name]):
            rate = _around(hp, f"learning_rate_{name}", usual, factor=5)
            decay = _around(hp, f"weight_decay_{name}", DECAYS[name], factor=10)
        if optimizer == name:
            # The usual rate stands for the rule, which goes with the number of images.
            learning_rate, weight_decay = None if rate == usual else rate, decay
    return Architecture(
        spec=spec,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=hp.Choice("label_smoothing", [0.0, 0.05, 0.1, 0.2], default=0.1),
    )


def _around(hp: HyperParameters, name: str, usual: float, *, factor: float) -> float | None:
    """A number up to so many times smaller or larger than the usual one; None where it is inactive."""
    number: float | None = hp.Float(name, usual / factor, usual * factor, sampling="log", default=usual)
    return number


def _with(choices: tuple[str, ...], now: str) -> list[str]:
    """The choices, and what the network has."""
    return [*choices, *([] if now in choices else [now])]


def _with_stages(spec: ModelSpec, stages: list[StageSpec]) -> ModelSpec:
    return replace(spec, stages=tuple(stages))


def _kind(stage: StageSpec) -> str | None:
    """Which of the two kinds of convolution a stage has; None if another block, or if it has more than a window."""
    if set(dict(stage.arguments)) - {"kernel_size"}:
        return None
    return {"vgg": PLAIN, "conv_norm_activation": PLAIN, "separable": SEPARABLE}.get(stage.block)


def _with_kind(stage: StageSpec, kind: str) -> StageSpec:
    # The block of VGG has windows of 3 x 3 and takes no size.
    plain = "conv_norm_activation" if stage.arguments else "vgg"
    return replace(stage, block="separable" if kind == SEPARABLE else plain)
