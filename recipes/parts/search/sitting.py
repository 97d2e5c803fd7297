"""One sitting of a search: a chief and its workers, from where it stands until all is done or somebody stops it."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from threadpoolctl import threadpool_limits

from recipes.parts.display import Display
from recipes.parts.failure import Failed
from recipes.parts.search.chief import Chief, serve
from recipes.parts.search.engine import Engine
from recipes.parts.search.job import Job
from recipes.parts.search.live_table import LiveTable
from recipes.parts.search.records import Trial, longest
from recipes.parts.search.session import Session
from recipes.parts.search.supervisor import SILENT, OtherMachines, Supervisor

LOOK_SECONDS = 0.2
"""Between two looks at the workers."""


def sit(
    session: Session,
    engine: Engine,
    job: Job,
    *,
    over_budget: Callable[[Mapping[str, Any]], str],
    final_seeds: Sequence[int],
    workers: int,
    memory_bytes: int | None,
    address: str,
    display: Display,
    defaults: Mapping[str, Any],
) -> list[Trial]:
    """Run trials, and final runs after them.

    Args:
        session: As far as the search has come; kept up to date, and written down at every change.
        engine: Suggests trials.
        job: What the search is.
        over_budget: As of `Chief`.
        final_seeds: As of `Chief`.
        workers: Processes on this machine.
        memory_bytes: What each may hold; None for its share of the machine.
        address: `HOST:PORT` at which workers of other machines find the chief.
        display: Where to show it.
        defaults: The values of hyperparameters that are not worth telling.

    Returns:
        All trials.

    Raises:
        Failed: If no trial can be trained, or nothing can listen at the address.
        KeyboardInterrupt: At Ctrl-C. What is done is kept.
    """
    names = [f"worker-{number}" for number in range(1, workers + 1)]
    spent = session.seconds
    with (
        threadpool_limits(1),  # the cores are for the workers
        LiveTable(display, job, workers=workers, defaults=defaults, spent=spent) as live,
    ):
        chief = Chief(session, engine, job, over_budget=over_budget, final_seeds=final_seeds, say=live.say)
        server, reached_at = serve(chief, address, threads=2 * workers + 8)
        supervisor = Supervisor(
            session.folder,
            names,
            reached_at,
            memory_bytes=memory_bytes,
            deadline=job.max_trial_seconds,
            on_lost=chief.worker_lost,
            longest=lambda: longest(chief.trials),
            needed=lambda: not chief.finished(),
        )
        others = OtherMachines(session.folder, names, on_gone=chief.give_up)
        try:
            while not chief.finished():
                supervisor.look()
                pulses = [*supervisor.pulses(), *others.look()]
                chief.give_up_strangers([*names, *(pulse.worker for pulse in pulses)], seconds=SILENT)
                live.update(chief.trials, pulses, replaced=session.replaced)
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            report = f"zoo search --report {shlex.quote(str(session.folder))}"
            live.say(f"what is done is kept; the same command goes on, and `{report}` shows it")
            raise
        finally:
            supervisor.stop()
            server.stop(None)
        live.update(chief.trials, replaced=session.replaced)
    if chief.stopping:
        raise Failed(chief.stopping)
    return chief.trials
