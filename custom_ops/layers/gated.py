"""Gated pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Shape, register
from custom_ops.layers.mixture import MixturePooling

Tensor = Any


class GatedPooling(MixturePooling):
    """Gated pooling of either rank."""

    def build(self, input_shape: Shape) -> None:
        """Makes the weights of the gate."""
        shape = (*self.pool_size, *(input_shape[-1:] if self.per_channel else ()))
        self.gate = self.add_weight(shape=shape, initializer="zeros", autocast=False, name="gate")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, self.gate)


@register
class GatedPooling2D(GatedPooling):
    """A mixture of maximum and mean that each window decides, with `alpha = sigmoid(gate . window)`.

    The gate is learned. It starts at zero, where the layer is half max and half average pooling.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.
        per_channel: bool; whether each channel has a gate of its own.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> GatedPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Generalizing pooling functions in convolutional neural networks](https://arxiv.org/abs/1509.08985),
        Lee et al. 2016
    """

    rank = 2
    operator = ops.gated_pool2d


@register
class GatedPooling1D(GatedPooling):
    """`GatedPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.gated_pool1d
