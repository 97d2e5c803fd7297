"""Stochastic depth."""

from typing import Any

import keras

from zoo.layers.registration import register

Tensor = Any


@register
class StochasticDepth(keras.layers.Dropout):
    """Drops the whole input for some of the images in training, and scales up the others.

    Before the sum of a residual block it leaves out the block for these images, so that networks of many
    depths are trained at once. At inference the input passes unchanged.

    Args:
        rate: Fraction of the images whose input is dropped, in [0, 1). The others are divided by `1 - rate`.
        seed: int or `None`; makes the draws repeatable.

    Input shape: `(batch, ...)`

    Output shape: that of the input

    Raises:
        ValueError: If an argument is not what it should be.

    Example:
        >>> StochasticDepth(0.2)(keras.ops.ones((8, 32, 32, 16)), training=True).shape
        TensorShape([8, 32, 32, 16])

    Reference:
        [Deep networks with stochastic depth](https://arxiv.org/abs/1603.09382), Huang et al. 2016
    """

    def __init__(self, rate: float, seed: int | None = None, **keywords: Any) -> None:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ValueError(f"`rate` must be a fraction in [0, 1). Received: rate={rate!r}")
        super().__init__(rate, seed=seed, **keywords)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if not training or self.rate == 0:
            return inputs
        each_image = (keras.ops.shape(inputs)[0], *(1 for _ in inputs.shape[1:]))
        return keras.random.dropout(inputs, self.rate, noise_shape=each_image, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config: dict[str, Any] = super().get_config()
        del config["noise_shape"]
        return config
