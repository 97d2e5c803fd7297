"""The exponential moving average of a model's weights, which often answers better than the weights themselves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class WeightAverage(keras.callbacks.Callback):
    r"""Average weights over the updates of a training.

    After update $t$ (counted from 0) of the weights $w$, the average is $a \leftarrow d_t a + (1 - d_t) w$ with
    $d_t = \min(d, (1 + t) / (10 + t))$, so that it soon forgets the random weights of the start. Statistics of
    batch norm are averaged as well. Each stage has an average of its own, which begins with the weights that the stage
    before it left. The `use_ema` of Keras's optimizers averages no statistics, and what it leaves in the model after a
    `fit` is the average of the last epoch, whichever was best.

    Args:
        weights: Of floating point; those that training changes.
        decay: d, in (0, 1); 0.999 averages over about the last thousand updates.
        accumulate: Batches for each update of the weights.
        batches: Batches that an earlier stage has seen. The average then goes on from what that stage kept, and
            remembers it.

    Reference:
        - [Polyak and Juditsky, Acceleration of Stochastic Approximation by
          Averaging](https://doi.org/10.1137/0330046)
    """

    def __init__(
        self, weights: Sequence[keras.Variable], decay: float, *, accumulate: int = 1, batches: int = 0
    ) -> None:
        super().__init__()
        self.decay = decay
        self.accumulate = accumulate
        self._pairs = [(weight.value, tf.Variable(weight.value, trainable=False)) for weight in weights]
        self.batches = batches

        @tf.function
        def update(decay: tf.Tensor) -> None:
            for weight, average in self._pairs:
                average.assign_add(tf.cast(1 - decay, weight.dtype) * (weight - average))

        self._update: Any = update

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Take the weights into the average, if the batch updated them."""
        self.batches += 1
        updates, rest = divmod(self.batches, self.accumulate)
        if not rest:
            self._update(tf.constant(min(self.decay, updates / (9 + updates))))

    def values(self) -> list[np.ndarray]:
        """The averages, in the order of the weights."""
        return [average.numpy().copy() for _, average in self._pairs]

    def set_values(self, averages: Sequence[np.ndarray]) -> None:
        """Go on from averages that `values` gave."""
        for (_, average), value in zip(self._pairs, averages, strict=True):
            average.assign(value)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average for its weights, as long as the context lasts."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for weight, average in self._pairs:
            kept = weight.numpy()
            weight.assign(average)
            average.assign(kept)
