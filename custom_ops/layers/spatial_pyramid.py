"""Spatial pyramid pooling."""

from collections.abc import Sequence
from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Layer, Shape, register
from custom_ops.window import check_choice, check_levels

Tensor = Any


@register
class SpatialPyramidPooling2D(Layer):
    """Pools to grids of several sizes: a vector of fixed length from an image of any size.

    Args:
        levels: ints; the grid of level n has `n x n` cells.
        mode: `"max"` or `"avg"`; what is taken of each cell.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, sum n^2 * channels)`, level by level and row by row

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> SpatialPyramidPooling2D()(tf.ones((8, 13, 13, 256))).shape
        TensorShape([8, 5376])

    Reference:
        [Spatial pyramid pooling in deep convolutional networks](https://arxiv.org/abs/1406.4729),
        He et al. 2014
    """

    rank = 2
    operator = ops.spatial_pyramid_pool2d

    def __init__(self, levels: Sequence[int] = (1, 2, 4), mode: str = "max", **keywords: Any) -> None:
        super().__init__(**keywords)
        check_choice(mode, ("avg", "max"), "mode")
        self.levels = check_levels(levels)
        self.mode = mode

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, self.levels, self.mode)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """All cells of all levels."""
        channels = input_shape[-1]
        cells = sum(level * level for level in self.levels)
        return (input_shape[0], None if channels is None else cells * channels)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "levels": self.levels, "mode": self.mode}
