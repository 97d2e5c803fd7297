"""What a person sees while a recipe runs: one live display on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

ProgressCallback = Callable[[int, int | None], None]


class Display:
    """Lines above, bars below.

    On a terminal every stage has a bar from the start, and one line tells the time left over all of them. Elsewhere
    (a log file, a pipe) each epoch is a line. Whatever is shown is plain text: names of files and classes are never
    read as markup.

    Args:
        console: Where to show it; standard output by default.
        quiet: Show nothing, as when the output is for a program.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(highlight=False, quiet=quiet)
        self.live: Live | None = None
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
        )
        self.clock = Clock()
        self.tasks: list[TaskID] = []

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, text: str = "") -> None:
        """Show a line, wrapped on a terminal only."""
        self.console.print(Text(text), soft_wrap=not self.console.is_terminal)

    def show(self, table: Table) -> None:
        """Show a table."""
        self.console.print(table)

    @contextmanager
    def working(self, label: str) -> Iterator[ProgressCallback]:
        """A bar for one long job.

        Args:
            label: What is being done, such as "decoding images".

        Yields:
            A function to call with how much is done and how much there is (None if unknown).
        """
        task = self.bars.add_task(label, total=None, note="")
        if self.live is None:
            self.say(f"  {label}")

        def advance(done: int, total: int | None) -> None:
            self.bars.update(task, completed=done, total=total)

        try:
            yield advance
        finally:
            self.bars.remove_task(task)

    def expect_stages(
        self, names: Sequence[str], epochs: Sequence[int], costs: Sequence[float], beginnings: Sequence[float]
    ) -> None:
        """Show the stages to come.

        Args:
            names: Of the stages.
            epochs: The most epochs that each may take.
            costs: Roughly how an epoch of each compares in time, in any unit.
            beginnings: What each takes before its first epoch, in that unit.
        """
        self.clock = Clock(epochs=epochs, costs=costs, beginnings=beginnings)
        self.names = list(names)
        self.tasks = [
            self.bars.add_task(f"{name:<12}", total=total, start=False, note="")
            for name, total in zip(names, epochs, strict=True)
        ]

    def begin_stage(self, index: int) -> None:
        """A stage begins."""
        self.clock.begin(index)
        self.bars.start_task(self.tasks[index])

    def note(self, index: int, text: str) -> None:
        """Show a few words beside the bar of a stage."""
        self.bars.update(self.tasks[index], note=text)

    def end_batch(self, index: int, epochs: float) -> None:
        """`epochs` of a stage are done, parts of an epoch included."""
        self.clock.advance(epochs)
        self.bars.update(self.tasks[index], completed=int(epochs))

    def end_epoch(self, index: int, epoch: int, numbers: dict[str, float]) -> None:
        """An epoch, counted from 1, is done; `numbers` are Keras's logs."""
        note = (
            f"loss {numbers['loss']:.3f}   validation loss {numbers['val_loss']:.3f}, "
            f"accuracy {numbers['val_accuracy']:.3f}"
        )
        self.bars.update(self.tasks[index], completed=epoch, note=note)
        if self.live is None:
            total = self.clock.epochs[index]
            self.say(f"  {self.names[index]}  epoch {epoch}/{total}   {note}   {numbers['seconds']:.1f} s")

    def end_stage(self, index: int, epochs: int) -> None:
        """A stage is done, perhaps after fewer epochs than it might have taken."""
        self.clock.end(index, epochs)
        self.bars.update(self.tasks[index], completed=epochs, total=max(epochs, 1))
        self.bars.stop_task(self.tasks[index])

    def _render(self) -> Group:
        left = self.clock.left()
        line = "" if left is None else f"about {duration(left)} left, less if a stage stops early"
        return Group(self.bars.get_renderable(), Text(line, style="dim"))


class Clock:
    """How long the stages will still take, from how long they took so far.

    Args:
        epochs: The most epochs of each stage.
        costs: Roughly how an epoch of each stage compares in time.
        beginnings: What each stage takes before its first epoch.
    """

    def __init__(
        self, epochs: Sequence[int] = (), costs: Sequence[float] = (), beginnings: Sequence[float] = ()
    ) -> None:
        self.epochs = list(epochs)
        self.costs = list(costs)
        self.beginnings = list(beginnings)
        self.index = 0
        self.done = 0.0
        self.began = time.perf_counter()
        self.finished_seconds = 0.0
        self.finished_units = 0.0

    def begin(self, index: int) -> None:
        """A stage begins."""
        self.index = index
        self.done = 0.0
        self.began = time.perf_counter()

    def advance(self, epochs: float) -> None:
        """So many epochs of the stage are done."""
        self.done = epochs

    def end(self, index: int, epochs: int) -> None:
        """The stage is done, after so many epochs."""
        self.finished_seconds += time.perf_counter() - self.began
        self.finished_units += self._units(index, epochs)
        self.epochs[index] = epochs
        self.done = epochs

    def left(self) -> float | None:
        """Seconds left if no stage stops early; None before there is anything to go by."""
        if not self.epochs:
            return None
        running = self._units(self.index, self.done) if 0 < self.done < self.epochs[self.index] else 0.0
        units = self.finished_units + running
        seconds = self.finished_seconds + (time.perf_counter() - self.began if running else 0.0)
        if units <= 0:
            return None
        total = sum(self._units(index, epochs) for index, epochs in enumerate(self.epochs))
        return seconds / units * max(0.0, total - units)

    def _units(self, index: int, epochs: float) -> float:
        return self.beginnings[index] + epochs * self.costs[index]


def duration(seconds: float) -> str:
    """Seconds as a person says them: "42 s", "3 min 10 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def complain(message: str) -> None:
    """One line on standard error."""
    print(message, file=sys.stderr, flush=True)
