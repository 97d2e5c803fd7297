"""What a search found, for other programs: `results.csv`, `finals.csv` and `best.json`."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.parts.names import printable
from recipes.parts.run_folder import complete_or_absent, write_json
from recipes.parts.search.records import Objective, Outcome, Trial, best_trial
from recipes.parts.search.trial_lists import COSTS, hyperparameter_names, scored, searched

MEASURES = ("accuracy", "loss", "macro_f1")
RESULTS = ("id", "status", "score", *MEASURES, *COSTS, "attempts", "worker", "reason")
"""The columns of `results.csv` before those of the hyperparameters."""
FINAL_RESULTS = (
    "id",
    "kind",
    "seed",
    "status",
    *(f"{split}_{name}" for split in ("validation", "test") for name in MEASURES),
    *COSTS,
    "attempts",
    "worker",
    "reason",
)


def write_results_csv(path: Path, trials: Sequence[Trial]) -> None:
    """Write a row for each trial in the order in which they began, without final runs.

    Hyperparameters stand in columns of their own, empty where a trial does not have them; one that is called like
    another column, or like another program's formula, is written so that it is neither.
    """
    own = searched(trials)
    engine = sorted({name for trial in own for name in trial.values if name.startswith("tuner/")})
    searched_names = hyperparameter_names(own)
    headings = [*RESULTS, *(f"hp/{name}" if name in RESULTS else name for name in searched_names), *engine]
    rows = []
    for trial in own:
        outcome = trial.outcome or Outcome(status="failed")
        values = {**trial.values, **_common(trial, outcome, MEASURES, outcome.validation)}
        rows.append(
            [*(values[name] for name in RESULTS), *(trial.values.get(name) for name in (*searched_names, *engine))]
        )
    _write(path, headings, rows)


def write_finals_csv(path: Path, trials: Sequence[Trial]) -> None:
    """Write a row for each final run; no file where there are none."""
    finals = [trial for trial in trials if trial.final]
    if not finals:
        path.unlink(missing_ok=True)
        return
    rows = []
    for trial in finals:
        outcome = trial.outcome or Outcome(status="failed")
        measured = {
            f"{split}_{name}": value
            for split in ("validation", "test")
            for name, value in getattr(outcome, split).items()
        }
        names = [name for name in FINAL_RESULTS if name.startswith(("validation_", "test_"))]
        values = {**_common(trial, outcome, names, measured), "kind": trial.final, "seed": trial.id.partition("-")[2]}
        rows.append([values[name] for name in FINAL_RESULTS])
    _write(path, FINAL_RESULTS, rows)


def _common(trial: Trial, outcome: Outcome, names: Sequence[str], measured: dict[str, float]) -> dict[str, Any]:
    """What a row says of a trial, by the headings; costs are empty where there is nothing known."""
    return {
        **{name: getattr(trial, name) for name in ("id", "status", "score", "attempts", "worker")},
        **{name: measured.get(name) for name in names},
        **{name: getattr(outcome, name) or None for name in COSTS},
        "reason": outcome.reason,
    }


def _write(path: Path, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with complete_or_absent(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(_cell, headings))
        writer.writerows(map(_cell, row) for row in rows)


def _cell(value: Any) -> Any:
    """A value for a cell: numbers as they are, and words so that no spreadsheet takes them for a formula."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = printable(str(value))
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def write_best(path: Path, trials: Sequence[Trial], objective: Objective) -> None:
    """Write what `zoo train` or `zoo finetune` takes as `--config` to train the best trial's model; else no file."""
    best = best_trial(scored(trials), objective)
    if best is None or best.outcome is None:
        path.unlink(missing_ok=True)
    else:
        write_json(path, best.outcome.settings)
