"""A worker of a search: a process that runs trials, one after the other, until there are no more.

    python -m recipes.parts.search.worker FOLDER

`KERASTUNER_TUNER_ID` is its name, `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` say where its chief is.
"""

import gc
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.parts import runtime
from recipes.parts.config_file import read_config
from recipes.parts.memory import held_bytes
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.heartbeat import Heartbeat
from recipes.parts.search.job import Job
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.session import JOB, TRIALS, read_trial, write_outcome
from zoo import load_plugin

if TYPE_CHECKING:
    from recipes.parts.search.trials import Trials

REPLACE_ME, NO_CHIEF = 75, 76
"""Exit codes: the process holds too much memory to go on; there is no chief."""

MEMORY_LIMIT = "ZOO_WORKER_MEMORY"
"""Environment variable: bytes above which a worker asks to be replaced."""

IDLE_SECONDS = 0.3

IMAGES = "images.sha256"
"""In the folder of a search: the fingerprint of its images."""


def work(folder: Path) -> int:
    """Run trials until there are no more.

    Args:
        folder: Of the search.

    Returns:
        The exit code.
    """
    heartbeat = Heartbeat(folder, os.environ["KERASTUNER_TUNER_ID"])
    heartbeat.start()
    job = read_config(Job, folder / JOB)
    runtime.start(seed=job.seed, deterministic=job.deterministic)
    # These import TensorFlow, which has to be started first.
    import grpc
    from keras_tuner.src.distribute import oracle_client

    from recipes.parts.search.space import load_space
    from recipes.parts.search.trials import make_trials

    for plugin in job.plugin:
        load_plugin(plugin)
    trials = make_trials(job, load_space(job.space), folder)
    require_same_images(folder, trials.data.fingerprint)
    oracle_client.TIMEOUT = 120  # seconds in which a chief that lives has answered
    chief = oracle_client.OracleClient(None)
    limit = int(os.environ.get(MEMORY_LIMIT, "0"))
    while True:
        try:
            given = chief.create_trial(chief.tuner_id)
            if given.status == "STOPPED":
                return 0
            if given.status == "IDLE":
                time.sleep(IDLE_SECONDS)
                continue
            place = folder / TRIALS / given.trial_id
            write_outcome(place, _run(trials, read_trial(place), place, heartbeat))
            chief.end_trial(given)
        except grpc.RpcError:
            return NO_CHIEF
        gc.collect()
        if limit and held_bytes() > limit:
            return REPLACE_ME


def require_same_images(folder: Path, fingerprint: str) -> None:
    """Stop if the images are no longer those of the trials before; whoever comes first writes down what they are."""
    path = folder / IMAGES
    if not path.exists():
        with complete_or_absent(path) as beside:
            beside.write_text(fingerprint, encoding="ascii")
    if path.read_text(encoding="ascii") != fingerprint:
        sys.exit("the images have changed since the search was begun: begin anew with another --out")


def _run(trials: "Trials", trial: Trial, place: Path, heartbeat: Heartbeat) -> Outcome:
    def on_epoch(done: int, epochs: int, logs: dict[str, float]) -> None:
        heartbeat.epoch(done, epochs)

    heartbeat.begin(trial.id)
    try:
        if trial.final:
            seed = int(trial.id.partition("-")[2])
            return trials.final(trial, place, seed, on_epoch, heartbeat.filling)
        return trials.run(trial, place, on_epoch, heartbeat.filling)
    finally:
        heartbeat.end()


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
