"""Global generalised mean (GeM) pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import GlobalPooling, Shape, register
from custom_ops.layers.exponent import build_exponent, check_exponent

Tensor = Any


class GlobalGemPooling(GlobalPooling):
    """Global generalised mean pooling of either rank."""

    def __init__(
        self,
        p: float = 3.0,
        learned: bool = True,
        per_channel: bool = False,
        keepdims: bool = False,
        **keywords: Any,
    ) -> None:
        super().__init__(keepdims, **keywords)
        self.p, self.learned, self.per_channel = check_exponent(p, learned, per_channel)

    def build(self, input_shape: Shape) -> None:
        """Makes the exponent."""
        self.exponent = build_exponent(self, self.p, self.learned, self.per_channel, input_shape[-1])

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, self.exponent, self.keepdims)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"p": self.p, "learned": self.learned, "per_channel": self.per_channel}
        return {**super().get_config(), **own}


@register
class GlobalGemPooling2D(GlobalGemPooling):
    """The generalised mean over all positions, `(mean max(x, 1e-6)^p)^(1/p)`: the mean for p = 1.

    Args:
        p: float of at least 1; the exponent, or where it starts.
        learned: bool; whether p is a weight.
        per_channel: bool; whether each channel has a p of its own.
        keepdims: bool; whether the pooled axes stay, with size 1.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, channels)`, with ones between with `keepdims`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GlobalGemPooling2D()(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16])

    Reference:
        [Fine-tuning CNN image retrieval with no human annotation](https://arxiv.org/abs/1711.02512),
        Radenovic et al. 2017
    """

    rank = 2
    operator = ops.global_gem_pool2d


@register
class GlobalGemPooling1D(GlobalGemPooling):
    """`GlobalGemPooling2D` over steps.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, channels)`, with a one between with `keepdims`
    """

    rank = 1
    operator = ops.global_gem_pool1d
