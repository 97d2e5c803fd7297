"""The folder of a search, and all that is known of it in one file, which is never half written."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from recipes.parts.names import printable
from recipes.parts.run_folder import complete_or_absent, to_json
from recipes.parts.search.records import Outcome, Trial
from zoo.errors import InputError

JOB, STATE = "search.json", "session.json"
TRIALS, WORKERS = "trials", "workers"
TRIAL, OUTCOME = "trial.json", "outcome.json"
FORMAT = 1


@dataclass(kw_only=True)
class Session:
    """A search as far as it has come.

    Args:
        folder: Of the search.
        trials: By their ids, in the order in which they began.
        engine: The state of what suggests them.
        space: The hyperparameters, as JSON.
        space_sha256: Of the user's file with the space; "" for one of ours.
        number: The next trial's.
        replaced: Candidates that were over a budget, in place of which others were tried.
        combinations: Of the space; None if it has no end.
        seconds: That the search took, all sittings together, final runs left out.
        over: Why no more trials begin; "" as long as they do.
    """

    folder: Path
    trials: dict[str, Trial] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    space: Any = None
    space_sha256: str = ""
    number: int = 0
    replaced: int = 0
    combinations: int | None = None
    seconds: float = 0.0
    over: str = ""
    _ended: dict[str, tuple[Trial, dict[str, Any]]] = field(default_factory=dict, repr=False, compare=False)

    def save(self) -> None:
        """Write it down."""
        values = {
            "format": FORMAT,
            "trials": [self._plain(trial) for trial in self.trials.values()],
            **{name: getattr(self, name) for name in _PLAIN},
        }
        with complete_or_absent(self.folder / STATE) as beside:
            # Not indented, which takes ten times as long: it is written twice a trial.
            beside.write_text(json.dumps(values, allow_nan=False), encoding="ascii")

    def _plain(self, trial: Trial) -> dict[str, Any]:
        """A trial as JSON; one that has ended is made so once."""
        if trial.outcome is None:
            return asdict(trial)
        ended, plain = self._ended.get(trial.id, (None, {}))
        if ended is not trial:
            plain = asdict(trial)
            self._ended[trial.id] = trial, plain
        return plain

    def trial_folder(self, trial_id: str) -> Path:
        """Where a trial keeps its files."""
        return self.folder / TRIALS / trial_id

    def outcome_of(self, trial: Trial) -> Outcome | None:
        """What the process that ran a trial wrote down at its end; None before it."""
        try:
            return Outcome(**json.loads((self.trial_folder(trial.id) / OUTCOME).read_text(encoding="ascii")))
        except (OSError, ValueError, TypeError):  # not there, or no longer whole, as on a disk that was damaged
            return None


_PLAIN = ("engine", "space", "space_sha256", "number", "replaced", "combinations", "seconds", "over")


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write down what came of a trial, in its folder; from then on it is over, whatever becomes of the process."""
    with complete_or_absent(folder / OUTCOME) as beside:
        beside.write_text(to_json(asdict(outcome)), encoding="ascii")


def write_trial(folder: Path, trial: Trial) -> None:
    """Write down what a worker is to run: KerasTuner's messages would round it to 7 digits."""
    folder.mkdir(parents=True, exist_ok=True)
    with complete_or_absent(folder / TRIAL) as beside:
        beside.write_text(to_json(asdict(trial)), encoding="ascii")


def read_trial(folder: Path) -> Trial:
    """What `write_trial` wrote."""
    return as_trial(json.loads((folder / TRIAL).read_text(encoding="ascii")))


def as_trial(values: dict[str, Any]) -> Trial:
    """A trial from its JSON object."""
    outcome = values.get("outcome")
    return Trial(**{**values, "outcome": None if outcome is None else Outcome(**outcome)})


def read_session(folder: Path) -> Session:
    """Read what a search has come to, whether it is under way or not.

    Args:
        folder: Of the search.

    Raises:
        InputError: If it holds no search, or the file is damaged.
    """
    path = folder / STATE
    try:
        values = json.loads(path.read_text(encoding="ascii"))
        if values["format"] != FORMAT:
            raise InputError(f"{printable(str(path))} was written by another version of this package")
        trials = {trial["id"]: as_trial(trial) for trial in values["trials"]}
        return Session(folder=folder, trials=trials, **{name: values[name] for name in _PLAIN})
    except FileNotFoundError:
        raise InputError(f"{printable(str(folder))} holds no search: there is no {STATE} in it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{printable(str(path))} is damaged ({type(error).__name__}: {error}). Begin anew with another --out"
        ) from None
