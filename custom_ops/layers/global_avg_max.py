"""Global average and max pooling."""

from custom_ops import ops
from custom_ops.layers.base import GlobalPooling, Shape, register


class GlobalAvgMaxPooling(GlobalPooling):
    """Global average and max pooling of either rank."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Twice the channels."""
        *others, channels = super().compute_output_shape(input_shape)
        return (*others, None if channels is None else 2 * channels)


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

    rank = 2
    operator = ops.global_avg_max_pool2d


@register
class GlobalAvgMaxPooling1D(GlobalAvgMaxPooling):
    """`GlobalAvgMaxPooling2D` over steps.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, 2 * channels)`, with a one between with `keepdims`
    """

    rank = 1
    operator = ops.global_avg_max_pool1d
