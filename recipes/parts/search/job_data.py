"""The images of a search, decoded once for all trials of a process."""

from pathlib import Path

from recipes.parts import runtime
from recipes.parts.dataset import DataSet, materialise
from recipes.parts.scan import scan
from recipes.parts.search.job import Job
from recipes.parts.sources import open_source


def read_data(job: Job, scratch: Path) -> DataSet:
    """Read the images of a search. The split follows from the seed of the search, whatever the seed of a model.

    Args:
        job: The search.
        scratch: A folder for images that do not fit into memory.

    Returns:
        All three splits. Trials look at two of them.

    Raises:
        InputError: If there is something wrong with them.
    """
    found = scan(open_source(job.data), seed=job.seed, bad_images=job.bad_images)
    with runtime.native_stderr_held_back():
        return materialise(
            found,
            size=job.image_size,
            resize=job.resize,
            memory_budget_bytes=int(job.memory_budget * 1e9),
            scratch_dir=scratch,
        )
