"""What does each kind of pooling do to accuracy, cost and time?

    zoo study                                                     # handwritten digits, in some minutes
    zoo study --data idx:/usr/share/datasets/fashion-mnist --train-images 10000
    zoo study --data folder:PATH/photos --models vgg_tiny resnet20 --pools max soft --epochs 20

Every model is trained from scratch with every pool between its stages and every seed: same images, same order, same
schedule, no augmentation. The result is a table, as `table.csv` and `table.md`, and a figure, `study.png`. Accuracy is
that of the test split after the epoch of lowest validation loss; a difference is worth a second look if the ranges over
seeds lie apart. Time is that of a whole training, validation and tracing included.

The second command takes about 15 minutes a seed on 2 CPU cores. `vgg_small` reached a test accuracy of 0.893 to 0.899
with max, soft, gem and mixed, and 0.885 to 0.893 with avg and blur; `separable_vgg_small` 0.876 to 0.878 with blur, and
0.850 to 0.874 with the others.

A study that was stopped goes on with the same command and its `--out`, and may be given more models, pools and seeds:
what has been trained is not trained again.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded, parse
from recipes.parts.config_file import config_to_json
from recipes.parts.defaults import choose_training_defaults
from recipes.parts.display import Display, duration
from recipes.parts.names import counted, listed, printable, shortened
from recipes.parts.networks import find_spec
from recipes.parts.run_folder import append_line, new_run_folder, read_run_file, write_json
from recipes.parts.settings import check_settings
from recipes.parts.stages import Stage, TrainingFailed
from zoo import ModelSpec, load_plugin, vary
from zoo.errors import InputError
from zoo.spec_json import to_json

STUDY, RESULTS = "study.json", "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to train, on what."""

    data: str = "digits"
    """Where the images come from: `digits` (built in), `folder:PATH`, `idx:PATH` (IDX files, as MNIST has them), or
    `tfds:NAME`."""
    models: tuple[str, ...] = ("vgg_small", "separable_vgg_small")
    """Models of `zoo list`, or JSON files of specs."""
    pools: tuple[str, ...] = ("max", "avg", "soft", "gem", "mixed", "blur")
    """What makes feature maps smaller between stages, by name."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides initial weights and the order of images; the first also the split, which is the same for all."""
    epochs: int = 5
    """How often each image is shown."""
    train_images: int | None = None
    """Train on so many of the training images only, spread evenly over the classes."""
    learning_rate: float = 0.002
    """Peak learning rate of AdamW."""
    image_size: int | None = None
    """Images are resized to this many pixels a side; by default chosen from the data."""
    batch_size: int = 64
    """Images a step."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How an image that is not square becomes so: its long side is squeezed or cut, or its short side padded."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers pools, blocks or models of your own. May be given several times."""
    out: Path | None = None
    """A folder, new or empty, or that of a study to go on with; by default runs/study-<UTC time>."""


PRESETS = {
    "smoke": Config(models=("vgg_nano",), pools=("max", "avg"), seeds=(0,), epochs=1, image_size=16),
}


