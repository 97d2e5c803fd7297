"""Let a model that was trained on colour images take images of other channels."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.checks import is_count
from zoo.errors import InputError
from zoo.graph import Call, Graph, apply_copy, copy_input, dtype_policy, finalize, has_graph

_PER_CHANNEL = (layers.Rescaling, layers.Normalization, layers.BatchNormalization, layers.DepthwiseConv2D)
_COLOURS = 3


def adapt_input_channels(model: keras.Model, channels: int) -> keras.Model:
    """Copy a model that was trained on colour images for images of another number of channels.

    The first convolution gets a new kernel, and what stands before it new constants, where it has one for each
    channel. All else stays: weights, layer names and dtype policies.

    - 1 channel: the kernel is summed over red, green and blue, so that the output for a grey image is the one for its
      copy in three channels. Where normalisation differs from colour to colour, no kernel of one channel can do that
      (padded zeros stand for three different colours), so the image is repeated to three channels in a new
      layer `repeat_channels`, and nothing else changes.
    - 2, 4 and more: channel i takes the weights and constants of colour i modulo 3, with the kernel times 3 over the
      number of channels, so that activations keep their scale. The first channels are expected in the order of the
      model's own.

    Args:
        model: A functional model or a built `Sequential` with one input of 3 channels, `(batch, height, width, 3)`. It
            stays as it is.
        channels: Number of channels of the new images.

    Returns:
        A functional model, not compiled.

    Raises:
        InputError: If `channels` is no positive int, the model takes something else than colour images, or what
            stands before its first convolution is not known.

    Example:
        ```python
        grey = adapt_input_channels(keras.applications.ResNet50(), 1)
        near_infrared = adapt_input_channels(keras.applications.EfficientNetV2B0(), 4)
        ```

    Reference:
        - [timm, `adapt_input_conv`](https://github.com/huggingface/pytorch-image-models), the same rule for kernels
    """
    if not is_count(channels):
        raise InputError(f"`channels` must be a positive int. Received: channels={channels!r}")
    graph = Graph(model)
    old = graph.model.inputs[0]
    if len(graph.model.inputs) != 1 or len(old.shape) != 4 or old.shape[-1] != _COLOURS:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in graph.model.inputs)
        raise InputError(f"{model.name} must take images of 3 channels, (batch, height, width, 3). It takes: {shapes}")
    with dtype_policy(model.dtype_policy):
        x = image = copy_input(old, channels)
        replace: dict[str, Callable[..., Any]] = {}
        try:
            replace = _Stem(channels).adapt(graph)
        except _UnlikeColoursError as error:
            if channels != 1:
                raise InputError(f"{model.name} cannot be adapted: {error}") from None
            x = layers.Concatenate(dtype=old.dtype, name="repeat_channels")([image] * _COLOURS)
        outputs = apply_copy(graph.model, [x], replace)
        return keras.Model(keras.tree.pack_sequence_as(graph.model.input, [image]), outputs, name=model.name)


class _UnlikeColoursError(Exception):
    """What stands before the first convolution has no equal for another number of channels."""


class _Stem:
    """Walks from the image to the first layer that mixes its channels.

    Args:
        channels: Number of channels of the new images.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        # Which colour stands where, in the model and in its copy.
        self.colours = list(range(_COLOURS))
        self.new_colours = [channel % _COLOURS for channel in range(channels)]
        self.found = False

    def adapt(self, graph: Graph) -> dict[str, Callable[..., Any]]:
        """What to replace in a graph, as for `copy_model`.

        Raises:
            _UnlikeColoursError: If that cannot be done.
            InputError: If the model has no convolution that reads the image alone.
        """
        replace = {}
        index = graph.producer(graph.model.inputs[0])
        while not self.found and not graph.is_output[index]:
            readers = graph.consumers[index]
            if len(readers) != 1 or len(graph.calls[readers[0]].inputs) != 1:
                raise InputError(f"{graph.model.name} must have one first convolution that alone reads the image.")
            index = readers[0]
            if new := self._step(graph.calls[index]):
                replace[graph.calls[index].name] = new
        return replace

    def _step(self, call: Call) -> Callable[..., Any] | None:
        """What takes the place of a call; None if it may stay."""
        operation = call.operation
        if has_graph(operation):
            inner = self.adapt(Graph(operation))
            return lambda x, **kwargs: _apply_nested(operation, x, inner)
        if _reverses_channels(call):
            self.colours.reverse()
            self.new_colours.reverse()
            return None
        if isinstance(operation, layers.Conv2D) and operation.groups == 1:
            self.found = True
            return _rebuilt(operation, {}, self._mixing_weights(operation.get_weights(), kernel=0))
        if isinstance(operation, layers.SeparableConv2D) and operation.depth_multiplier == 1 and self.channels > 1:
            self.found = True
            depthwise, *others = self._mixing_weights(operation.get_weights(), kernel=1)
            return _rebuilt(operation, {}, [np.take(depthwise, self._taken, axis=-2), *others])
        if isinstance(operation, _PER_CHANNEL):
            return self._per_channel(operation)
        if not isinstance(operation, keras.Layer) or isinstance(operation, layers.Lambda) or operation.weights:
            kind = type(operation).__name__
            raise _UnlikeColoursError(f"what {call.name!r} ({kind}) does to other channels is not known.")
        return None

    @property
    def _taken(self) -> list[int]:
        """For each new channel, the place of its colour in the model."""
        return [self.colours.index(colour) for colour in self.new_colours]

    def _mixing_weights(self, weights: list[np.ndarray], kernel: int) -> list[np.ndarray]:
        old = weights[kernel]
        if self.channels == 1:
            new = old.sum(axis=-2, keepdims=True)
        else:
            new = np.take(old, self._taken, axis=-2) * (_COLOURS / self.channels)
        return [*weights[:kernel], new, *weights[kernel + 1 :]]

    def _per_channel(self, layer: keras.Layer) -> Callable[..., Any]:
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        if depthwise and layer.depth_multiplier != 1:
            raise _UnlikeColoursError(f"{layer.name!r} makes {layer.depth_multiplier} channels of each.")
        constants, weights = _constants(layer), layer.get_weights()
        by_channel = [*constants.values(), *(weight for weight in weights if weight.ndim)]
        if self.channels == 1 and (depthwise or any(np.ptp(values) for values in by_channel)):
            raise _UnlikeColoursError(f"{layer.name!r} treats colours differently.")
        config = {name: np.take(values, self._taken, axis=-1).tolist() for name, values in constants.items()}
        # All but the kernel of a convolution have their channels last, or are a single number.
        axes = [-2 if weight.ndim == 4 else -1 for weight in weights]
        taken = [
            np.take(weight, self._taken, axis=axis) if weight.ndim else weight
            for weight, axis in zip(weights, axes, strict=True)
        ]
        return _rebuilt(layer, config, taken)


def _constants(layer: keras.Layer) -> dict[str, np.ndarray]:
    """The arguments of a layer that are one number for each channel."""
    arguments: dict[str, Any] = {}
    if isinstance(layer, layers.Rescaling):
        arguments = {"scale": layer.scale, "offset": layer.offset}
    elif isinstance(layer, layers.Normalization):
        arguments = {"mean": layer.input_mean, "variance": layer.input_variance}
    return {name: np.asarray(values) for name, values in arguments.items() if np.size(values) == _COLOURS}


def _reverses_channels(call: Call) -> bool:
    """Whether a call is `keras.ops.flip(x, axis=-1)` or `x[..., ::-1]`."""
    kind = type(call.operation).__name__
    if kind == "Flip":
        return call.operation.axis in (-1, 3)
    if kind == "GetItem":
        key = call.kwargs.get("key", call.args[-1])
        return isinstance(key, tuple) and key[-1] == slice(None, None, -1) and len(key) in (2, 4)
    return False


def _apply_nested(model: keras.Model, inputs: Any, replace: dict[str, Callable[..., Any]]) -> Any:
    x = keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype)
    return keras.Model(x, apply_copy(model, [x], replace), name=model.name)(inputs)


def _rebuilt(layer: keras.Layer, config: dict[str, Any], weights: list[np.ndarray]) -> Callable[..., Any]:
    """A layer of another configuration and with other weights, which are set once it is built."""
    new = type(layer).from_config({**layer.get_config(), **config})

    def call(*args: Any, **kwargs: Any) -> Any:
        outputs = new(*args, **kwargs)
        new.set_weights(weights)
        finalize(new)
        return outputs

    return call
