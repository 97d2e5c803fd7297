"""Global average and max pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import GlobalPooling, Shape, register

Tensor = Any


class GlobalAvgMaxPooling(GlobalPooling):
    """Global average and max pooling of either rank."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Twice the channels."""
        *others, channels = super().compute_output_shape(input_shape)
        return (*others, None if channels is None else 2 * channels)


@register
class GlobalAvgMaxPooling1D(GlobalAvgMaxPooling):
    """The mean over all positions and then the maximum, side by side.

    Args:
        keepdims: bool; whether the pooled axes stay, with size 1.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, 2 * channels)`, with ones between with `keepdims`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GlobalAvgMaxPooling1D()(tf.ones((8, 32, 16))).shape
        TensorShape([8, 32])
    """

    def __init__(self, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(1, keepdims=keepdims, **keywords)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, ops.global_avg_max_pool1d, x, self.keepdims)


@register
class GlobalAvgMaxPooling2D(GlobalAvgMaxPooling):
    """The mean over all positions and then the maximum, side by side.

    Args:
        keepdims: bool; whether the pooled axes stay, with size 1.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, 2 * channels)`, with ones between with `keepdims`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GlobalAvgMaxPooling2D()(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 32])
    """

    def __init__(self, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(2, keepdims=keepdims, **keywords)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, ops.global_avg_max_pool2d, x, self.keepdims)
