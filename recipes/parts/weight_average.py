"""The exponential moving average of a model's weights, which often answers better than the weights themselves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class WeightAverage(keras.callbacks.Callback):
    r"""Average weights over the updates of a training.

    After update $t$ (counted from 0) of the weights $w$, the average is $a \leftarrow d_t a + (1 - d_t) w$ with
    $d_t = \min(d, (1 + t) / (10 + t))$, so that it soon forgets the random weights of the start. Statistics of
    batch norm are averaged as well. The `use_ema` of Keras's optimizers averages no statistics, and what it leaves in
    the model after a `fit` is the average of the last epoch, whichever was best.

    Args:
        weights: Of floating point; those that training changes.
        decay: d, in (0, 1); 0.999 averages over about the last thousand updates.
        accumulate: Batches for each update of the weights.

    Reference:
        - [Polyak and Juditsky, Acceleration of Stochastic Approximation by
          Averaging](https://doi.org/10.1137/0330046)
    """

    def __init__(self, weights: Sequence[keras.Variable], decay: float, *, accumulate: int = 1) -> None:
        super().__init__()
        self.decay = decay
        self.accumulate = accumulate
        self._pairs = [(weight.value, tf.Variable(weight.value, trainable=False)) for weight in weights]
        self._batches = 0

        @tf.function
        def update(decay: tf.Tensor) -> None:
            for weight, average in self._pairs:
                average.assign_add(tf.cast(1 - decay, weight.dtype) * (weight - average))

        self._update: Any = update

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Take the weights into the average, if the batch updated them."""
        self._batches += 1
        updates, rest = divmod(self._batches, self.accumulate)
        if not rest:
            self._update(tf.constant(min(self.decay, updates / (9 + updates))))

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
