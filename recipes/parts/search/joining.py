"""Workers of this machine for a search on another one."""

import os
import re
import socket
import time
from pathlib import Path

from recipes.parts.config_file import read_config
from recipes.parts.display import Display
from recipes.parts.names import printable
from recipes.parts.search.job import Job
from recipes.parts.search.records import longest
from recipes.parts.search.session import JOB, read_session
from recipes.parts.search.supervisor import Supervisor

LOOK_SECONDS = 0.5
"""Between two looks at the workers."""


def join(folder: Path, address: str, *, workers: int, memory_bytes: int | None, display: Display) -> None:
    """Let workers take trials until there are no more.

    Args:
        folder: Of the search, on a disk that both machines share.
        address: `HOST:PORT` of its chief.
        workers: Processes on this machine.
        memory_bytes: What each may hold; None for its share of the machine.
        display: Where to show it.

    Raises:
        InputError: If the folder holds no search.
        Failed: If nobody answers at the address.
    """
    read_session(folder)  # or there is none
    job = read_config(Job, folder / JOB)
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    names = [f"{host}-{os.getpid()}-{number}" for number in range(1, workers + 1)]
    supervisor = Supervisor(
        folder,
        names,
        address,
        memory_bytes=memory_bytes,
        deadline=job.max_trial_seconds,
        on_lost=lambda worker, reason: display.say(f"{worker} {reason}"),
        longest=lambda: longest(read_session(folder).trials.values()),
    )
    display.say(f"{', '.join(names)} for the search in {printable(str(folder))}, at {address}")
    try:
        while supervisor.alive():
            supervisor.look()
            time.sleep(LOOK_SECONDS)
    finally:
        supervisor.stop()
