"""What every recipe that trains asks of its settings, whatever the data."""

import math

from zoo.errors import InputError


def check_settings(*, batch_size: int | None, seed: int, memory_budget: float) -> None:
    """Raise `InputError` for a setting that is out of its range.

    Args:
        batch_size: Images a step; None leaves it open.
        seed: Seed of everything random.
        memory_budget: GB.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"A batch holds 1 image or more. Received: --batch-size {batch_size}")
    if not 0 <= seed < 2**32:
        raise InputError(f"A seed is 0 or more, and below 2^32. Received: --seed {seed}")
    if not 0 <= memory_budget < math.inf:
        raise InputError(f"A memory budget is 0 GB or more. Received: --memory-budget {memory_budget}")
