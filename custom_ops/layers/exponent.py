"""What lp and GeM pooling share: an exponent that is fixed or learned."""

from typing import Any

import keras

from custom_ops.arguments import check_bool, check_number, check_p
from custom_ops.layers.base import Layer, Pooling, Shape

Tensor = Any


class AtLeastOne(keras.constraints.Constraint):
    """Keeps an exponent at 1 or above, where the mean is defined and convex."""

    def __call__(self, p: Tensor) -> Tensor:
        """Returns p, or 1 if that is more."""
        return keras.ops.maximum(p, 1.0)


def build_exponent(layer: Layer, p: float, learned: bool, per_channel: bool, channels: int | None) -> Any:
    """The exponent of a layer: a weight, or one number or one per channel that stays."""
    if not learned:
        return p
    return layer.add_weight(
        shape=(channels,) if per_channel else (),
        initializer=keras.initializers.Constant(p),
        constraint=AtLeastOne(),
        autocast=False,  # half precision could not follow the small steps of its training
        name="p",
    )


def check_exponent(p: Any, learned: Any, per_channel: Any) -> tuple[float, bool, bool]:
    """Checks the three arguments that describe an exponent."""
    check_p(check_number(p, "p"))
    check_bool(learned, "learned")
    check_bool(per_channel, "per_channel")
    if per_channel and not learned:
        raise ValueError("`per_channel=True` needs `learned=True`: a fixed p is the same for all channels")
    return float(p), learned, per_channel


class ExponentPooling(Pooling):
    """A windowed layer of either rank with an exponent."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        p: float = 3.0,
        learned: bool = True,
        per_channel: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        self.p, self.learned, self.per_channel = check_exponent(p, learned, per_channel)

    def build(self, input_shape: Shape) -> None:
        """Makes the exponent."""
        self.exponent = build_exponent(self, self.p, self.learned, self.per_channel, input_shape[-1])

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, self.exponent)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"p": self.p, "learned": self.learned, "per_channel": self.per_channel}
        return {**super().get_config(), **own}
