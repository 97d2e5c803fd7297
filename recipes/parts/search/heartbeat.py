"""What a worker of a search is doing, told in a file that others read: the sign that it lives."""

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from recipes.parts.memory import held_bytes
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.session import WORKERS

SECONDS = 0.5
"""Between two signs."""


@dataclass(kw_only=True)
class Pulse:
    """What a worker does."""

    worker: str
    process: int = 0
    host: str = ""
    trial: str = ""
    """What it runs; "" for nothing."""
    seconds: float = 0.0
    """That the trial has been at it, without what it took to run frozen layers for all trials."""
    filling: float = 0.0
    """Seconds since frozen layers have been running for all trials; 0 if they do not."""
    epoch: int = 0
    epochs: int = 0
    memory_bytes: int = 0
    beats: int = 0
    """How many signs it has given."""


class Heartbeat(threading.Thread):
    """Give a sign every half second, for as long as the process and the one that started it live.

    Args:
        folder: Of the search.
        worker: The id of this one.
    """

    def __init__(self, folder: Path, worker: str) -> None:
        super().__init__(daemon=True)
        self.pulse = Pulse(worker=worker, process=os.getpid(), host=socket.gethostname())
        self.path = folder / WORKERS / f"{worker}.json"
        self.parent = os.getppid()
        self.lock = threading.Lock()
        self.began = self.filling_since = 0.0

    def run(self) -> None:
        """Beat."""
        while True:
            if os.getppid() != self.parent:  # nobody would hear of what it does, and its successor is under way
                os._exit(1)
            self.beat()
            time.sleep(SECONDS)

    def beat(self) -> None:
        """Give one sign."""
        with self.lock:
            now = time.monotonic()
            self.pulse.filling = now - self.filling_since if self.filling_since else 0.0
            self.pulse.seconds = now - self.began - self.pulse.filling if self.pulse.trial else 0.0
            self.pulse.memory_bytes = held_bytes()
            self.pulse.beats += 1
            values = asdict(self.pulse)
        try:
            with complete_or_absent(self.path) as beside:
                beside.write_text(json.dumps(values), encoding="ascii")
        except OSError:  # the next one may be heard
            return

    def begin(self, trial: str) -> None:
        """A trial begins."""
        with self.lock:
            self.pulse.trial, self.pulse.epoch, self.pulse.epochs = trial, 0, 0
            self.began, self.filling_since = time.monotonic(), 0.0

    def end(self) -> None:
        """It is over."""
        with self.lock:
            self.pulse.trial = ""

    def epoch(self, done: int, epochs: int) -> None:
        """So many epochs of a trial are done."""
        self._filled()
        with self.lock:
            self.pulse.epoch, self.pulse.epochs = done, epochs

    def filling(self) -> None:
        """Frozen layers run for all trials."""
        with self.lock:
            self.filling_since = self.filling_since or time.monotonic()

    def _filled(self) -> None:
        """They do no more: what it took is not the trial's."""
        with self.lock:
            if self.filling_since:
                self.began += time.monotonic() - self.filling_since
                self.filling_since = 0.0


def read_pulse(path: Path) -> Pulse | None:
    """The last sign of a worker, if it gave any."""
    try:
        return Pulse(**json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
