"""One attempt at a candidate: whatever goes wrong with it becomes an outcome, and the process goes on."""

import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import tensorflow as tf

from recipes.parts.failure import Failed
from recipes.parts.search.forgetting import forget_trial
from recipes.parts.search.records import Outcome
from recipes.parts.stage_events import StageCallback, StageResult, StageStart
from recipes.parts.stages import Stage
from zoo.errors import InputError

OnEpoch: TypeAlias = Callable[[int, int, dict[str, float]], None]
"""Told how many epochs of all stages are done, how many there are, and Keras's logs of the last one."""
OnFilling: TypeAlias = Callable[[], None]
"""Told whenever frozen layers have seen a batch whose activations many trials will read."""

TRACEBACK = "traceback.txt"
_LONGEST_REASON = 300


class OverBudget(Exception):
    """A candidate is larger or slower than it may be; the message says in one line what is over."""


def attempt(run: Callable[[Outcome], None], folder: Path) -> Outcome:
    """Run a candidate to its end, whatever that is, and leave nothing of it in memory.

    Args:
        run: Fills in an outcome that says `done`. What it took is added to its `seconds`, which may begin below 0 for
            what is not the candidate's own.
        folder: Of the trial, made if need be. What is no foreseen failure leaves a `traceback.txt` in it.

    Returns:
        The outcome; of one that failed, with what was known by then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(status="done")
    began = time.perf_counter()
    try:
        run(outcome)
    except OverBudget as error:
        outcome.status, outcome.reason = "over_budget", one_line(error)
    except (InputError, Failed) as error:
        outcome.status, outcome.reason = "failed", one_line(error)
    except tf.errors.ResourceExhaustedError:
        outcome.status, outcome.reason = "failed", "out of memory"
    except (Exception, SystemExit) as error:  # a user's space may build anything
        outcome.status, outcome.reason = "failed", f"{type(error).__name__}: {one_line(error)}"
        (folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
    outcome.seconds += time.perf_counter() - began
    forget_trial()
    return outcome


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of bearable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."


def require_latency(milliseconds: float, most: float | None) -> None:
    """Raise `OverBudget` for a model that is too slow."""
    if most is not None and milliseconds > most:
        raise OverBudget(f"takes {milliseconds:.2f} ms an image; --max-latency-ms allows {most:g}")


def note_results(outcome: Outcome, results: Sequence[StageResult]) -> None:
    """Write down what training came to on the validation split.

    Raises:
        InputError: If nothing was trained.
    """
    last = results[-1] if results else None
    if last is None or last.validation_loss is None:
        raise InputError("nothing is trained: every stage has 0 epochs, or unfreezes nothing")
    measured = {
        "accuracy": last.validation_accuracy,
        "loss": last.validation_loss,
        "macro_f1": last.validation_macro_f1,
    }
    outcome.validation = {name: value for name, value in measured.items() if value is not None}
    outcome.epochs = sum(result.epochs for result in results)


class ReportEpochs(StageCallback):
    """Tell how far the stages are.

    Args:
        stages: In order.
        on_epoch: Who is told of epochs.
        on_filling: Who is told that frozen layers run.
    """

    def __init__(self, stages: Sequence[Stage], on_epoch: OnEpoch, on_filling: OnFilling) -> None:
        super().__init__()
        self.lengths = [stage.epochs for stage in stages]
        self.on_epoch = on_epoch
        self.on_filling = on_filling
        self.before = 0

    def on_stage_begin(self, start: StageStart) -> None:
        """Count the stages before it whole, as the schedule does."""
        self.before = sum(self.lengths[: start.index])

    def on_frozen_progress(self, done: int, total: int) -> None:
        """Pass it on."""
        self.on_filling()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Pass it on."""
        self.on_epoch(self.before + epoch + 1, sum(self.lengths), dict(logs or {}))
