"""What the pooling layers share: checks at construction, output shapes, an exportable form."""

from collections.abc import Callable
from typing import Any

import keras

from custom_ops.arguments import check_bool
from custom_ops.dispatch import layer_call
from custom_ops.window import Window, make_window

Tensor = Any
Shape = tuple[int | None, ...]
PACKAGE = "custom_ops"


def register(cls: type) -> type:
    """Registers a layer under `custom_ops>Name`, so that a saved model finds it.

    Raises:
        ValueError: if another class has that name. The same class once more is fine, as when a notebook cell
            runs twice. Keras by itself would replace the old class silently.
    """
    name = f"{PACKAGE}>{cls.__name__}"
    old = keras.saving.get_registered_object(name)
    if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"{name} is registered already, as {old.__module__}.{old.__qualname__}")
    registered: type = keras.saving.register_keras_serializable(PACKAGE)(cls)
    return registered


class Layer(keras.layers.Layer):
    """A layer over one function of `custom_ops.ops`."""

    def __init__(self, rank: int, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.rank = rank
        self.input_spec = keras.layers.InputSpec(ndim=rank + 2)
        self.supports_jit = True

    def run(self, training: Any, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """Calls an operator so that the graph stays exportable, unless `training` is True."""
        with layer_call(training):
            return function(*arguments)


class Pooling(Layer):
    """A layer that slides a window.

    Args:
        rank: 1 for `(batch, steps, channels)`, 2 for `(batch, height, width, channels)`.
        pool_size: an int, or one per spatial axis.
        strides: the same; `None` means `pool_size`.
        padding: `"valid"` or `"same"`.

    Raises:
        ValueError: if an argument is not what it should be.
    """

    def __init__(self, rank: int, pool_size: Any, strides: Any, padding: Any, **keywords: Any) -> None:
        super().__init__(rank, **keywords)
        window = make_window(pool_size, strides, padding, rank)
        self.pool_size = window.size[:rank]
        self.strides = window.strides[:rank]
        self.padding = window.padding

    @property
    def window(self) -> Window:
        """The window, checked."""
        return make_window(self.pool_size, self.strides, self.padding, self.rank)

    def pool(self, training: Any, function: Callable[..., Tensor], x: Tensor, *parameters: Any) -> Tensor:
        """Calls a windowed operator."""
        return self.run(training, function, x, *parameters, self.pool_size, self.strides, self.padding)

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
        rank: 1 for `(batch, steps, channels)`, 2 for `(batch, height, width, channels)`.
        keepdims: whether the pooled axes stay, with size 1.
    """

    def __init__(self, rank: int, keepdims: bool = False, **keywords: Any) -> None:
        super().__init__(rank, **keywords)
        self.keepdims = check_bool(keepdims, "keepdims")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Batch and channels stay, and ones with `keepdims`."""
        ones = (1,) * self.rank if self.keepdims else ()
        return (input_shape[0], *ones, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "keepdims": self.keepdims}
