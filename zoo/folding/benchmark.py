"""How much faster a folded model is: `python -m zoo.folding.benchmark`.

Milliseconds a batch of the model and of its folded copy, and how many times faster the copy is. Both run from a plain
`tf.function` in inference mode, float32, with random weights, round by round in turn; the ratio is the median of the
rounds' ratios, so that a slow moment of the machine hits both sides alike. Under a minute on two cores; printed there:

    MobileNetV2, 160 px               1     17.8     12.7      1.42
    MobileNetV2, 160 px              32    203.3    139.9      1.42
    efficientnet_lite0, 224 px        1     25.6     18.0      1.40
    efficientnet_lite0, 224 px       32    615.8    431.9      1.46
"""

import statistics
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.build import build_model
from zoo.folding.fold import fold_batch_norm

# Image size and seconds for each batch size.
MODELS = {"MobileNetV2": 160, "efficientnet_lite0": 224}
BATCH_SIZES = (1, 32)
SECONDS = 8.0


def measure(model: keras.Model, batch_size: int, seconds: float) -> tuple[float, float, float]:
    """Time a model against its folded copy.

    Args:
        model: A functional model of images of fixed size.
        batch_size: Images at a time.
        seconds: How long to measure.

    Returns:
        Milliseconds a batch of the model, of its folded copy, and how many times faster the copy is.
    """
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, (batch_size, *model.input_shape[1:])), tf.float32)
    functions = [_inference(each) for each in (model, fold_batch_norm(model))]
    for function in functions:
        function(images)
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < end:
        for function, found in zip(functions, times, strict=True):
            found.append(_milliseconds(function, images))
    ratio = statistics.median(stock / folded for stock, folded in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratio


def _inference(model: keras.Model) -> Any:
    return tf.function(lambda images: model(images, training=False), autograph=False)


def _milliseconds(function: Any, images: tf.Tensor) -> float:
    start = time.perf_counter()
    function(images).numpy()
    return 1000 * (time.perf_counter() - start)


def _build(name: str, size: int) -> keras.Model:
    if hasattr(keras.applications, name):
        constructor: Any = getattr(keras.applications, name)
        model: keras.Model = constructor(weights=None, input_shape=(size, size, 3))
        return model
    return build_model(name, input_shape=(size, size, 3), num_classes=1000)


def main() -> None:
    """Measure and print."""
    print(f"{'':28} {'batch':>6} {'ms':>8} {'folded':>8} {'x faster':>9}")
    for name, size in MODELS.items():
        model = _build(name, size)
        for batch_size in BATCH_SIZES:
            stock, folded, ratio = measure(model, batch_size, SECONDS)
            title = f"{name}, {size} px"
            print(f"{title:28} {batch_size:6} {stock:8.1f} {folded:8.1f} {ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()
