"""`report.md`: what a search found, as a page to read."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.parts import cost_tables
from recipes.parts.display import duration
from recipes.parts.markdown import escaped, table
from recipes.parts.names import counted, shortened
from recipes.parts.search.final_runs import HEADINGS, final_rows, verdict
from recipes.parts.search.importance import Importances
from recipes.parts.search.job import Job
from recipes.parts.search.pareto import Cost, pareto_front
from recipes.parts.search.records import Trial, best_trial, sign
from recipes.parts.search.trial_lists import (
    OBJECTIVES,
    hyperparameter_names,
    number,
    reason,
    score,
    scored,
    searched,
    settings,
    shown,
)

COSTS = ("parameters", "multiply-adds, M", "latency, ms")
MOST_ROWS = 10
MOST_VALUES = 12
"""Different values of a hyperparameter beyond which only their ends are told."""


def report_page(
    job: Job, trials: Sequence[Trial], importances: Importances, *, replaced: int, seconds: float | None
) -> str:
    """Write the page in Markdown.

    Args:
        job: What was searched.
        trials: In any state, final runs included.
        importances: Of the hyperparameters.
        replaced: Candidates that were over a budget.
        seconds: That the search took; None if that is not known.
    """
    lines = [
        *_head(job, trials, replaced, seconds),
        *_finals(job, trials),
        *_best(job, trials),
        *_fronts(job, trials),
        *_space(job, trials, importances),
        *_failed(trials),
    ]
    return "\n".join(lines) + "\n"


def title(job: Job) -> str:
    """What was searched, in a few words that are not escaped."""
    space = Path(job.space).name if "/" in job.space or "\\" in job.space else job.space
    return f"Search of the space {shortened(space, 40)} on {shortened(job.data, 60)}"


def summary(job: Job, trials: Sequence[Trial]) -> str:
    """How far it is and how good the best is, in a line that is not escaped."""
    states = Counter(trial.status for trial in searched(trials))
    told = [counted(states.total(), "trial")]
    told += [f"{states[state]} {state}" for state in ("done", "failed", "running", "waiting") if states[state]]
    best = best_trial(scored(trials), job.objective)
    if best is not None:
        told.append(f"best {OBJECTIVES[job.objective]} {score(best):.4f} (trial {shortened(best.id, 12)})")
    return ", ".join(told)


def _head(job: Job, trials: Sequence[Trial], replaced: int, seconds: float | None) -> list[str]:
    what = f"`zoo {job.recipe}` with {escaped(job.model)} at {job.image_size} pixels"
    lines = [
        f"# {escaped(title(job))}",
        "",
        f"{escaped(summary(job, trials))}.",
        "",
        f"- Trained is {what}, with the engine `{job.engine}` and seed {job.seed}, for at most "
        f"{counted(job.max_trials, 'trial')}; the score is the {OBJECTIVES[job.objective]}.",
    ]
    limits = [
        (job.max_params, "{:,} parameters"),
        (job.max_multiply_adds, "{:,} multiply-adds an image"),
        (job.max_latency_ms, "{:g} ms an image"),
        (job.max_trial_seconds, "{:g} s a trial"),
        (job.max_total_seconds, "{:g} s in all"),
    ]
    given = [text.format(limit) for limit, text in limits if limit is not None]
    if given:
        lines.append(f"- Budget: at most {', '.join(given)}.")
    if given or replaced:
        were = "was" if replaced == 1 else "were"
        lines.append(f"- {counted(replaced, 'candidate')} {were} over a budget and replaced by others.")
    if job.fix:
        lines.append(f"- Not searched, but given: {escaped(settings(job.fix))}.")
    if seconds is not None:
        lines.append(f"- The search took {duration(seconds)}.")
    return [*lines, "", "![Scores, costs and importance](search.png)", ""]


def _finals(job: Job, trials: Sequence[Trial]) -> list[str]:
    rows = final_rows(trials, job.objective)
    if not rows:
        return []
    failed = [trial for trial in trials if trial.final and trial.status == "failed"]
    return [
        "## Winner and default",
        "",
        "Both were trained again in full, with the same seeds, and then tested. Trials never see the test split. "
        "The best score of a search is too good by luck: of many trials the luckiest is taken. These runs are what to "
        "go by.",
        *table(
            [heading.replace("-\n", "-").replace("\n", ", ") for heading in HEADINGS],
            [[escaped(cell) for cell in row] for row in rows],
        ),
        *([f"**{escaped(said)}**", ""] if (said := verdict(trials, job.objective)) else []),
        *(f"- {escaped(trial.id)} failed: {escaped(reason(trial))}." for trial in failed),
        *([""] if failed else []),
    ]


def _best(job: Job, trials: Sequence[Trial]) -> list[str]:
    better = sign(job.objective)
    done = sorted(scored(trials), key=lambda trial: -better * score(trial))
    if not done:
        return ["## The best", "", "No trial is done.", ""]
    shown_of = f"The best {MOST_ROWS} of {len(done)}" if len(done) > MOST_ROWS else f"All {len(done)}"
    return [
        "## The best",
        "",
        f"{shown_of} that are done; `results.csv` has every trial, and `best.json` what `zoo {job.recipe} --config` "
        "takes to train the first of these.",
        *table(
            (
                "trial",
                OBJECTIVES[job.objective],
                "parameters",
                "multiply-adds, M",
                "latency, ms",
                "seconds",
                "settings",
            ),
            [_row(trial) for trial in done[:MOST_ROWS]],
        ),
    ]


def _row(trial: Trial) -> list[str]:
    assert trial.outcome is not None
    outcome = trial.outcome
    return [
        escaped(trial.id),
        f"{score(trial):.4f}",
        cost_tables.count(outcome.parameters),
        cost_tables.millions(outcome.multiply_adds),
        "" if outcome.latency_ms is None else f"{outcome.latency_ms:.2f}",
        f"{outcome.seconds:.1f}",
        escaped(settings(trial.hyperparameters)),
    ]


def _fronts(job: Job, trials: Sequence[Trial]) -> list[str]:
    done = scored(trials)
    costs: dict[Cost, str] = {
        "parameters": "parameters",
        "multiply_adds": "multiply-adds",
        "latency_ms": "latency",
    }
    fronts = {
        name: {trial.id for trial in pareto_front(done, cost, sign=sign(job.objective))} for cost, name in costs.items()
    }
    of_any = [trial for trial in done if any(trial.id in front for front in fronts.values())]
    if not of_any:
        return []
    rows = [
        [*_row(trial)[:5], ", ".join(name for name, front in fronts.items() if trial.id in front)]
        for trial in sorted(of_any, key=lambda trial: sign(job.objective) * -score(trial))
    ]
    headings = ("trial", OBJECTIVES[job.objective], *COSTS, "counting")
    return ["## Trials that no other beats at lower or equal cost", *table(headings, rows)]


def _space(job: Job, trials: Sequence[Trial], importances: Importances) -> list[str]:
    own = searched(trials)
    names = hyperparameter_names(own)
    if not names:
        return []
    best = best_trial(scored(trials), job.objective)
    found = {one.name: one for one in importances.hyperparameters}
    ordered = [*found, *(name for name in names if name not in found)]
    rows = []
    for name in ordered:
        one = found.get(name)
        rows.append(
            [
                escaped(name),
                escaped(_tried([trial.values[name] for trial in own if name in trial.values])),
                escaped(shown(best.values[name])) if best and name in best.values else "",
                f"{one.share:z.2f}" if one else "",
                f"{one.low:z.2f} to {one.high:z.2f}" if one else "",
            ]
        )
    lines = ["## The hyperparameters", *table(("name", "tried", "best trial", "importance", "90 % interval"), rows)]
    if importances.r2 is not None:
        lines += [
            "Importance is the share of the differences in rank between trials that rests on a hyperparameter, alone "
            "and together with others: how much worse a random forest predicts, on trials that it has not seen, when "
            f"its values are shuffled. It learned from {importances.trials} trials; its R2 on unseen ones is "
            f"{importances.r2:z.2f} (1 is perfect, 0 is no better than a guess). The interval tells how much it "
            "depends on which of these trials are asked.",
            "",
        ]
    if any("tuner/round" in trial.values for trial in own):
        lines += ["Of Hyperband, the first round of each combination counts, among those of the same budget.", ""]
    return [*lines, *([f"**{escaped(importances.notice)}**", ""] if importances.notice else [])]


def _tried(values: Sequence[Any]) -> str:
    different = {repr(value): value for value in values}
    if all(map(number, values)):
        ordered = sorted(set(values))
        if len(ordered) > MOST_VALUES:
            return f"{shown(ordered[0])} to {shown(ordered[-1])}"
        return ", ".join(map(shown, ordered))
    told = sorted(map(shown, different.values()))
    more = len(told) - MOST_VALUES
    return ", ".join(told[:MOST_VALUES]) + (f" and {more} more" if more > 0 else "")


def _failed(trials: Sequence[Trial]) -> list[str]:
    failed = [trial for trial in searched(trials) if trial.status == "failed"]
    if not failed:
        return []
    reasons = Counter(reason(trial) for trial in failed)
    rows = []
    for why, count in reasons.most_common():
        ids = [trial.id for trial in failed if reason(trial) == why]
        some = ", ".join(ids[:MOST_ROWS]) + (" ..." if len(ids) > MOST_ROWS else "")
        rows.append([str(count), escaped(shortened(why, 300)), escaped(some)])
    return ["## Failed", *table(("trials", "reason", "which"), rows)]
