"""All that a search leaves to look at, made from its session, whether that is under way or over."""

import re
from collections.abc import Sequence
from pathlib import Path

from recipes.parts.config_file import read_config
from recipes.parts.names import printable
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.hparams_logs import write_logs
from recipes.parts.search.importance import importances
from recipes.parts.search.job import Job
from recipes.parts.search.records import Trial
from recipes.parts.search.report_page import report_page, summary, title
from recipes.parts.search.results_file import write_best, write_finals_csv, write_results_csv
from recipes.parts.search.search_figure import draw_search
from recipes.parts.search.session import JOB, STATE, read_session
from recipes.parts.search.trial_lists import without_fixed
from zoo.errors import InputError

PAGE = "report.md"


def make_report(folder: Path) -> Path:
    """Make the results of a session again, from what it has written down so far.

    Args:
        folder: Of a search. It is written into it as well.

    Returns:
        The path of `report.md`.

    Raises:
        InputError: If the folder holds no search, if its files are damaged, or if it cannot be written.
    """
    session = read_session(folder)
    job = read_config(Job, folder / JOB)
    for name in session.trials:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):  # it is to be the name of a folder
            raise InputError(f"{printable(str(folder / STATE))} is damaged: {name!r} is not the id of a trial")
    write_results(folder, job, list(session.trials.values()), replaced=session.replaced, seconds=session.seconds)
    return folder / PAGE


def write_results(
    folder: Path, job: Job, trials: Sequence[Trial], *, replaced: int = 0, seconds: float | None = None
) -> None:
    """Write `results.csv`, `finals.csv`, `best.json`, `search.png`, `report.md` and logs in `tensorboard/`.

    Each file is complete or absent; one that would be empty, such as `best.json` before any trial is done, is absent.

    Args:
        folder: Where to.
        job: What is searched.
        trials: In any state, final runs included.
        replaced: Candidates that were over a budget.
        seconds: That the search has taken, without the final runs; None if that is not known.

    Raises:
        InputError: If the folder cannot be written.
    """
    trials = without_fixed(trials, job)
    worth = importances(trials)
    try:
        write_results_csv(folder / "results.csv", trials)
        write_finals_csv(folder / "finals.csv", trials)
        write_best(folder / "best.json", trials, job.objective)
        write_logs(folder / "tensorboard", trials)
        heading = f"{title(job)}\n{summary(job, trials)}"
        draw_search(folder / "search.png", trials, job.objective, worth, title=heading)
        with complete_or_absent(folder / PAGE) as beside:
            page = report_page(job, trials, worth, replaced=replaced, seconds=seconds)
            beside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"Cannot write the results into {printable(str(folder))}: {error.strerror}") from None
