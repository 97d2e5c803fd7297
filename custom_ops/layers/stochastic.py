"""Stochastic pooling."""

from typing import Any

import keras

from custom_ops import ops
from custom_ops.layers.base import Pooling, register
from custom_ops.window import is_int

Tensor = Any


class StochasticPooling(Pooling):
    """Stochastic pooling of either rank."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        seed: int | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        if seed is not None and not is_int(seed):
            raise ValueError(f"`seed` must be an int or None. Received: seed={seed!r}")
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        seed = self.seed_generator.next() if training else 0
        return self.pool(training, x, seed, bool(training))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "seed": self.seed}


@register
class StochasticPooling2D(StochasticPooling):
    """Draws a value of each window in training, with a probability in proportion to it.

    At inference it takes the mean of that draw, `sum x^2 / sum x`. Negative values count as zero.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.
        seed: int or `None`; makes the draws repeatable.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> StochasticPooling2D(2, strides=2)(tf.ones((8, 32, 32, 16))).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [Stochastic pooling for regularization of deep convolutional neural networks](https://arxiv.org/abs/1301.3557),
        Zeiler and Fergus 2013
    """

    rank = 2
    operator = ops.stochastic_pool2d


@register
class StochasticPooling1D(StochasticPooling):
    """`StochasticPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.stochastic_pool1d
