"""The trials of a search for TensorBoard's HParams page.

TensorBoard makes out by itself, from all runs, which hyperparameters and measures there are, so that its page is right
while trials are still to come; the summary of an experiment would have to know them all beforehand. The files are
written with TensorBoard's own messages, and without TensorFlow.
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recipes.parts.names import printable
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.trial_lists import COSTS, searched

FILE = "events.out.tfevents.0.search"
"""Always the same name, so that a report that is made again duplicates nothing."""


def write_logs(folder: Path, trials: Iterable[Trial]) -> None:
    """Write the log of each trial that has ended, unless it is there.

    Args:
        folder: For `tensorboard --logdir`. Each trial's log is in a folder in it that is called like its id.
        trials: Of a search; final runs are left out.
    """
    for trial in searched(trials):
        if trial.status in ("done", "failed"):
            path = folder / trial.id / FILE
            log = _log(trial)
            if not path.is_file() or path.read_bytes() != log:
                path.parent.mkdir(parents=True, exist_ok=True)
                with complete_or_absent(path) as beside:
                    beside.write_bytes(log)


def _log(trial: Trial) -> bytes:
    """The events of a trial: its beginning with its hyperparameters, what it measured, and its end."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.record_writer import RecordWriter

    outcome = trial.outcome or Outcome(status="failed")
    ended = trial.began + outcome.seconds
    values = {printable(name): _plain(value) for name, value in trial.hyperparameters.items()}
    status = api_pb2.STATUS_SUCCESS if trial.status == "done" else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=ended)
    )
    end_summary = summary_pb2.Summary()
    end_summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG, metadata=metadata.create_summary_metadata(end), tensor=metadata.NULL_TENSOR
    )
    events = [
        event_pb2.Event(wall_time=trial.began, file_version="brain.Event:2"),
        event_pb2.Event(
            wall_time=trial.began,
            summary=summary_v2.hparams_pb(values, trial_id=trial.id, start_time_secs=trial.began),
        ),
        *(
            event_pb2.Event(wall_time=ended, step=outcome.epochs, summary=scalar_pb(name, value))
            for name, value in _measures(trial, outcome).items()
        ),
        event_pb2.Event(wall_time=ended, summary=end_summary),
    ]
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
    return file.getvalue()


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else printable(str(value))


def _measures(trial: Trial, outcome: Outcome) -> dict[str, float]:
    """What was measured, by the tags under which TensorBoard shows it."""
    if trial.status != "done":
        return {}
    validation = {f"validation/{name}": value for name, value in outcome.validation.items()}
    costs = {f"cost/{name}": getattr(outcome, name) for name in COSTS}
    return {**validation, **{name: value for name, value in costs.items() if value is not None}}
