"""How fast a step of fine-tuning is on a CPU, against stock Keras: `python -m recipes.benchmark_steps`.

All layers train but batch norm, with random weights, random images, batches of 32, float32, and Adam. Both sides are
the same network; one runs the layers and the optimizer of Keras, the other those of `recipes.parts.cpu_convolutions`
and `recipes.parts.optimizers`. They take turns, a few steps each; the ratio is the median of the rounds' ratios, so
that a slow moment of the machine hits both alike. About 4 minutes on two cores; the README has what it printed there.
"""

import time
from contextlib import ExitStack
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from recipes.parts import runtime
from recipes.parts.cpu_convolutions import fast_on_cpu
from recipes.parts.fitting import compile_for, fit
from recipes.parts.optimizers import make_optimizer
from zoo import build_model

CASES = (
    ("efficientnet_lite0", 64),
    ("efficientnet_lite0", 128),
    ("MobileNetV2", 96),
    ("MobileNetV2", 160),
    ("EfficientNetB0", 96),
    ("ResNet50", 96),
)
CLASSES, BATCH, STEPS, ROUNDS = 10, 32, 6, 7


def build(name: str, size: int) -> keras.Model:
    """A network with random weights, of the zoo or of Keras, batch norm frozen."""
    shape = (size, size, 3)
    if hasattr(keras.applications, name):
        constructor = getattr(keras.applications, name)
        model = constructor(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None)
    else:
        model = build_model(name, input_shape=shape, num_classes=CLASSES)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return model


def seconds_a_step(model: keras.Model, batches: tf.data.Dataset) -> float:
    """Of a few steps."""
    began = time.perf_counter()
    fit(model, batches, epochs=1, steps_per_epoch=STEPS, callbacks=())
    return (time.perf_counter() - began) / STEPS


def compare(name: str, size: int) -> None:
    """Print a line for a network."""
    images = np.random.default_rng(0).uniform(0, 255, (2 * BATCH, size, size, 3)).astype(np.float32)
    labels = np.arange(2 * BATCH, dtype=np.int32) % CLASSES
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH).repeat()
    schedule = keras.optimizers.schedules.CosineDecay(1e-6, decay_steps=10**6)
    stock, ours = build(name, size), build(name, size)
    compile_for(stock, keras.optimizers.Adam(schedule), label_smoothing=None)
    compile_for(ours, make_optimizer("adamw", ours.trainable_variables, schedule), label_smoothing=None)
    with ExitStack() as stack:
        stack.enter_context(fast_on_cpu(ours))
        for model in (stock, ours):
            seconds_a_step(model, batches)  # in which it is traced
        rounds = [(seconds_a_step(stock, batches), seconds_a_step(ours, batches)) for _ in range(ROUNDS)]
    ratios = [before / after for before, after in rounds]
    print(
        f"{name:20} {size:4} px {1e3 * median(before for before, _ in rounds):9.0f} ms "
        f"{1e3 * median(after for _, after in rounds):7.0f} ms {median(ratios):7.2f} x",
        flush=True,
    )
    keras.backend.clear_session()


def main() -> None:
    """Measure all."""
    runtime.start(seed=0, deterministic=None)
    print(f"{'network':20} {'size':>7} {'Keras':>12} {'here':>10} {'faster':>9}")
    for name, size in CASES:
        compare(name, size)


if __name__ == "__main__":
    main()
