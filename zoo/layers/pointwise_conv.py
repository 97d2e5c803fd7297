"""Pointwise convolution."""

from typing import Any

import keras

from zoo.layers.registration import register


@register
class PointwiseConv2D(keras.layers.Conv2D):
    """A 1 x 1 convolution: a dense layer across the channels, the same at every position.

    Together with a depthwise convolution before it, it makes up a depthwise-separable one; by itself it
    changes the number of channels.

    Args:
        filters: Output channels.
        **keywords: What `keras.layers.Conv2D` takes, but for `kernel_size`.

    Input shape: `(batch, height, width, channels)`

    Output shape: `(batch, height, width, filters)`; `ceil(height / strides)` and so on with strides

    Raises:
        ValueError: If an argument is not what it should be.

    Example:
        >>> PointwiseConv2D(16)(keras.ops.ones((8, 32, 32, 3))).shape
        TensorShape([8, 32, 32, 16])

    Reference:
        [MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications](https://arxiv.org/abs/1704.04861), Howard et al. 2017
    """

    def __init__(self, filters: int, **keywords: Any) -> None:
        if "kernel_size" in keywords:
            raise ValueError(
                "PointwiseConv2D has a window of 1 x 1; use keras.layers.Conv2D for others. "
                f"Received: kernel_size={keywords['kernel_size']!r}"
            )
        super().__init__(filters, 1, **keywords)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config: dict[str, Any] = super().get_config()
        del config["kernel_size"]
        return config
