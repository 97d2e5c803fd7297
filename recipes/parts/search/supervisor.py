"""Keep workers alive: start them, replace those that end, and end those that hang or grow too large."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from recipes.parts.failure import Failed
from recipes.parts.names import printable
from recipes.parts.search.heartbeat import PARENT, Pulse, read_pulse
from recipes.parts.search.records import FINALS, Outcome
from recipes.parts.search.session import OUTCOME, TRIALS, WORKERS, write_outcome
from recipes.parts.search.worker import MEMORY_LIMIT, NO_CHIEF, REPLACE_ME

STILLBORN = 3
"""Workers in a row that end before their first trial, after which it makes no sense to start more."""

WITHOUT_DEADLINE = 600.0
"""Seconds that a trial may take at least where no deadline is given; ten times the longest so far is more."""

SILENT = 60.0
"""Seconds after which a worker that gives no sign is taken for one that hangs. Native code can hold up Python's
threads, but not for so long."""

MEMORY_SHARE = 0.8
"""Of the machine's memory, what all workers together may hold where nothing else is said."""

MEMORY_FACTOR = 1.5
"""Of the limit at which a worker is replaced after a trial, what ends it in the middle of one."""


@dataclass
class Worker:
    """A process that runs trials."""

    id: str
    process: subprocess.Popen[bytes]
    log: Path
    pulse: Pulse
    heard: float
    """When it last gave a sign."""
    began: float
    has_run: bool = False
    """Whether it has come to a trial."""


