"""What a person sees while a search runs: a live table on a terminal, plain lines anywhere else."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from recipes.parts.cost_tables import add_row, table
from recipes.parts.display import Display, duration
from recipes.parts.names import printable
from recipes.parts.search.final_runs import MEASURES
from recipes.parts.search.heartbeat import Pulse
from recipes.parts.search.job import Job
from recipes.parts.search.records import Trial, best_trial
from recipes.parts.search.trial_lists import number, reason, score, scored, searched, settings, without_fixed


class LiveTable:
    """The best trial so far, what the workers do, how many trials are done, and how long it will take.

    On a terminal this is one table that changes, with a line above it for each trial that fails. Elsewhere (a log file,
    a pipe) each trial that ends is a line. Whatever is shown is plain text: names of users are never read as markup.

    Args:
        display: Where to show it; its bars are hidden as long as the table is there.
        job: What is searched.
        workers: How many trials run at once.
        defaults: The values of hyperparameters that are not worth telling, as nothing was changed.
        spent: Seconds that the search took before, if it is resumed.

    Example:
        ```python
        with Display() as display, LiveTable(display, job, workers=2) as live:
            while not finished:
                live.update(trials, running, replaced=3)
        ```
    """

    def __init__(
        self,
        display: Display,
        job: Job,
        *,
        workers: int = 1,
        defaults: Mapping[str, Any] | None = None,
        spent: float = 0.0,
    ) -> None:
        self.display = display
        self.job = job
        self.workers = workers
        self.defaults = dict(defaults or {})
        self.began = time.monotonic() - spent
        self.told: set[str] | None = None
        self.head = Text()
        self.shown = Group()
        self.live: Live | None = None

    def __enter__(self) -> "LiveTable":
        if self.display.console.is_terminal:
            if self.display.live is not None:  # a terminal has room for one
                self.display.live.stop()
            console = self.display.console
            self.live = Live(get_renderable=lambda: self.shown, console=console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()
            if self.display.live is not None:
                self.display.live.start()

    def say(self, line: str) -> None:
        """Show a line, such as that a worker was lost; on a terminal it stays above the table."""
        self.display.say(printable(line))

    def update(self, trials: Sequence[Trial], running: Sequence[Pulse] = (), *, replaced: int = 0) -> None:
        """Show the state of things. Trials that had ended before the first call are not told again.

        Args:
            trials: All, final runs included.
            running: What each worker does.
            replaced: Candidates that were over a budget.
        """
        trials = without_fixed(trials, self.job)
        ended = [trial for trial in trials if trial.status in ("done", "failed")]
        if self.told is None:
            self.told = {trial.id for trial in ended}
            self.head = self._best(trials)
        elif any(trial.id not in self.told for trial in ended):
            self.head = self._best(trials)
        for trial in ended:
            if trial.id not in self.told:
                self.told.add(trial.id)
                if self.live is None or trial.status == "failed":
                    self.say(self._line(trial, trials))
        if self.live is not None:
            self.shown = self._table(trials, running, replaced)

    def _line(self, trial: Trial, trials: Sequence[Trial]) -> str:
        """What came of a trial."""
        seconds = f"{trial.outcome.seconds:.1f} s" if trial.outcome else ""
        if trial.status == "failed":
            return f"{trial.id}  failed  {reason(trial)}  {seconds}"
        name = MEASURES[self.job.objective]
        if trial.final:
            tested = trial.outcome.test.get(self.job.objective) if trial.outcome else None
            measured = f"test {name} {tested:.3f}" if tested is not None else ""
            return f"{trial.id}  done  {measured}  {seconds}"
        best = best_trial(scored(trials), self.job.objective)
        told = f"(best {score(best):.3f}, {best.id})" if best and best.id != trial.id else "(the best so far)"
        return f"{trial.id}  done  {name} {score(trial):.3f}  {told}  {seconds}   {settings(trial.hyperparameters)}"

    def _table(self, trials: Sequence[Trial], running: Sequence[Pulse], replaced: int) -> Group:
        workers = table("worker", "trial", "epoch", "time", "memory, GB", words=2)
        for one in running:
            epoch = f"{one.epoch} of {one.epochs}" if one.epochs else ""
            memory = f"{one.memory_bytes / 1e9:.2f}" if one.memory_bytes else ""
            add_row(workers, (one.worker, one.trial or "-", epoch, duration(one.seconds) if one.trial else "", memory))
        foot = Text(self._counts(trials, replaced), style="dim")
        for line in (self.head, foot):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(self.head, *([workers] if running else []), foot)

    def _best(self, trials: Sequence[Trial]) -> Text:
        """The best so far, and how it differs from the default: first in what goes with the score most."""
        done = scored(trials)
        best = best_trial(done, self.job.objective)
        if best is None:
            return Text("no trial is done yet")
        changed = {
            name: value
            for name, value in best.hyperparameters.items()
            if name not in self.defaults or self.defaults[name] != value
        }
        told = dict(sorted(changed.items(), key=lambda item: -explained(done, item[0])))
        head = f"best {MEASURES[self.job.objective]} {score(best):.4f}, trial {printable(best.id)}   "
        return Text(head, style="bold").append(settings(told), style="not bold")

    def _counts(self, trials: Sequence[Trial], replaced: int) -> str:
        own = searched(trials)
        states = Counter(trial.status for trial in own)
        to_come = max(0, self.job.max_trials - len(own))
        told = [f"{states['done']} done", f"{states['failed']} failed", f"{states['running']} running"]
        told += [f"{states['waiting'] + to_come} waiting"]
        if replaced:
            told.append(f"{replaced} replaced, over a budget")
        finals = [trial for trial in trials if trial.final]
        if finals:
            ended = sum(trial.status in ("done", "failed") for trial in finals)
            told.append(f"final runs: {ended} done, {len(finals) - ended} running")
        left = self._left(own)
        if left is not None and not finals:
            told.append(f"at most about {duration(left)} left")
        return ", ".join(told)

    def _left(self, own: Sequence[Trial]) -> float | None:
        """Seconds until the last trial has ended; None before one is done."""
        spent = [trial.outcome.seconds for trial in own if trial.status == "done" and trial.outcome]
        if not spent:
            return None
        mean = sum(spent) / len(spent)
        now = time.time()
        under_way = [max(0.0, mean - (now - trial.began)) for trial in own if trial.status == "running"]
        waiting = sum(trial.status == "waiting" for trial in own)
        to_come = max(0, self.job.max_trials - len(own))
        left = (sum(under_way) + mean * (waiting + to_come)) / self.workers
        if self.job.max_total_seconds is None:
            return left
        return min(left, max(0.0, self.job.max_total_seconds - (time.monotonic() - self.began)) + mean)


def explained(trials: Sequence[Trial], name: str) -> float:
    """Roughly, the share of the variance of scores that a hyperparameter explains alone: quick, for a live table.

    Args:
        trials: Those with a score.
        name: Of the hyperparameter. Numbers are taken as low or high, words one by one.
    """
    pairs = [(trial.values[name], score(trial)) for trial in trials if name in trial.values]
    values = [value for value, _ in pairs]
    if values and all(map(number, values)):
        middle = statistics.median(values)
        pairs = [(value > middle, own) for value, own in pairs]
    groups: dict[str, list[float]] = {}
    for value, own in pairs:
        groups.setdefault(repr(value), []).append(own)
    scores = [own for _, own in pairs]
    free = len(scores) - len(groups)
    if free < 1 or len(set(scores)) < 2:
        return 0.0
    within = sum(statistics.pvariance(group) * len(group) for group in groups.values())
    total = statistics.pvariance(scores) * len(scores)
    return 1 - within / total * (len(scores) - 1) / free  # as if groups were no more than chance has it (adjusted R2)
