"""How long a classifier takes in every form that can be served, and what of it is decoding and resizing."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from custom_ops.benchmark import interleaved, ratio
from recipes.parts.check_images import encode, photo
from recipes.parts.export_candidates import STOCK, Candidate
from recipes.parts.finished_run import FinishedRun
from recipes.parts.images import decode, decode_pixels, resize_pixels

JPEG_WIDTH, JPEG_HEIGHT, JPEG_QUALITY = 640, 480, 90


def measure_candidates(
    made: Sequence[Candidate], *, size: int, batch_size: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Take the time of candidates in turn, round by round, so that a slow moment of the machine hits all alike.

    Args:
        made: The candidates.
        size: Height and width of the images, pixels.
        batch_size: Images at once.
        seconds: How long to measure, or five rounds if they take longer.

    Returns:
        By name: `milliseconds` (median over the rounds), `fastest` and `slowest` (the tenth and ninetieth of a
        hundred), `images_per_second`, and `times_stock`: how many times faster than `model.export()`, the median of
        the ratios of each round, if that is among the candidates.
    """
    pixels = np.stack([np.asarray(photo(size, size, seed)) for seed in range(batch_size)])
    calls = [partial(each.ask, each.prepare(pixels)) for each in made]
    rounds = dict(zip((each.name for each in made), settled(calls, seconds), strict=True))
    measured = {}
    for name, times in rounds.items():
        median = statistics.median(times)
        measured[name] = {**spread(times), "images_per_second": 1000 * batch_size / median}
        if STOCK in rounds:
            measured[name]["times_stock"] = ratio(rounds[STOCK], times)
    return measured


def measure_parts(finished: FinishedRun, ours: Candidate, *, batch_size: int, seconds: float) -> dict[str, Any]:
    """Take the time of decoding and resizing JPEGs, and of the network, apart.

    Args:
        finished: The classifier.
        ours: Our SavedModel.
        batch_size: Images at once.
        seconds: How long to measure.

    Returns:
        By part, milliseconds an image as in `measure_candidates`: `decode`, `resize`, `decode and resize` (all three in
        a graph as the SavedModel has it) and `network`. And `kilobytes`: the mean size of a JPEG.
    """
    size, resize = finished.image_size, finished.resize
    files = [encode(photo(JPEG_HEIGHT, JPEG_WIDTH, seed), "JPEG", quality=JPEG_QUALITY) for seed in range(batch_size)]
    encoded = tf.constant(files)
    large = tf.stack([decode_pixels(file) for file in files])
    fitted = tf.stack([resize_pixels(each, size=size, resize=resize) for each in large])
    whole, square = (tf.TensorSpec(shape, tf.uint8) for shape in ((None, None, 3), (size, size, 3)))
    calls = {
        "decode": partial(each_image(decode_pixels, whole), encoded),
        "resize": partial(each_image(partial(resize_pixels, size=size, resize=resize), square), large),
        "decode and resize": partial(each_image(partial(decode, size=size, resize=resize), square), encoded),
        "network": partial(ours.ask, ours.prepare(fitted.numpy())),
    }
    rounds = settled(list(calls.values()), seconds)
    parts = {name: spread([each / batch_size for each in times]) for name, times in zip(calls, rounds, strict=True)}
    return {**parts, "kilobytes": statistics.mean(map(len, files)) / 1000}


def each_image(function: Callable[[tf.Tensor], tf.Tensor], result: tf.TensorSpec) -> Callable[[tf.Tensor], np.ndarray]:
    """A function of one image, for a batch, in a graph."""
    mapped = tf.function(lambda batch: tf.map_fn(function, batch, fn_output_signature=result), autograph=False)
    return lambda batch: mapped(batch).numpy()


def settled(calls: Sequence[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """Milliseconds of each call in each round.

    Every call is made twice in a row, and the second counts: the first finds the caches full of the weights of another,
    and threads of another that have not gone to sleep yet.
    """
    return interleaved([call for call in calls for _ in range(2)], seconds)[1::2]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, tenth and ninetieth of a hundred."""
    low, high = np.percentile(times, [10, 90])
    return {"milliseconds": statistics.median(times), "fastest": float(low), "slowest": float(high)}
