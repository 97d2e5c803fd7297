"""Grouped convolutions without XLA, which servers refuse to run.

Keras compiles every convolution whose kernel reads fewer channels than there are with XLA, since TensorFlow has no
gradient for it on a CPU. An inference copy needs none.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from zoo.graph import copy_model


def without_xla(model: keras.Model) -> keras.Model:
    """Copy a model so that its grouped convolutions run as TensorFlow's own kernels.

    Args:
        model: A functional model, which stays as it is. Convolutions in models inside it are left as they are.

    Returns:
        The copy, for inference only; the model itself if it has no grouped convolution.
    """
    grouped = {
        operation.name: _copy(operation)
        for operation in model.operations
        if type(operation) is keras.layers.Conv2D and operation.groups > 1 and operation.data_format == "channels_last"
    }
    return copy_model(model, grouped) if grouped else model


class _GroupedConv2D(keras.layers.Conv2D):
    """`Conv2D` as TensorFlow computes it; `inputs` are `(batch, height, width, channels)`."""

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        strides, dilations, padding = self.strides, self.dilation_rate, self.padding.upper()
        height, width, channels_read, filters = kernel.shape
        if channels_read == 1 and strides[0] == strides[1] and 1 in (strides[0], max(dilations)):
            # Depthwise, for which there is a kernel that is many times faster.
            kernel = tf.reshape(kernel, (height, width, inputs.shape[-1], filters // inputs.shape[-1]))
            return tf.nn.depthwise_conv2d(inputs, kernel, (1, *strides, 1), padding, dilations=dilations)
        return tf.nn.conv2d(inputs, kernel, strides, padding, dilations=dilations)


def _copy(layer: keras.layers.Conv2D) -> Callable[[Any], Any]:
    def call(inputs: Any) -> Any:
        copy = _GroupedConv2D.from_config(layer.get_config())
        outputs = copy(inputs)
        copy.set_weights(layer.get_weights())
        return outputs

    return call
