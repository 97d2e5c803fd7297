"""What the pooling layers share: checks at construction, output shapes, an exportable form."""

from collections.abc import Callable
from typing import Any

import keras

from custom_ops.arguments import check_bool
from custom_ops.dispatch import layer_call
from custom_ops.registration import registrar
from custom_ops.window import Window, make_window

Tensor = Any
Shape = tuple[int | None, ...]
register = registrar("custom_ops")


class Layer(keras.layers.Layer):
    """A layer over one function of `custom_ops.ops`.

    A layer of its own sets `rank`, 1 for `(batch, steps, channels)` or 2 for `(batch, height, width, channels)`,
    and `operator`, the function.
    """

    rank: int
    operator: Callable[..., Tensor]

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)
        self.supports_jit = True

    def run(self, training: Any, *arguments: Any, **options: Any) -> Tensor:
        """Calls the operator so that the graph stays exportable, unless `training` is True."""
        with layer_call(training):
            return type(self).operator(*arguments, **options)


class Pooling(Layer):
    """A layer that slides a window.

    Args:
        pool_size: an int, or one per spatial axis.
        strides: the same; `None` means `pool_size`.
        padding: `"valid"` or `"same"`.

    Raises:
        ValueError: if an argument is not what it should be.
    """

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: str = "valid", **keywords: Any) -> None:
        super().__init__(**keywords)
        window = make_window(pool_size, strides, padding, self.rank)
        self.pool_size = window.size[: self.rank]
        self.strides = window.strides[: self.rank]
        self.padding = window.padding

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.pool(training, x)

    def pool(self, training: Any, x: Tensor, *parameters: Any, **options: Any) -> Tensor:
        """Calls the operator with its parameters and the window."""
        return self.run(training, x, *parameters, self.pool_size, self.strides, self.padding, **options)

    @property
    def window(self) -> Window:
        """The window, checked."""
        return make_window(self.pool_size, self.strides, self.padding, self.rank)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Batch and channels stay."""
        height, width = (*input_shape[1:-1], 1)[:2]
        return (input_shape[0], *self.window.output_shape(height, width)[: self.rank], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}
        return {**super().get_config(), **own}


class GlobalPooling(Layer):
    """A layer that pools over all positions.

    Args:
        keepdims: whether the pooled axes stay, with size 1.

    Raises:
        ValueError: if an argument is not what it should be.
    """

    def __init__(self, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.keepdims = check_bool(keepdims, "keepdims")

    def call(self, x: Tensor, training: Any = None) -> Tensor:
        return self.run(training, x, keepdims=self.keepdims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Batch and channels stay, and ones with `keepdims`."""
        ones = (1,) * self.rank if self.keepdims else ()
        return (input_shape[0], *ones, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "keepdims": self.keepdims}
