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


@register
class GlobalAttentionPooling1D(GlobalAttentionPooling):
    """The mean over all positions weighted with the softmax of a learned score, `score . x`.

    The score starts at zero, where the layer is global average pooling.

    Args:
        keepdims: bool; whether the pooled axes stay, with size 1.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, channels)`, with ones between with `keepdims`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GlobalAttentionPooling1D()(tf.ones((8, 32, 16))).shape
        TensorShape([8, 16])
    """

    def __init__(self, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(1, keepdims=keepdims, **keywords)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, ops.global_attention_pool1d, x, x @ self.score, self.keepdims)


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

    def __init__(self, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(2, keepdims=keepdims, **keywords)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, ops.global_attention_pool2d, x, x @ self.score, self.keepdims)
