"""Max-blur pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Pooling, Shape, register
from custom_ops.window import make_window, positive_ints

Tensor = Any


class MaxBlurPooling(Pooling):
    """Max-blur pooling of either rank."""

    def __init__(
        self,
        pool_size: Any = 2,
        filter_size: Any = 3,
        strides: Any = None,
        padding: str = "valid",
        **keywords: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        self.filter_size = positive_ints(filter_size, self.rank, "filter_size")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, self.pool_size, self.filter_size, self.strides, self.padding)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Two windows, one after the other."""
        height, width = (*input_shape[1:-1], 1)[:2]
        dense = make_window(self.pool_size, 1, self.padding, self.rank)
        blur = make_window(self.filter_size, self.strides, self.padding, self.rank)
        spatial = blur.output_shape(*dense.output_shape(height, width))[: self.rank]
        return (input_shape[0], *spatial, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "filter_size": self.filter_size}


@register
class MaxBlurPooling2D(MaxBlurPooling):
    """The maximum at every position, then a binomial filter, then every stride-th value.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        filter_size: int, or one per spatial axis; size of the binomial filter.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> MaxBlurPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 15, 15, 16])

    Reference:
        [Making convolutional networks shift-invariant again](https://arxiv.org/abs/1904.11486), Zhang 2019
    """

    rank = 2
    operator = ops.max_blur_pool2d


@register
class MaxBlurPooling1D(MaxBlurPooling):
    """`MaxBlurPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.max_blur_pool1d
