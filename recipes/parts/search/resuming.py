"""Begin a search, or go on with one that was stopped, if it is the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tuner import HyperParameters

from recipes.parts.config_file import config_to_json
from recipes.parts.names import listed, printable
from recipes.parts.run_folder import write_json
from recipes.parts.search.engine import Engine, make_engine
from recipes.parts.search.hyperparameters import count_combinations, from_json, to_json
from recipes.parts.search.job import Job
from recipes.parts.search.session import JOB, STATE, Session, read_session
from recipes.parts.search.space import split_file
from recipes.parts.search.space_changes import can_extend, differences
from zoo.errors import InputError

CONFIG = "config.json"


def begin_or_go_on(
    folder: Path,
    job: Job,
    space: HyperParameters,
    settings: Mapping[str, Any],
    *,
    extend: bool,
) -> tuple[Session, Engine]:
    """Make ready what a search keeps.

    Args:
        folder: Of the search.
        job: What it is.
        space: Its hyperparameters.
        settings: What it was called with, as JSON; whatever may change from one sitting to the next left out.
        extend: Whether the space may have grown since.

    Returns:
        The session, saved, and the engine, where they were.

    Raises:
        InputError: If the folder holds a search of another space; the message says in what it differs.
    """
    if (folder / STATE).exists():
        session = read_session(folder)
        engine = _go_on(session, job, space, extend=extend)
    else:
        session = Session(folder=folder)
        engine = _engine(job, space)
    session.engine = engine.state()
    session.space = to_json(space)
    session.space_sha256 = _sha256(job.space)
    session.combinations = count_combinations(space)
    write_json(folder / CONFIG, settings)
    write_json(folder / JOB, config_to_json(job))
    session.save()
    return session, engine


def _engine(job: Job, space: HyperParameters) -> Engine:
    return make_engine(job.engine, space, job.objective, job.seed, job.max_trials)


def refuse_another(folder: Path, settings: Mapping[str, Any], *, leave_out: Sequence[str]) -> None:
    """Raise `InputError` if a folder holds a search that was called with something else.

    Args:
        folder: Perhaps of a search.
        settings: As for `begin_or_go_on`.
        leave_out: Those that are compared elsewhere.
    """
    if not (folder / STATE).exists():
        return
    before = json.loads((folder / CONFIG).read_text(encoding="ascii"))
    now = json.loads(json.dumps(settings))
    changed = [
        f"--{name.replace('_', '-')} was {_shown(before.get(name))}, is {_shown(value)}"
        for name, value in now.items()
        if before.get(name) != value and name not in (*leave_out, "files")
    ]
    files = before.get("files", {}).items()
    changed += [f"{printable(name)} is another file" for name, digest in files if now["files"].get(name) != digest]
    if changed:
        raise InputError(
            f"{printable(str(folder))} holds another search: {listed(changed)}. Begin this one with another --out"
        )


def _go_on(session: Session, job: Job, space: HyperParameters, *, extend: bool) -> Engine:
    place = printable(str(session.folder))
    old = from_json(session.space)
    grown = differences(old, space)
    if grown and not can_extend(old, space):
        raise InputError(
            f"The space has changed since the search in {place} was begun: {listed(grown)}. Trials from before do not "
            "belong to it: begin anew with another --out"
        )
    edited = session.space_sha256 != _sha256(job.space)
    if (grown or edited) and not extend:
        what = listed(grown) if grown else "its file was edited"
        raise InputError(
            f"The space has changed since the search in {place} was begun: {what}. Go on all the same with --extend, "
            "or begin anew with another --out"
        )
    engine = _engine(job, old)
    engine.restore(session.engine)
    if grown:
        engine.extend(space)
    _reopen(session, job, grown=bool(grown))
    return engine


def _reopen(session: Session, job: Job, *, grown: bool) -> None:
    """Let trials begin again if there may be more of them than when the search was over."""
    trials = sum(not trial.final for trial in session.trials.values())
    in_time = job.max_total_seconds is None or session.seconds < job.max_total_seconds
    more = session.combinations is None or trials + session.replaced < session.combinations or grown
    if session.over and trials < job.max_trials and in_time and more:
        session.over = ""
        # Another trial may win.
        session.trials = {name: trial for name, trial in session.trials.items() if trial.final != "winner"}


def _sha256(space: str) -> str:
    """Of the file of a user's space."""
    place, _ = split_file(space)
    return hashlib.sha256(Path(place).read_bytes()).hexdigest() if place.endswith(".py") else ""


def _shown(value: Any) -> str:
    return printable(json.dumps(value))
