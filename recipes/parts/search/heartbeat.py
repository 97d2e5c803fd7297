"""What a worker of a search is doing, told in a file that others read: the sign that it lives."""

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from recipes.parts.memory import held_bytes
from recipes.parts.search.session import WORKERS

SECONDS = 0.5
"""Between two signs."""

FILLING_SECONDS = 60.0
"""A batch that frozen layers take longer for is taken for one that hangs."""

PARENT = "ZOO_WORKER_PARENT"
"""Environment variable: the process that started a worker."""


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
        self.parent = int(os.environ.get(PARENT, os.getppid()))
        self.lock = threading.Lock()
        self.began = self.last_filled = 0.0

    def run(self) -> None:
        """Beat."""
        while True:
            if not self._has_parent():  # nobody would hear of what it does, and its successor is under way
                os._exit(1)
            self.beat()
            time.sleep(SECONDS)

    def beat(self) -> None:
        """Give one sign."""
        with self.lock:
            self.pulse.seconds = time.monotonic() - self.began if self.pulse.trial else 0.0
            self.pulse.memory_bytes = held_bytes()
            self.pulse.beats += 1
            values = asdict(self.pulse)
        beside = self.path.with_name(f".{self.path.stem}-{os.getpid()}")
        try:
            beside.write_text(json.dumps(values), encoding="ascii")
            os.replace(beside, self.path)
        except OSError:  # the next one may be heard
            return

    def begin(self, trial: str) -> None:
        """A trial begins."""
        with self.lock:
            self.pulse.trial, self.pulse.epoch, self.pulse.epochs = trial, 0, 0
            self.began, self.last_filled = time.monotonic(), 0.0

    def end(self) -> None:
        """It is over."""
        with self.lock:
            self.pulse.trial = ""

    def epoch(self, done: int, epochs: int) -> None:
        """So many epochs of a trial are done."""
        with self.lock:
            self.pulse.epoch, self.pulse.epochs = done, epochs

    def filling(self) -> None:
        """Frozen layers have run on a batch for all trials: what that took is not this one's."""
        with self.lock:
            now = time.monotonic()
            if self.last_filled and now - self.last_filled < FILLING_SECONDS:
                self.began += now - self.last_filled
            self.last_filled = now

    def _has_parent(self) -> bool:
        """Whether the process lives that started this one."""
        return psutil.pid_exists(self.parent) if sys.platform == "win32" else os.getppid() == self.parent


def read_pulse(path: Path) -> Pulse | None:
    """The last sign of a worker, if it gave any."""
    try:
        return Pulse(**json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
