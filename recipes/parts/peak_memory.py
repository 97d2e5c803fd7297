"""The most memory that a run held."""

import keras

from recipes.parts.memory import held_bytes


class PeakMemory(keras.callbacks.Callback):
    """The most memory that the process held at the end of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def sample(self) -> None:
        """Look now."""
        self.bytes = max(self.bytes, held_bytes())

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at every batch of the first few, and at every hundredth after them."""
        if batch < 4 or batch % 100 == 0:
            self.sample()
