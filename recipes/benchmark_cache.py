"""What running frozen layers once saves, and how its cost grows: `python -m recipes.benchmark_cache`.

MobileNetV2 at 96 pixels with a head for 10 classes, random weights and random images, float32, batches of 32.

First an epoch of training through all layers against one that begins at the cut, for three depths of unfreezing. Both
train the same layers, epoch by epoch in turn; the ratio is the median of the rounds' ratios, so that a slow moment of
the machine hits both sides alike. Then what 1, 4 and 16 times the images cost at the deepest cut, with a memory budget
that holds a tenth of the largest: time and memory that the process alone holds (`RssAnon`), above what it held before.
About 4 minutes on two cores; the README has what it printed there.
"""

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import keras
import numpy as np

from recipes.parts import backbones
from recipes.parts.activation_store import ActivationStore
from recipes.parts.activations import Activations, FrozenLayers
from recipes.parts.array_store import allocate
from recipes.parts.augment import Augmentation
from recipes.parts.blocks import group_layers
from recipes.parts.classifier import Classifier, preprocess
from recipes.parts.dataset import DataSet, Split
from recipes.parts.fitting import fit
from recipes.parts.inference import Inference
from recipes.parts.memory import held_bytes
from recipes.parts.mixing import Mixing
from recipes.parts.peak_memory import PeakMemory
from recipes.parts.prepared_stage import PreparedStage, Training
from recipes.parts.stage_cost import Caching
from recipes.parts.stages import Stage

SIZE, CLASSES, BATCH = 96, 10, 32
UNFREEZE = ("head", "from:block_16", "from:block_13")
IMAGES = 1_440
ROUNDS = 5
GROWTH = (500, 2_000, 8_000)
TRAINING = Training(
    batch_size=BATCH,
    augmentation=Augmentation(),
    seed=0,
    mixing=Mixing(),
    label_smoothing=0.0,
    class_weights=None,
    average=0.0,
    accumulate=1,
)


def build() -> Classifier:
    """The network, with random weights."""
    image = keras.Input((SIZE, SIZE, 3))
    network = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_tensor=preprocess("tf", image), input_shape=(SIZE, SIZE, 3)
    )
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(network.output)
    model = keras.Model(image, keras.layers.Dense(CLASSES, name="head_logits")(x))
    return Classifier(model, group_layers(model, backbones.find("MobileNetV2").block_patterns))


def make_data(images: int, folder: Path) -> DataSet:
    """Random images, in a file that is mapped, so that they take no memory."""
    generator = np.random.default_rng(0)

    def split(name: str, count: int) -> Split:
        pixels = allocate((count, SIZE, SIZE, 3), np.uint8, what="images", memory_budget_bytes=0, scratch_dir=folder)
        for row in pixels:
            row[:] = generator.integers(0, 256, row.shape, np.uint8)
        labels = (np.arange(count) % CLASSES).astype(np.int32)
        return Split(images=pixels, labels=labels, files=("",) * count, sha256=(f"{name} {count}",) * count)

    train, validation, test = split("train", images), split("validation", BATCH), split("test", BATCH)
    return DataSet(
        classes=tuple(map(str, range(CLASSES))),
        train=train,
        validation=validation,
        test=test,
        notices=(),
        unreadable=(),
        fingerprint="random",
    )


def make_activations(classifier: Classifier, data: DataSet, folder: Path, memory_budget_bytes: int) -> Activations:
    """An empty cache."""
    settings = FrozenLayers(store=ActivationStore(folder), memory_budget_bytes=memory_budget_bytes)
    return Activations(
        classifier.model, data, settings, batch_size=BATCH, augmentation=Augmentation(), seed=TRAINING.seed
    )


def prepare(classifier: Classifier, unfreeze: str, data: DataSet, activations: Activations | None) -> PreparedStage:
    """A stage that begins at the cut, or without activations one that runs all layers."""
    return PreparedStage(
        classifier,
        Stage(name="timed", unfreeze=unfreeze, epochs=100, learning_rate=1e-6),
        0,
        data,
        TRAINING,
        activations=activations,
        whole=Inference(classifier.model),
        caching=None if activations is None else Caching(True),
    )


