"""How much memory this process holds."""

from pathlib import Path

import keras
import psutil

_STATUS = Path("/proc/self/status")


def held_bytes() -> int:
    """Memory that belongs to this process alone.

    Pages of mapped files, which can leave memory at any time, are not counted where the operating system tells them
    apart (`RssAnon` of Linux).
    """
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


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
