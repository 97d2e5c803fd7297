"""k-max pooling over time."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Layer, Shape, register
from custom_ops.window import positive_ints

Tensor = Any


@register
class KMaxPooling1D(Layer):
    """The k largest steps of each channel, in the order of the steps.

    Args:
        k: int; how many steps are kept. The input must have as many.

    Input shape: `(batch, steps, channels)`

    Output shape: `(batch, k, channels)`

    Raises:
        ValueError: if `k` is not a positive int.

    Example:
        >>> KMaxPooling1D(3)(tf.ones((8, 32, 16))).shape
        TensorShape([8, 3, 16])

    Reference:
        [A convolutional neural network for modelling sentences](https://arxiv.org/abs/1404.2188),
        Kalchbrenner et al. 2014
    """

    rank = 1
    operator = ops.k_max_pool1d

    def __init__(self, k: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        (self.k,) = positive_ints(k, 1, "k")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, self.k)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The steps become k."""
        return (input_shape[0], self.k, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "k": self.k}
