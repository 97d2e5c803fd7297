"""Convolutions as a CPU trains them fastest: the same sums in another order.

TensorFlow hands convolutions on a CPU to oneDNN. Two kinds, of which MobileNets and EfficientNets consist, come out of
its slow path: a 1 x 1 convolution puts its kernel into another order at every step, for which a product of matrices has
no need; and the gradient of a depthwise kernel of 5 x 5, or of one larger than the image, is computed as if each
channel were a block of 16 x 16. `python -m recipes.benchmark_steps` measures what comes of it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

FASTEST = 3
"""The largest window whose gradient oneDNN computes in its fast path."""


@contextmanager
def fast_on_cpu(model: keras.Model) -> Iterator[None]:
    """Let a model compute its convolutions so, where it is traced as long as the context lasts.

    Outputs and gradients differ from those of the layers by rounding only. Layers with a `call` of their own are left
    as they are, and on a GPU all.

    Args:
        model: Any.
    """
    with ExitStack() as stack:
        if not tf.config.list_logical_devices("GPU"):
            for layer in model._flatten_layers(include_self=False):
                convolve = _faster(layer)
                if convolve is not None:
                    layer.call = _with_bias_and_activation(layer, convolve)
                    stack.callback(delattr, layer, "call")
        yield


def pointwise_conv2d(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A convolution of 1 x 1 as a product of matrices.

    Args:
        inputs: `(batch, height, width, channels)`.
        kernel: `(1, 1, channels, filters)`.

    Returns:
        `(batch, height, width, filters)`.
    """
    channels, filters = kernel.shape[2:]
    rows = tf.matmul(tf.reshape(inputs, [-1, channels]), tf.reshape(kernel, [channels, filters]))
    outputs = tf.reshape(rows, tf.concat([tf.shape(inputs)[:-1], [filters]], axis=0))
    return tf.ensure_shape(outputs, [*inputs.shape[:-1], filters])


def depthwise_conv2d(inputs: tf.Tensor, kernel: tf.Tensor, *, strides: int, padding: str) -> tf.Tensor:
    """A depthwise convolution whose kernel gets its gradient in parts of at most 3 x 3.

    Args:
        inputs: `(batch, height, width, channels)`; height and width known.
        kernel: `(rows, columns, channels, multiplier)`.
        strides: In both directions.
        padding: `same` or `valid`.

    Returns:
        As `tf.nn.depthwise_conv2d`, bit for bit.
    """
    how = {"strides": [1, strides, strides, 1], "padding": padding.upper()}

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            for_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **how
            )
            return for_inputs, _kernel_gradient(inputs, upstream, tuple(kernel.shape), strides, padding)

        return tf.nn.depthwise_conv2d(inputs, kernel, **how), gradients

    return convolve(inputs, kernel)


def _kernel_gradient(
    inputs: tf.Tensor, upstream: tf.Tensor, shape: tuple[int, ...], strides: int, padding: str
) -> tf.Tensor:
    # Position (i, j) of the kernel has met inputs[i + strides * y, j + strides * x] wherever there was an output
    # (y, x). So a part of the kernel that begins at (i, j) gets the gradient of a smaller convolution, without
    # padding, of the inputs from (i, j) on.
    places = upstream.shape[1:3]
    axes = [
        _axis(size, window, strides, outputs, padding)
        for size, window, outputs in zip(inputs.shape[1:3], shape, places, strict=False)
    ]
    padded = tf.pad(inputs, [[0, 0], *(margins for margins, _, _ in axes), [0, 0]])
    rows = []
    for top, height in axes[0][1]:
        row = []
        for left, width in axes[1][1]:
            met = padded[
                :,
                top : top + (places[0] - 1) * strides + height,
                left : left + (places[1] - 1) * strides + width,
            ]
            row.append(
                tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                    input=met,
                    filter_sizes=[height, width, *shape[2:]],
                    out_backprop=upstream,
                    strides=[1, strides, strides, 1],
                    padding="VALID",
                )
            )
        rows.append(tf.concat(row, axis=1))
    return tf.pad(tf.concat(rows, axis=0), [*(unmet for _, _, unmet in axes), [0, 0], [0, 0]])


def _axis(
    size: int, window: int, strides: int, outputs: int, padding: str
) -> tuple[tuple[int, int], list[tuple[int, int]], tuple[int, int]]:
    """How a window lies on an axis.

    Returns:
        The zeros to put before and behind the inputs; the parts of the window, as the places in these inputs where
        they begin, and their lengths; and how many positions of the window, at its beginning and end, never meet
        anything but padding.
    """
    reach = (outputs - 1) * strides
    before = max(reach + window - size, 0) // 2 if padding == "same" else 0
    first, stop = max(0, before - reach), min(window, before + size)
    parts = [(start - first, min(FASTEST, stop - start)) for start in range(first, stop, FASTEST)]
    return (before - first, max(0, reach + stop - before - size)), parts, (first, window - stop)


def _faster(layer: keras.Layer) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    """What takes the place of a layer's convolution; None if nothing does."""
    stock = next(
        (kind for kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D) if isinstance(layer, kind)), None
    )
    if stock is None or type(layer).call is not stock.call or "call" in vars(layer):
        return None
    if layer.data_format != "channels_last":
        return None
    if stock is keras.layers.Conv2D:
        plain = type(layer).convolution_op is stock.convolution_op and layer.groups == 1
        once = max(*layer.kernel_size, *layer.strides) == 1
        return pointwise_conv2d if plain and once else None
    if max(layer.dilation_rate) > 1 or len(set(layer.strides)) > 1:
        return None
    strides, padding = layer.strides[0], layer.padding

    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        sizes = inputs.shape[1:3]
        slow = None not in sizes and (
            any(size < window for size, window in zip(sizes, layer.kernel_size, strict=True))
            or (layer.kernel_size == (5, 5) and strides == 1)
        )
        if slow:
            return depthwise_conv2d(inputs, kernel, strides=strides, padding=padding)
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, strides, strides, 1], padding.upper())

    return convolve


def _with_bias_and_activation(
    layer: keras.Layer, convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> Callable[[tf.Tensor], tf.Tensor]:
    def call(inputs: tf.Tensor) -> tf.Tensor:
        outputs = convolve(inputs, tf.convert_to_tensor(layer.kernel))
        if layer.use_bias:
            outputs = keras.ops.add(outputs, layer.bias)
        return outputs if layer.activation is None else layer.activation(outputs)

    return call
