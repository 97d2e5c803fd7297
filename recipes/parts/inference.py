"""What a model says of images: one traced function for validation, test and prediction."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Inference:
    """A model in inference mode, traced once.

    `evaluate` and `predict` trace the model anew after every `compile`, and `predict` once more for a smaller last
    batch; in a run of three stages that takes longer than the images do.

    Args:
        model: From float32 images `(batch, height, width, channels)`, or activations, to one output or a list of them.
            Later changes of its weights count; changes of its layers do not.
    """

    def __init__(self, model: keras.Model) -> None:
        @tf.function(input_signature=[tf.TensorSpec(model.input.shape, tf.float32)])
        def answer(images: tf.Tensor) -> tf.Tensor:
            return model(images, training=False)

        self._function = answer

    @cached_property
    def _answer(self) -> Callable[[tf.Tensor], Any]:
        # The concrete function: TensorFlow counts the others of all models together, and warns of "retracing".
        concrete: Callable[[tf.Tensor], Any] = self._function.get_concrete_function()
        return concrete

    def __call__(self, batches: Iterable[tuple[tf.Tensor, ...]]) -> np.ndarray:
        """Outputs for all images, in order.

        Args:
            batches: Tuples that begin with images, such as the `(images, labels)` of `evaluation_batches`.

        Returns:
            `(n, ...)`: the outputs of the batches, one after the other.
        """
        return np.concatenate(list(self.batches(batches)))

    def batches(self, batches: Iterable[tuple[tf.Tensor, ...]]) -> Iterator[Any]:
        """Outputs, a batch at a time, in the structure of the model's; arguments as above."""
        for outputs in self.tensors(batches):
            yield keras.tree.map_structure(lambda output: output.numpy(), outputs)

    def tensors(self, batches: Iterable[tuple[tf.Tensor, ...]]) -> Iterator[Any]:
        """The same as tensors, which stay on the device until they are asked for their numbers."""
        for batch in batches:
            yield self._answer(batch[0])
