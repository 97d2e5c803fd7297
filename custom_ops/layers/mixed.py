"""Mixed pooling."""

from typing import Any

import keras

from custom_ops import ops
from custom_ops.layers.base import Shape, register
from custom_ops.layers.mixture import MixturePooling

Tensor = Any


class MixedPooling(MixturePooling):
    """Mixed pooling of either rank."""

    def build(self, input_shape: Shape) -> None:
        """Makes alpha."""
        shape = input_shape[-1:] if self.per_channel else ()
        half = keras.initializers.Constant(0.5)
        self.alpha = self.add_weight(shape=shape, initializer=half, autocast=False, name="alpha")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x, self.alpha)


@register
class MixedPooling2D(MixedPooling):
    """A learned mixture of maximum and mean, `alpha max + (1 - alpha) avg`.

    Alpha starts at 0.5, where the layer is half max and half average pooling.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.
        per_channel: bool; whether each channel has an alpha of its own.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> MixedPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Generalizing pooling functions in convolutional neural networks](https://arxiv.org/abs/1509.08985),
        Lee et al. 2016
    """

    rank = 2
    operator = ops.mixed_pool2d


@register
class MixedPooling1D(MixedPooling):
    """`MixedPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.mixed_pool1d
