"""Do the same to many things in threads, and get the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

Progress = Callable[[int, int | None], None]
"""Is told how much is done, and how much there is (None if unknown)."""


def ordered_map(function: Callable[[T], R], items: Iterable[T], *, threads: int | None = None) -> Iterator[R]:
    """Yield `function(item)` for every item, in order, computed in threads.

    Unlike `ThreadPoolExecutor.map` it takes items only as fast as results are used, so that neither all items
    nor all results are ever in memory.

    Args:
        function: Runs in several threads at once. What it raises is raised here, in its place.
        items: Iterated in the calling thread.
        threads: How many; by default one a core that this process may use.
    """
    threads = threads or usable_cores()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
