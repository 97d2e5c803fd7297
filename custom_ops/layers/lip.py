"""Local importance-based (LIP) pooling."""

from typing import Any

from custom_ops import ops
from custom_ops.layers.base import Pooling, Shape, register

Tensor = Any


class LipPooling(Pooling):
    """LIP pooling of either rank."""

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", **keywords: Any) -> None:
        super().__init__(pool_size, strides, padding, **keywords)
        self.input_spec = [self.input_spec, self.input_spec]

    def call(self, inputs: list[Tensor], training: Any = None) -> Tensor:
        x, logits = inputs
        return self.pool(training, x, logits)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """The shape of what is pooled decides."""
        return super().compute_output_shape(input_shape[0])


@register
class LipPooling2D(LipPooling):
    """The mean of each window weighted with e^logits, which tell how important a position is.

    The logits usually come from a small network over the same input. Equal logits give the mean.

    Args:
        pool_size: int or 2 ints; rows and columns of a window.
        strides: int, 2 ints or `None`; rows and columns from window to window; `None` means `pool_size`.
        padding: `"valid"` or `"same"`. In same padding the positions outside are absent, they are no zeros.

    Input shape: a list `[x, logits]` of two `(batch, height, width, channels)`

    Output shape: `(batch, out_height, out_width, channels)`

    Raises:
        ValueError: if an argument is not what it should be.

    Example:
        >>> LipPooling2D(2, strides=2)([tf.ones((8, 32, 32, 16))] * 2).shape
        TensorShape([8, 16, 16, 16])

    Reference:
        [LIP: local importance-based pooling](https://arxiv.org/abs/1908.04156),
        Gao et al. 2019
    """

    rank = 2
    operator = ops.lip_pool2d


@register
class LipPooling1D(LipPooling):
    """`LipPooling2D` over steps: what has one value per spatial axis there is one int here.

    Input shape: a list `[x, logits]` of two `(batch, steps, channels)`

    Output shape: `(batch, out_steps, channels)`
    """

    rank = 1
    operator = ops.lip_pool1d
