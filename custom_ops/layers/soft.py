"""Soft pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.arguments import check_number
from custom_ops.layers.base import Pooling, register

Tensor = Any


class SoftPooling(Pooling):
    """Soft pooling of either rank."""

    def __init__(
        self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", beta: float = 1.0, **keywords: Any
    ) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        self.beta = check_number(beta, "beta")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, beta=self.beta)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "beta": self.beta}


@register
class SoftPooling2D(SoftPooling):
    """The mean of each window weighted with softmax(beta x), between the mean and the maximum.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.
        beta: float; 0 gives the mean, a large number the maximum.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> SoftPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Refining activation downsampling with SoftPool](https://arxiv.org/abs/2101.00440),
        Stergiou et al. 2021
    """

    rank = 2
    operator = ops.soft_pool2d


@register
class SoftPooling1D(SoftPooling):
    """`SoftPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.soft_pool1d
