"""Workers that crash, hang, grow or are gone, played by a script that only gives signs of life."""

import json
import signal
import sys
import time

import pytest

from recipes.parts.failure import Failed
from recipes.parts.search import supervisor as module
from recipes.parts.search.heartbeat import Pulse
from recipes.parts.search.records import Outcome
from recipes.parts.search.session import OUTCOME, write_outcome
from recipes.parts.search.supervisor import STILLBORN, OtherMachines, Supervisor
from recipes.parts.search.worker import REPLACE_ME

# The first word of `mode` is what the first process does, and so on; the last is for all that follow.
WORKER = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
name = os.environ["KERASTUNER_TUNER_ID"]
modes = (folder / "modes").read_text().split()
number = len(list(folder.glob("born-*")))
(folder / f"born-{number}").write_text(" ".join([os.environ["KERASTUNER_ORACLE_IP"],
    os.environ["KERASTUNER_ORACLE_PORT"], os.environ.get("TF_NUM_INTRAOP_THREADS", "all")]))
mode = modes[min(number, len(modes) - 1)]
def beat(beats, trial=os.environ.get("TRIAL", "0000"), seconds=0.0, memory=0):
    pulse = dict(worker=name, process=os.getpid(), trial=trial, seconds=seconds, memory_bytes=memory, beats=beats)
    beside = folder / "workers" / f".{name}-{os.getpid()}"
    beside.write_text(json.dumps(pulse))
    beside.replace(folder / "workers" / f"{name}.json")
if mode == "done":
    sys.exit(0)
if mode == "unreached":
    sys.exit(76)
if mode == "stillborn":
    sys.exit("no such module: made_up")
beat(1)
time.sleep(0.3)
if mode == "crash":
    print("Traceback ...")
    sys.exit("ValueError: too bad")
if mode == "killed":
    os.kill(os.getpid(), 9)
if mode == "replace":
    sys.exit(75)
for beats in range(2, 1000):
    if mode == "slow":
        beat(beats, seconds=beats * 10.0)
    if mode == "large":
        beat(beats, memory=10**9 * beats)
    time.sleep(0.1)
