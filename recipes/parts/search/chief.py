"""The chief of a search: hands trials to workers and takes what came of them; none is lost and none repeated."""

import math
import shutil
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras_tuner
from keras_tuner.engine import trial as kt_trial

from recipes.parts.failure import Failed
from recipes.parts.names import counted, printable
from recipes.parts.search.engine import Engine, Exhausted, Wait
from recipes.parts.search.job import Job
from recipes.parts.search.records import Outcome, Trial, best_trial
from recipes.parts.search.session import Session, write_trial

BEGUN = 2
"""How often a trial is begun whose worker is lost, before it counts as failed."""

IN_A_ROW = 5
"""Failures after which a search stops that has no trial to show."""

REPLACING_SECONDS = 1.0
"""How long a worker is made to wait while candidates over a budget are replaced, before it has to ask again."""

MOST_REPLACED = 500
"""Candidates in a row over a budget after which the search takes it that there are no others."""


class Chief:
    """What KerasTuner's workers talk to, by way of its service: an oracle in its eyes.

    Args:
        session: The search as far as it has come.
        engine: Suggests trials.
        job: What the search is.
        over_budget: Tells of hyperparameters, before a model is trained, which budget it breaks and by how much; "" if
            none.
        final_seeds: Of the runs with the winner and with the default, after the search.
        say: Told of what happens, a line each.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        job: Job,
        *,
        over_budget: Callable[[Mapping[str, Any]], str],
        final_seeds: Sequence[int],
        say: Callable[[str], None],
    ) -> None:
        self.session = session
        self.engine = engine
        self.job = job
        self.over_budget = over_budget
        self.final_seeds = final_seeds
        self.say = say
        self.lock = threading.RLock()
        self.stopping = ""
        """Why the search cannot go on, if something is wrong that will not mend itself."""
        self.reasons: dict[str, str] = {}
        """Why the worker of each of these trials was lost."""
        self.lost: Counter[str] = Counter()
        self.failures = 0
        self.replaced_in_a_row = 0
        self.began = time.monotonic() - session.seconds
        self._adopt()

    # How far it is

    @property
    def trials(self) -> list[Trial]:
        """Those of the search, and final runs."""
        with self.lock:
            return list(self.session.trials.values())

    def seconds(self) -> float:
        """That the search has taken."""
        return self.session.seconds if self.session.over else time.monotonic() - self.began

    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        with self.lock:
            if self.stopping:
                return True
            open_trials = any(trial.status in ("running", "waiting") for trial in self.session.trials.values())
            return bool(self.session.over) and not open_trials and not self._final_to_come()

    # What workers ask, in threads of the service

    def create_trial(self, tuner_id: str) -> Any:
        """Give a worker something to do: what it had, if it was lost with that."""
        with self.lock, self._stopping_at_errors():
            if not self.stopping:
                for trial in self._running():
                    if trial.worker != tuner_id:
                        continue
                    if self.session.outcome_of(trial) is None:  # it would not ask if it had not been lost with it
                        self.lost[trial.id] += 1
                    if not self._settle(trial):
                        return self._hand_out(trial, tuner_id)
                return self._next(tuner_id)
        return _message(None, "STOPPED")

    @contextmanager
    def _stopping_at_errors(self) -> Iterator[None]:
        """Let errors end the search: in a thread of the service they would be lost, and it would wait for ever."""
        try:
            yield
        except Failed as error:
            self.stopping = str(error)
        except Exception as error:
            traceback.print_exc()
            self.stopping = f"{type(error).__name__}: {error}"

    def end_trial(self, trial: Any) -> None:
        """Take what a worker wrote down."""
        with self.lock, self._stopping_at_errors():
            known = self.session.trials.get(trial.trial_id)
            if known is not None and known.status == "running":
                self._settle(known)

    def give_up(self, worker: str) -> None:
        """A worker is gone for good, as with its whole computer: another one is to do what it did."""
        with self.lock:
            for trial in self._running():
                if trial.worker == worker and not self._settle(trial):
                    trial.status = "waiting"
                    self.session.save()

    def give_up_strangers(self, known: Iterable[str], *, seconds: float) -> None:
        """Let others do what was taken by workers of which nothing is seen.

        Args:
            known: The ids of those of which something is.
            seconds: How long a new one has to give a sign.
        """
        names = set(known)
        for trial in self.trials:
            if trial.status == "running" and trial.worker not in names and time.time() - trial.began > seconds:
                self.give_up(trial.worker)

    def worker_lost(self, worker: str, reason: str) -> None:
        """A worker was lost and will come back.

        Args:
            worker: Its id.
            reason: What is known of its end.
        """
        with self.lock:
            for trial in self._running():
                if trial.worker == worker:
                    self.reasons[trial.id] = reason

    # How

    def _adopt(self) -> None:
        """Take what trials came to whose end nobody was there to hear of; let the others begin again."""
        for trial in self._running():
            if not self._settle(trial):
                trial.status = "waiting"
        self.session.save()

    def _running(self) -> list[Trial]:
        return [trial for trial in self.session.trials.values() if trial.status == "running"]

    def _settle(self, trial: Trial) -> bool:
        """End a trial that is over, or whose worker was lost too often."""
        outcome = self.session.outcome_of(trial)
        if outcome is None and self.lost[trial.id] >= BEGUN:
            times = counted(self.lost[trial.id], "worker")
            outcome = Outcome(
                status="failed",
                reason=f"{times} lost, the last {self.reasons.get(trial.id, 'on another machine')}",
                seconds=time.time() - trial.began,
            )
        if outcome is None:
            return False
        self._end(trial, outcome)
        return True

    def _hand_out(self, trial: Trial, worker: str) -> Any:
        """Tell a worker to run a trial, perhaps not for the first time."""
        trial.attempts += 1
        trial.status, trial.worker, trial.began = "running", worker, time.time()
        self.session.save()
        reason = self.reasons.get(trial.id)
        if reason:
            self.say(f"{worker} is back: it {reason}; trial {trial.id} begins again")
        return _message(trial, "RUNNING")

    def _next(self, worker: str) -> Any:
        for trial in list(self.session.trials.values()):
            if trial.status == "waiting" and not self._settle(trial):
                return self._hand_out(trial, worker)
        if not self.session.over:
            given = self._suggest(worker)
            if given is not None:
                return given
        if any(not trial.final for trial in self._running()):
            return _message(None, "IDLE")
        coming = self._final_to_come()
        if coming:
            return self._begin(*coming[0], worker)
        return _message(None, "STOPPED" if self.session.over and not self._running() else "IDLE")

    def _suggest(self, worker: str) -> Any:
        """A new trial; None if there is none to begin now."""
        searched = [trial for trial in self.session.trials.values() if not trial.final]
        limit = self.job.max_total_seconds
        if limit is not None and self.seconds() >= limit:
            return self._over(f"the {limit:g} s are over that --max-total-seconds gives the search")
        began = time.monotonic()
        while time.monotonic() - began < REPLACING_SECONDS:
            trial_id = f"{self.session.number:04d}"
            values = self.engine.suggest(trial_id)
            if isinstance(values, Wait):
                return None
            if isinstance(values, Exhausted):
                if self._running():  # one of them may be over a budget and make room, or end a round
                    return None
                return self._over(self._exhausted(len(searched)))
            self.session.number += 1
            broken = self.over_budget(values)
            if not broken:
                self.replaced_in_a_row = 0
                return self._begin(trial_id, values, worker)
            self.engine.take_back(trial_id)
            self.session.replaced += 1
            self.replaced_in_a_row += 1
            if self.replaced_in_a_row >= MOST_REPLACED:
                return self._over(f"{MOST_REPLACED} candidates in a row were over a budget, the last with {broken}")
        return None  # the worker will ask again

    def _exhausted(self, tried: int) -> str:
        if tried >= self.job.max_trials:
            return f"all {counted(tried, 'trial')} have ended"
        all_of = self.session.combinations
        replaced = f" and {self.session.replaced:,} over a budget" if self.session.replaced else ""
        if all_of is not None and tried + self.session.replaced >= all_of:
            return f"all {counted(all_of, 'combination')} of the space have been tried{replaced and ',' + replaced}"
        return f"{self.job.engine} has nothing more to suggest after {counted(tried, 'trial')}{replaced}"

    def _over(self, why: str) -> None:
        self.session.seconds = time.monotonic() - self.began
        self.session.over = why
        self.session.engine = self.engine.state()
        self.session.save()
        self.say(f"no more trials begin: {why}")

    def _begin(self, trial_id: str, values: dict[str, Any], worker: str) -> Any:
        trial = Trial(id=trial_id, values=values, worker=worker, began=time.time())
        folder = self.session.trial_folder(trial_id)
        shutil.rmtree(folder, ignore_errors=True)  # of one that was given out by a chief that died before it said so
        write_trial(folder, trial)
        self.session.trials[trial_id] = trial
        self.session.engine = self.engine.state()
        self.session.seconds = self.seconds()
        self.session.save()
        return _message(trial, "RUNNING")

    def _final_to_come(self) -> list[tuple[str, dict[str, Any]]]:
        best = best_trial(self.session.trials.values(), self.job.objective)
        if best is None or not self.session.over:
            return []
        # In turn, so that what slows the machine down for a while slows both.
        runs = [(f"{kind}-{seed}", kind) for seed in self.final_seeds for kind in ("winner", "default")]
        wanted = [(name, best.hyperparameters if kind == "winner" else {}) for name, kind in runs]
        # Of a search that went on after its end, the winner may be another one.
        return [
            (name, values)
            for name, values in wanted
            if name not in self.session.trials or self.session.trials[name].values != values
        ]

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        """Write down what came of a trial, and tell the engine."""
        if outcome.status == "over_budget" and not trial.final:
            self.engine.take_back(trial.id)
            del self.session.trials[trial.id]
            self.session.replaced += 1
            shutil.rmtree(self.session.trial_folder(trial.id), ignore_errors=True)
        else:
            score = outcome.validation.get(self.job.objective) if outcome.status == "done" else None
            trial.outcome = outcome
            trial.score = score if score is not None and math.isfinite(score) else None
            trial.status = "done" if trial.score is not None else "failed"
            if not trial.final:
                self.engine.tell(trial.id, trial.score)
        self.session.engine = self.engine.state()
        self.session.seconds = self.seconds()
        self.session.save()
        self.failures = self.failures + 1 if trial.status == "failed" else 0
        if self.failures >= IN_A_ROW and best_trial(self.session.trials.values(), self.job.objective) is None:
            raise Failed(
                f"the first {self.failures} trials failed, the last one with: {printable(outcome.reason)}. Mend that; "
                "the same command goes on with the next"
            )


def _message(trial: Trial | None, status: str) -> Any:
    """What KerasTuner's service sends; the hyperparameters stand in the trial's folder, with all their digits."""
    return kt_trial.Trial(keras_tuner.HyperParameters(), trial.id if trial else "", status)


def serve(chief: Chief, address: str, threads: int) -> tuple[Any, str]:
    """Start KerasTuner's service.

    Args:
        chief: Answers.
        address: `HOST:PORT`; port 0 takes any that is free.
        threads: How many may be asked at once.

    Returns:
        The server, which has `stop`, and the address at which this machine reaches it.

    Raises:
        Failed: If nothing can listen there.
    """
    from concurrent import futures

    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    # A port that somebody has is refused instead of shared.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=threads), options=[("grpc.so_reuseport", 0)])
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(chief), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise Failed(f"Nothing can listen at {address}. Give another --address")
    server.start()
    host = address.rpartition(":")[0]
    return server, f"{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"  # noqa: S104  # is not bound to