def run(config: Config) -> Path:
    """Train whatever has not been trained yet, and write tables and figure.

    Args:
        config: What to train, on what.

    Returns:
        The folder.

    Raises:
        InputError: If something in `config` or the data is wrong, or the folder is that of another study.
        TrainingFailed: If a loss is no longer finite.
    """
    for name in ("models", "pools", "seeds"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise InputError(f"--{name} takes one value or more, each once. Received: {' '.join(map(str, values))}")
    for seed in config.seeds:
        check_settings(batch_size=config.batch_size, seed=seed, memory_budget=0)
    for name in ("epochs", "image_size"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is 1 or more. Received: {value}")
    choose_stage(config)
    if not config.plugin:  # which may register models and pools
        for model in config.models:
            find_spec(model)
    with _folder(config) as folder, Display() as display:
        _run(config, folder, display)
    return folder


def choose_stage(config: Config) -> Stage:
    """How each network is trained."""
    return Stage(
        name="training",
        unfreeze="all",
        epochs=config.epochs,
        patience=config.epochs,
        batch_norm="trained",
        learning_rate=config.learning_rate,
        weight_decay=0.05,
    )


def _folder(config: Config) -> AbstractContextManager[Path]:
    """A new folder, or one in which a study was begun."""
    if config.out is not None and config.out.is_dir():
        inside = {file.name for file in config.out.iterdir()}
        if STUDY in inside or inside == {"versions.json"}:  # the latter was killed before it knew its images
            return nullcontext(config.out.absolute())
    return new_run_folder(config.out, "study", record=RESULTS)


def begin_or_go_on(folder: Path, settings: dict[str, Any], networks: dict[str, ModelSpec]) -> list[dict[str, Any]]:
    """Write down what is studied, or compare it with what the folder is for.

    Args:
        folder: Of the study.
        settings: What every result depends on, plain values.
        networks: What is trained, by name. There may be others than before, but not under the same name.

    Returns:
        The results there are.

    Raises:
        InputError: If the folder is that of another study, or damaged.
    """
    from recipes.parts.study_tables import read_results  # imports matplotlib

    specs = {name: json.loads(to_json(spec)) for name, spec in networks.items()}
    if (folder / STUDY).exists():
        begun = read_run_file(folder, STUDY)
        known = begun.get("networks") if isinstance(begun, dict) else None
        if not isinstance(known, dict):
            raise InputError(f"{printable(str(folder / STUDY))} is damaged. Begin anew with another --out")
        changed = [name for name, value in settings.items() if begun.get(name) != value]
        changed += [name for name, spec in specs.items() if known.get(name, spec) != spec]
        if changed:
            raise InputError(
                f"{printable(str(folder))} holds another study; changed since: {listed(changed)}. To go on, give what "
                f"its {STUDY} says; else another --out"
            )
        specs = known | specs
    write_json(folder / STUDY, {**settings, "networks": specs})
    (folder / RESULTS).touch()
    return read_results(folder / RESULTS)


def _run(config: Config, folder: Path, display: Display) -> None:
    runtime.start(seed=config.seeds[0], deterministic=None)
    # These import TensorFlow, which has to be started first.
    import keras

    from recipes.parts.augment import Augmentation
    from recipes.parts.batches import evaluation_batches
    from recipes.parts.classifier import build_untrained
    from recipes.parts.dataset import materialise
    from recipes.parts.inference import Inference
    from recipes.parts.metrics import measure
    from recipes.parts.scan import scan
    from recipes.parts.sources import open_source
    from recipes.parts.study_tables import draw_study, read_results, study_table, summarise, write_tables
    from recipes.parts.subset import take_training_images
    from recipes.parts.training import run_stages
    from zoo.cost.describe import describe

    class Epochs(keras.callbacks.Callback):
        """Count the epochs of all trainings."""

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            progress(number * config.epochs + epoch + 1, len(todo) * config.epochs)

    # 1. The models and the data.
    for plugin in config.plugin:
        load_plugin(plugin)
    specs = {(model, pool): vary(find_spec(model), pool=pool) for model in config.models for pool in config.pools}
    with display.working("reading images") as progress:
        found = scan(open_source(config.data), seed=config.seeds[0], progress=progress)
    if config.train_images is not None:
        found = take_training_images(found, config.train_images, seed=config.seeds[0])
    size = config.image_size or max(
        choose_training_defaults(
            train_images=found.count("train"),
            median_side=found.median_side,
            native_size=spec.image_size,
            output_stride=spec.output_stride,
            gpu=False,
        ).image_size
        for spec in specs.values()
    )
    with display.working("building every model once"):
        for spec in specs.values():
            build_untrained(spec, image_size=size, num_classes=len(found.classes))
    with display.working("decoding images") as progress, runtime.native_stderr_held_back():
        data = materialise(found, size=size, resize=config.resize, scratch_dir=folder, progress=progress)
    for notice in data.notices:
        display.say(f"  {notice}")

    # 2. Training, one network after the other.
    settings = {
        # With the images and the specs themselves, as files of the same name may have become others. The first seed
        # shows in the images.
        **config_to_json(config, leave_out=("out", "models", "pools", "seeds", "plugin")),
        "images": data.fingerprint,
    }
    done = begin_or_go_on(folder, settings, {f"{model}, {pool}": spec for (model, pool), spec in specs.items()})
    trained = {(row["model"], row["pool"], row["seed"]) for row in done}
    # Seed by seed, so that a study that is stopped half-way has something to say of every pool.
    todo = [(*pair, seed) for seed in config.seeds for pair in specs if (*pair, seed) not in trained]
    if done:
        display.say(f"  {counted(len(done), 'network')} trained already, {len(todo):,} to go")
    with display.working("training") as progress:
        spent = 0.0
        for number, (model, pool, seed) in enumerate(todo):
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            classifier = build_untrained(specs[model, pool], image_size=size, num_classes=len(data.classes))
            total = describe(classifier.model).total
            row: dict[str, Any] = {
                "model": model,
                "pool": pool,
                "seed": seed,
                "parameters": total.parameters,
                "multiply_adds": total.multiply_adds,
            }
            try:
                (result,) = run_stages(
                    classifier,
                    [choose_stage(config)],
                    data,
                    batch_size=config.batch_size,
                    augmentation=Augmentation(),
                    seed=seed,
                    callbacks=[Epochs()],
                )
            except TrainingFailed as error:  # which it would again, with the same seed
                append_line(folder / RESULTS, {**row, "failed": str(error)})
                display.say(f"  {number + 1}/{len(todo)}  {printable(model)}, {printable(pool)}, seed {seed}: {error}")
                continue
            logits = Inference(classifier.model)(evaluation_batches(data.test, batch_size=config.batch_size))
            measured = measure(logits, data.test.labels, data.classes)
            row |= {
                "seconds": result.seconds,
                "best_epoch": result.best_epoch,
                "validation_loss": result.validation_loss,
                "accuracy": measured["accuracy"],
            }
            append_line(folder / RESULTS, row)
            spent += result.seconds
            left = duration(spent / (number + 1) * (len(todo) - number - 1))
            display.say(
                f"  {number + 1}/{len(todo)}  {printable(model)}, {printable(pool)}, seed {seed}: test accuracy "
                f"{measured['accuracy']:.4f}, {result.seconds:.1f} s; about {left} left"
            )

    # 3. What came out.
    results = [row for row in read_results(folder / RESULTS) if row["seed"] in config.seeds]
    rows = summarise(results, models=config.models, pools=config.pools)
    if not rows:
        raise TrainingFailed("Not one network could be trained: lower --learning-rate, and give another --out")
    write_tables(folder, rows)
    draw_study(folder / "study.png", rows, title=f"{shortened(config.data, 80)}, {size} px, {config.epochs} epochs")
    display.show(study_table(rows))
    display.say(f"see {printable(str(folder))}/study.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(run(parse(Config, arguments, prog="zoo study", description=__doc__ or "", presets=PRESETS)))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