"""


class Workers:
    def __init__(self, folder, modes, workers=1, **settings):
        self.folder, self.lost = folder, []
        (folder / "modes").write_text(modes)
        (folder / "trials" / "0000").mkdir(parents=True)
        (folder / "worker.py").write_text(WORKER)
        self.supervisor = Supervisor(
            folder,
            [f"worker-{number + 1}" for number in range(workers)],
            "127.0.0.1:8600",
            **{
                "memory_bytes": 4 * 10**9,
                "deadline": 100.0,
                "on_lost": lambda worker, reason: self.lost.append((worker, reason)),
                "longest": lambda: 0.0,
                "command": (sys.executable, str(folder / "worker.py")),
                **settings,
            },
        )

    def watch(self):
        """Until there is nobody left."""
        began = time.monotonic()
        while self.supervisor.alive():
            assert time.monotonic() - began < 60
            self.supervisor.look()
            time.sleep(0.05)
        return self

    @property
    def born(self):
        return [path.read_text() for path in sorted(self.folder.glob("born-*"))]

    @property
    def outcome(self):
        path = self.folder / "trials" / "0000" / OUTCOME
        return json.loads(path.read_text()) if path.exists() else None


def test_workers_that_have_nothing_left_to_do_are_not_replaced(tmp_path):
    workers = Workers(tmp_path, "done", workers=2).watch()
    assert not workers.lost
    assert len(workers.born) == 2
    host, port, threads = workers.born[0].split()
    assert (host, port) == ("127.0.0.1", "8600")
    assert threads.isdecimal()


def test_one_worker_has_all_cores(tmp_path):
    assert Workers(tmp_path, "done").watch().born == ["127.0.0.1 8600 all"]


def test_a_worker_that_crashes_is_replaced_and_its_last_words_are_passed_on(tmp_path):
    workers = Workers(tmp_path, "crash killed done").watch()
    (_, crashed), (_, killed) = workers.lost
    assert crashed.startswith("ended with exit code 1")
    assert crashed.endswith("ValueError: too bad")
    assert killed.startswith("was ended by signal SIGKILL")
    assert len(workers.born) == 3
    assert workers.outcome is None  # whether the trial has failed is for the chief to say


def test_a_worker_that_asks_to_be_replaced_is_not_lost(tmp_path):
    assert REPLACE_ME == 75
    workers = Workers(tmp_path, "replace done").watch()
    assert not workers.lost
    assert len(workers.born) == 2


def test_a_trial_ends_at_its_deadline_and_has_failed(tmp_path):
    workers = Workers(tmp_path, "slow done").watch()
    assert workers.outcome["status"] == "failed"
    assert workers.outcome["reason"] == "took more than 100 s (--max-trial-seconds)"
    assert len(workers.born) == 2


def test_without_a_deadline_a_trial_may_take_ten_times_as_long_as_the_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WITHOUT_DEADLINE", 1.0)
    workers = Workers(tmp_path, "slow done", deadline=None, longest=lambda: 12.0).watch()
    assert workers.outcome["reason"].startswith("took more than 120 s (ten times")
    assert 110 <= workers.outcome["seconds"] < 200


def test_a_worker_that_gives_no_sign_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENT", 1.0)
    workers = Workers(tmp_path, "silent done").watch()
    assert workers.outcome["reason"] == "gave no sign of life for 1 s"


def test_a_trial_that_takes_too_much_memory_is_ended(tmp_path):
    workers = Workers(tmp_path, "large done").watch()
    assert workers.outcome["reason"].startswith("held 7.0 GB; --worker-memory 4 allows")


def test_without_a_deadline_the_first_trial_may_take_any_time(tmp_path):
    workers = Workers(tmp_path, "slow", deadline=None)
    for _ in range(40):
        workers.supervisor.look()
        time.sleep(0.05)
    (pulse,) = workers.supervisor.pulses()
    assert pulse.seconds > 100
    assert workers.outcome is None
    workers.supervisor.stop()


def test_a_final_run_may_take_longer_than_a_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAL", "winner-0")
    (tmp_path / "trials" / "winner-0").mkdir(parents=True)
    workers = Workers(tmp_path, "slow", deadline=1.0)
    for _ in range(30):
        workers.supervisor.look()
        time.sleep(0.05)
    assert workers.supervisor.pulses()[0].seconds > 10
    assert len(workers.born) == 1
    workers.supervisor.stop()


def test_a_worker_that_ends_while_there_is_work_is_replaced(tmp_path):
    needed = [True, False]
    workers = Workers(tmp_path, "crash done", needed=lambda: needed.pop(0)).watch()
    assert [words for _, words in workers.lost][1].startswith("ended with exit code 0")
    assert len(workers.born) == 3


def test_a_chief_that_nobody_reaches_is_said_so(tmp_path):
    workers = Workers(tmp_path, "unreached")
    with pytest.raises(Failed, match=r"Nobody answers at 127\.0\.0\.1:8600"):
        workers.watch()


def test_what_a_hung_worker_had_finished_is_kept(tmp_path):
    workers = Workers(tmp_path, "slow done")
    write_outcome(tmp_path / "trials" / "0000", Outcome(status="done", validation={"accuracy": 1.0}))
    assert workers.watch().outcome["status"] == "done"


def test_workers_that_never_come_to_a_trial_are_not_started_for_ever(tmp_path):
    workers = Workers(tmp_path, "stillborn")
    with pytest.raises(Failed, match=r"workers in a row ended before their first trial.*no such module: made_up"):
        workers.watch()
    assert len(workers.born) == STILLBORN


def test_stop_leaves_no_process(tmp_path):
    workers = Workers(tmp_path, "silent", workers=2)
    processes = [worker.process for worker in workers.supervisor.workers.values()]
    workers.supervisor.stop()
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_workers_of_other_machines_are_seen_and_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENT", 0.2)
    (tmp_path / "workers").mkdir()

    def beat(worker, beats):
        pulse = {"worker": worker, "trial": "0000", "beats": beats}
        (tmp_path / "workers" / f"{worker}.json").write_text(json.dumps(pulse))

    beat("old-1", 7)
    gone = []
    others = OtherMachines(tmp_path, ["worker-1"], on_gone=gone.append)
    assert others.look() == []  # of an earlier sitting
    beat("worker-1", 1)
    beat("there-1", 1)
    assert [pulse.worker for pulse in others.look()] == ["there-1"]
    time.sleep(0.3)
    assert others.look() == []
    assert gone == ["there-1"]
    beat("there-1", 2)
    (tmp_path / "workers" / "half.json").write_text('{"worker": "ha')
    assert others.look() == [Pulse(worker="there-1", trial="0000", beats=2)]
    assert gone == ["there-1"]
