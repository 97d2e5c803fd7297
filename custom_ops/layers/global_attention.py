"""Global attention pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import GlobalPooling, Shape, register

Tensor = Any


class GlobalAttentionPooling(GlobalPooling):
    """Global attention pooling of either rank."""

    def build(self, input_shape: Shape) -> None:
        """Makes the direction that scores a position."""
        self.score = self.add_weight(shape=(input_shape[-1], 1), initializer="zeros", name="score")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, x @ self.score, self.keepdims)


@register
class GlobalAttentionPooling2D(GlobalAttentionPooling):
    """The mean over all positions weighted with the softmax of a learned score, `score . x`.

    The score starts at zero, where the layer is global average pooling.

    Args:
        keepdims: bool; whether the pooled axes stay, with size 1.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, channels)`, with ones between with `keepdims`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GlobalAttentionPooling2D()(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16])
    """

    rank = 2
    operator = ops.global_attention_pool2d


@register
class GlobalAttentionPooling1D(GlobalAttentionPooling):
    """`GlobalAttentionPooling2D` over steps.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, channels)`, with a one between with `keepdims`
    """

    rank = 1
    operator = ops.global_attention_pool1d