class Epochs(keras.callbacks.Callback):
    """Seconds of each epoch of training."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin anew."""
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.began)


def epoch_seconds(classifier: Classifier, prepared: PreparedStage, train: Split, *, epochs: int) -> float:
    """Of the median of some epochs, the first not counted, as it starts the reading of batches."""
    clock = Epochs()
    with prepared.as_it_trains(classifier):
        batches = prepared.batches(train, first_epoch=0)
        fit(prepared.model, batches, epochs=1 + epochs, steps_per_epoch=prepared.steps, callbacks=[clock])
    return median(clock.seconds[1:])


def compare(folder: Path) -> None:
    """Print how much faster epochs are that begin at the cut."""
    print(f"{'trains':16} {'cut':22} {'all layers, s':>14} {'from the cut, s':>16} {'x faster':>9}")
    classifier = build()
    data = make_data(IMAGES, folder)
    activations = make_activations(classifier, data, folder / "compared", 10**9)
    for unfreeze in UNFREEZE:
        through = prepare(classifier, unfreeze, data, None)
        cached = prepare(classifier, unfreeze, data, activations)
        assert cached.cut is not None
        activations.fill(cached.requests, lambda done, total: None)
        train, _ = activations.load(cached.requests)
        times = []
        for _ in range(ROUNDS):
            slow = epoch_seconds(classifier, through, data.train, epochs=1)
            times.append((slow, epoch_seconds(classifier, cached, train, epochs=3)))
        slow, fast = (median(column) for column in zip(*times, strict=True))
        ratio = median(slow / fast for slow, fast in times)
        print(f"{unfreeze:16} {cached.cut.layer:22} {slow:14.2f} {fast:16.3f} {ratio:9.1f}", flush=True)


def grow(folder: Path, sizes: Sequence[int] = GROWTH) -> list[tuple[int, int, int]]:
    """Print what more images cost.

    Args:
        folder: For images and activations.
        sizes: Numbers of images.

    Returns:
        For each number of images, bytes of the cache, of the budget, and of the memory that was held above what was
        held before.
    """
    classifier = build()
    found = []
    print(f"{'images':>8} {'cache, MB':>10} {'budget, MB':>11} {'fill, s':>8} {'epoch, s':>9} {'held above, MB':>15}")
    for images in sizes:
        data = make_data(images, folder)
        # What the largest takes, which is in proportion, tells the budget of all.
        one = make_activations(classifier, data, folder / "none", 0)
        size = sum(map(one.bytes_of, prepare(classifier, UNFREEZE[-1], data, one).requests))
        budget = size * max(sizes) // (10 * images)
        activations = make_activations(classifier, data, folder / str(images), budget)
        prepared = prepare(classifier, UNFREEZE[-1], data, activations)
        memory = PeakMemory()
        before = held_bytes()
        began = time.perf_counter()
        activations.fill(prepared.requests, partial(_sample, memory))
        filled = time.perf_counter() - began
        train, _ = activations.load(prepared.requests)
        memory.sample()
        with prepared.as_it_trains(classifier):
            clock = Epochs()
            batches = prepared.batches(train, first_epoch=0)
            fit(prepared.model, batches, epochs=3, steps_per_epoch=prepared.steps, callbacks=[clock, memory])
        above = memory.bytes - before
        found.append((size, budget, above))
        print(
            f"{images:8,} {size / 1e6:10.1f} {budget / 1e6:11.1f} {filled:8.1f} {median(clock.seconds[1:]):9.2f} "
            f"{above / 1e6:15.0f}",
            flush=True,
        )
    return found


def _sample(memory: PeakMemory, done: int, total: int) -> None:
    memory.sample()


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder))
        print()
        grow(Path(folder))


if __name__ == "__main__":
    main()
