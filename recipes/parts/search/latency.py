"""How long a model takes for one image, as it would be served."""

import time
from statistics import median

import keras
import tensorflow as tf

from recipes.parts.inference import Inference
from zoo.folding import fold_batch_norm

SECONDS = 0.3
WARM_UP = 3
"""Runs that do not count: in the first one the network is traced."""


def latency_ms(model: keras.Model, *, seconds: float = SECONDS) -> float:
    """Time a model on single images.

    Args:
        model: From images of a fixed size to anything. It stays as it is; what is timed is a copy with folded batch
            norm.
        seconds: How long to go on.

    Returns:
        Milliseconds of the median run.
    """
    infer = Inference(fold_batch_norm(model))
    image = (tf.zeros((1, *model.input.shape[1:])),)
    list(infer.batches([image] * WARM_UP))
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        list(infer.batches([image]))
        times.append(time.perf_counter() - began)
    return 1e3 * median(times)