class Supervisor:
    """The workers on this machine.

    Args:
        folder: Of the search.
        names: Of the workers.
        address: `HOST:PORT` of the chief.
        memory_bytes: What a worker may hold; None for its share of 80 % of the machine's memory.
        deadline: Seconds that a trial may take; None to derive it from `longest`.
        on_lost: Told of a worker that was lost, and why, before it is started again.
        longest: Seconds of the longest trial that is done.
        needed: Whether a worker that has ended as if there were nothing left to do is to be started again.
        command: What a worker runs; it is given the folder.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        address: str,
        *,
        memory_bytes: int | None,
        deadline: float | None,
        on_lost: Callable[[str, str], None],
        longest: Callable[[], float],
        needed: Callable[[], bool] = lambda: False,
        command: Sequence[str] = (sys.executable, "-m", "recipes.parts.search.worker"),
    ) -> None:
        self.folder = folder
        self.address = address
        share = int(MEMORY_SHARE * psutil.virtual_memory().total / len(names))
        self.memory_bytes = share if memory_bytes is None else memory_bytes
        self.deadline = deadline
        self.on_lost = on_lost
        self.longest = longest
        self.needed = needed
        self.command = command
        self.threads = max(1, (os.cpu_count() or 1) // len(names))
        self.divided = len(names) > 1
        self.stillborn = 0
        (folder / WORKERS).mkdir(exist_ok=True)
        self.workers = {name: self._start(name) for name in names}

    def pulses(self) -> list[Pulse]:
        """What the workers do."""
        return [worker.pulse for worker in self.workers.values()]

    def alive(self) -> bool:
        """Whether any still works."""
        return bool(self.workers)

    def look(self) -> None:
        """See to each worker.

        Raises:
            Failed: If workers end before they come to anything; one line with the last words of the last.
        """
        for worker in list(self.workers.values()):
            self._listen(worker)
            code = worker.process.poll()
            if code is None:
                reason = self._too_much(worker)
                if not reason:
                    continue
                self._end_trial(worker, reason)
            self._ended(worker, code)

    def stop(self) -> None:
        """End them all."""
        for worker in self.workers.values():
            worker.process.kill()
        for worker in self.workers.values():
            worker.process.wait()
        self.workers = {}

    def _listen(self, worker: Worker) -> None:
        pulse = read_pulse(self.folder / WORKERS / f"{worker.id}.json")
        if pulse is not None and pulse.process == worker.process.pid:
            if pulse.beats != worker.pulse.beats:
                worker.heard = time.monotonic()
            worker.pulse = pulse
            if pulse.trial:
                worker.has_run = True
                self.stillborn = 0

    def _too_much(self, worker: Worker) -> str:
        """Why a worker has to be ended in the middle of what it does, if it has to."""
        pulse = worker.pulse
        silent = time.monotonic() - worker.heard
        if silent > SILENT:
            return f"gave no sign of life for {silent:.0f} s"
        if not pulse.trial:
            return ""
        # A final run is longer than any trial.
        given = None if pulse.trial.startswith(FINALS) else self.deadline
        longest = self.longest()
        deadline = given or (max(WITHOUT_DEADLINE, 10 * longest) if longest else math.inf)
        if pulse.seconds + silent > deadline:
            rule = "--max-trial-seconds" if given else "ten times the longest trial before it, or 10 minutes"
            return f"took more than {deadline:.0f} s ({rule})"
        if pulse.memory_bytes > MEMORY_FACTOR * self.memory_bytes:
            return (
                f"held {pulse.memory_bytes / 1e9:.1f} GB; --worker-memory {self.memory_bytes / 1e9:.3g} allows "
                f"{MEMORY_FACTOR} times as much for a while"
            )
        return ""

    def _end_trial(self, worker: Worker, reason: str) -> None:
        """End a process that would not end by itself. Its trial has failed, and is not tried again."""
        worker.process.kill()
        worker.process.wait()
        place = self.folder / TRIALS / worker.pulse.trial
        if (
            worker.pulse.trial and place.is_dir() and not (place / OUTCOME).exists()
        ):  # it may have ended at that very moment
            write_outcome(place, Outcome(status="failed", reason=reason, seconds=worker.pulse.seconds))

    def _ended(self, worker: Worker, code: int | None) -> None:
        """A process is gone: start another in its place, unless it had nothing left to do."""
        if code in (0, NO_CHIEF) and not self.needed():
            if code == NO_CHIEF and not worker.has_run:
                raise Failed(f"Nobody answers at {self.address}")
            del self.workers[worker.id]
            return
        if code != REPLACE_ME:
            words = self._last_words(worker, code)
            if code is not None:
                self.on_lost(worker.id, words)
            self.stillborn += not worker.has_run
            if self.stillborn >= STILLBORN:
                raise Failed(
                    f"{self.stillborn} workers in a row ended before their first trial; the last one {words}. See "
                    f"{printable(str(worker.log))}"
                )
        self.workers[worker.id] = self._start(worker.id)

    def _last_words(self, worker: Worker, code: int | None) -> str:
        if code is None:
            return "had to be ended"
        held = f", while it held {worker.pulse.memory_bytes / 1e9:.1f} GB" if worker.pulse.memory_bytes else ""
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            out_of_memory = "; the system does that when memory runs out" if -code == signal.SIGKILL else ""
            return f"was ended by signal {name}{held}{out_of_memory}"
        lines = [line for line in worker.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"ended with exit code {code}{held}" + (f": {printable(lines[-1].strip())}" if lines else "")

    def _start(self, name: str) -> Worker:
        host, _, port = self.address.rpartition(":")
        environment = {
            **os.environ,
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": host,
            "KERASTUNER_ORACLE_PORT": port,
            "no_grpc_proxy": host,  # a proxy of the web would not let them through
            PARENT: str(os.getpid()),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # a GPU is shared
            MEMORY_LIMIT: str(self.memory_bytes),
            **(self._share_of_cores() if self.divided else {}),
        }
        log = self.folder / WORKERS / f"{name}.log"
        (self.folder / WORKERS / f"{name}.json").unlink(missing_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  # our own module; the folder is one argument, whatever is in it
                [*self.command, str(self.folder)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the one who started them, who then ends them.
                **_without_signals(),
            )
        now = time.monotonic()
        return Worker(name, process, log, Pulse(worker=name), heard=now, began=now)

    def _share_of_cores(self) -> Mapping[str, str]:
        threads = str(self.threads)
        return {"TF_NUM_INTRAOP_THREADS": threads, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}


def _without_signals() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


class OtherMachines:
    """Workers that were started elsewhere, of which only the signs are seen.

    Args:
        folder: Of the search.
        own: The names of the workers that are none of these.
        on_gone: Told of one that gives no sign any more.
    """

    def __init__(self, folder: Path, own: Sequence[str], *, on_gone: Callable[[str], None]) -> None:
        self.folder = folder / WORKERS
        self.own = own
        self.on_gone = on_gone
        # What an earlier sitting left.
        self.silent = {pulse.worker: pulse.beats for pulse in self._pulses()}
        self.heard: dict[str, tuple[int, float]] = {}

    def look(self) -> list[Pulse]:
        """What those do that live."""
        alive = []
        for pulse in self._pulses():
            if self.silent.get(pulse.worker) == pulse.beats:
                continue
            self.silent.pop(pulse.worker, None)
            beats, when = self.heard.get(pulse.worker, (-1, 0.0))
            if pulse.beats != beats:
                when = time.monotonic()
                self.heard[pulse.worker] = (pulse.beats, when)
            if time.monotonic() - when > SILENT:
                self.silent[pulse.worker] = pulse.beats
                self.on_gone(pulse.worker)
            else:
                alive.append(pulse)
        return alive

    def _pulses(self) -> list[Pulse]:
        found = (read_pulse(path) for path in sorted(self.folder.glob("*.json")) if path.stem not in self.own)
        return [pulse for pulse in found if pulse is not None]
