"""Did the search help? Its winner and the default recipe, trained again with the same seeds and tested once."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from recipes.parts import cost_tables
from recipes.parts.names import counted
from recipes.parts.search.records import FINALS, Objective, Trial, sign

MEASURES: dict[Objective, str] = {"accuracy": "accuracy", "loss": "loss", "macro_f1": "macro F1"}
HEADINGS = (
    *("", "seeds", "test", "lowest", "mean", "highest"),
    *("parameters", "multiply-\nadds, M", "latency\nms", "time\ns"),
)


@dataclass(frozen=True, kw_only=True)
class FinalRuns:
    """The final runs of the winner or of the default that are done."""

    kind: str
    """`winner` or `default`."""
    runs: tuple[Trial, ...]
    failed: int

    def tested(self, measure: Objective) -> list[float]:
        """What the test split gave, the lowest first."""
        return sorted(run.outcome.test[measure] for run in self.runs if run.outcome and measure in run.outcome.test)

    def validated(self, measure: Objective) -> float | None:
        """The mean over the seeds on the validation split."""
        values = [
            run.outcome.validation[measure] for run in self.runs if run.outcome and measure in run.outcome.validation
        ]
        return statistics.fmean(values) if values else None


def final_runs(trials: Iterable[Trial]) -> list[FinalRuns]:
    """The final runs among all trials, those of the winner first; only kinds of which some have ended."""
    ended = [trial for trial in trials if trial.final and trial.status in ("done", "failed")]
    made = []
    for kind in FINALS:
        own = sorted((trial for trial in ended if trial.final == kind), key=lambda trial: (len(trial.id), trial.id))
        done = tuple(trial for trial in own if trial.status == "done" and trial.outcome is not None)
        if own:
            made.append(FinalRuns(kind=kind, runs=done, failed=len(own) - len(done)))
    return made


def verdict(trials: Iterable[Trial], objective: Objective) -> str:
    """Say in a sentence or two whether the search helped; "" before both were tested.

    Args:
        trials: Of the session.
        objective: What the search was after; compared is the same on the test split.
    """
    tested = {final.kind: final.tested(objective) for final in final_runs(trials)}
    winner, default = (tested.get(kind, []) for kind in FINALS)
    if not winner or not default:
        return ""
    name = f"test {MEASURES[objective]}"
    direction = sign(objective)
    difference = statistics.fmean(winner) - statistics.fmean(default)
    more_or_less = f"the winner has {abs(difference):.4f} {'more' if difference > 0 else 'less'}"
    numbers = (
        f"The winner has a {name} of {_span(winner)}, the default of {_span(default)}; on average "
        f"{more_or_less if abs(difference) >= 5e-5 else 'they are alike'}."
    )
    if min(direction * value for value in winner) > max(direction * value for value in default):
        return f"The search helped: the worst run of the winner is better than the best of the default. {numbers} " + (
            _by_chance(len(winner), len(default))
        )
    if min(direction * value for value in default) > max(direction * value for value in winner):
        return f"The search did not help: the default is better in every run. {numbers}"
    return f"The search did not help, as far as {_runs(winner, default)} can tell: their ranges overlap. {numbers}"


def _by_chance(winner: int, default: int) -> str:
    orders = math.comb(winner + default, winner)
    return f"Of two recipes that are equally good, the first would come out so in 1 of {orders} such comparisons."


def _runs(winner: Sequence[float], default: Sequence[float]) -> str:
    if len(winner) == len(default):
        return f"{counted(len(winner), 'run')} each"
    return f"{counted(len(winner), 'run')} of the winner and {len(default)} of the default"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4f}" if low == high else f"{low:.4f} to {high:.4f}"


def final_rows(trials: Iterable[Trial], objective: Objective) -> list[tuple[str, ...]]:
    """The cells of a table of the final runs, under `HEADINGS`: the objective and accuracy of winner and default."""
    rows = []
    for final in final_runs(trials):
        measures: list[Objective] = [objective] if objective == "accuracy" else [objective, "accuracy"]
        costs = _costs(final)
        for measure in measures:
            values = final.tested(measure)
            numbers = [f"{value:.4f}" for value in (values[0], statistics.fmean(values), values[-1])] if values else []
            failed = f", {final.failed} failed" if final.failed else ""
            seeds = f"{len(final.runs)}{failed}"
            rows.append((final.kind, seeds, MEASURES[measure], *(numbers or [""] * 3), *costs))
    return rows


def _costs(final: FinalRuns) -> list[str]:
    outcomes = [run.outcome for run in final.runs if run.outcome]
    if not outcomes:
        return [""] * 4
    latencies = [outcome.latency_ms for outcome in outcomes if outcome.latency_ms is not None]
    return [
        cost_tables.count(outcomes[0].parameters),
        cost_tables.millions(outcomes[0].multiply_adds),
        f"{statistics.median(latencies):.2f}" if latencies else "",
        f"{statistics.fmean(outcome.seconds for outcome in outcomes):.1f}",
    ]


def final_table(trials: Iterable[Trial], objective: Objective) -> Table:
    """The final runs for a terminal: the winner and the default over their seeds."""
    made = cost_tables.table(*HEADINGS, words=3, roomy=False)
    for row in final_rows(trials, objective):
        cost_tables.add_row(made, row)
    return made
