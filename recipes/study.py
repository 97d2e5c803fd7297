"""What does each kind of pooling do to accuracy, cost and time?

    zoo study                                                     # handwritten digits, in some minutes
    zoo study --data idx:/usr/share/datasets/fashion-mnist --train-images 10000
    zoo study --data folder:PATH/photos --models vgg_tiny resnet20 --pools max soft --epochs 20

Every model is trained from scratch with every pool between its stages and every seed: same images, same order, same
schedule, no augmentation. The result is a table, as `table.csv` and `table.md`, and a figure, `study.png`. Accuracy is
that of the test split after the epoch of lowest validation loss; a difference counts if the ranges over seeds lie
apart. Time is that of a whole training, validation and tracing included.

A study that was stopped goes on with the same command and its `--out`: what has been trained is not trained again.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded, parse
from recipes.parts.config_file import config_to_json
from recipes.parts.defaults import choose_training_defaults
from recipes.parts.display import Display, duration
from recipes.parts.names import printable
from recipes.parts.networks import find_spec
from recipes.parts.run_folder import append_line, new_run_folder, read_run_file, write_json
from recipes.parts.settings import check_settings
from recipes.parts.stages import Stage
from recipes.parts.study_tables import draw_study, read_results, study_table, summarise, write_tables
from zoo import load_plugin, vary
from zoo.errors import InputError


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
    if config.epochs < 1:
        raise InputError(f"--epochs is 1 or more. Received: {config.epochs}")
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
    """A new folder, or that of the same study."""
    if config.out is None or not (config.out / "results.jsonl").exists():
        return new_run_folder(config.out, "study")
    begun = read_run_file(config.out, "config.json")
    wanted = config_to_json(config, leave_out=("out",))
    other = [name for name in wanted if begun.get(name) != wanted[name]]
    if other:
        changes = ", ".join(f"--{name.replace('_', '-')} was {begun.get(name)}" for name in other)
        raise InputError(
            f"{printable(str(config.out))} holds another study: {changes}. Give the same settings to go on with it, or "
            "another --out"
        )
    return nullcontext(config.out.absolute())


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
    results = folder / "results.jsonl"
    write_json(folder / "config.json", config_to_json(config, leave_out=("out",)))
    results.touch()
    done = {(row["model"], row["pool"], row["seed"]) for row in read_results(results)}
    # Seed by seed, so that a study that is stopped half-way has something to say of every pool.
    todo = [(*pair, seed) for seed in config.seeds for pair in specs if (*pair, seed) not in done]
    if done:
        display.say(f"  {len(done)} networks are trained already, {len(todo)} are not")
    with display.working("training") as progress:
        spent = 0.0
        for number, (model, pool, seed) in enumerate(todo):
            keras.backend.clear_session()
            keras.utils.set_random_seed(seed)
            classifier = build_untrained(specs[model, pool], image_size=size, num_classes=len(data.classes))
            total = describe(classifier.model).total
            (result,) = run_stages(
                classifier,
                [choose_stage(config)],
                data,
                batch_size=config.batch_size,
                augmentation=Augmentation(),
                seed=seed,
                callbacks=[Epochs()],
            )
            logits = Inference(classifier.model)(evaluation_batches(data.test, batch_size=config.batch_size))
            measured = measure(logits, data.test.labels, data.classes)
            append_line(
                results,
                {
                    "model": model,
                    "pool": pool,
                    "seed": seed,
                    "parameters": total.parameters,
                    "multiply_adds": total.multiply_adds,
                    "seconds": result.seconds,
                    "best_epoch": result.best_epoch,
                    "validation_loss": result.validation_loss,
                    "accuracy": measured["accuracy"],
                },
            )
            spent += result.seconds
            left = duration(spent / (number + 1) * (len(todo) - number - 1))
            display.say(
                f"  {number + 1}/{len(todo)}  {printable(model)}, {printable(pool)}, seed {seed}: test accuracy "
                f"{measured['accuracy']:.4f}, {result.seconds:.1f} s; about {left} left"
            )

    # 3. What came out.
    rows = summarise(read_results(results), models=config.models, pools=config.pools)
    write_tables(folder, rows)
    draw_study(folder / "study.png", rows, title=f"{printable(config.data)}, {size} px, {config.epochs} epochs")
    display.show(study_table(rows))
    display.say(f"see {printable(str(folder))}/study.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(run(parse(Config, arguments, prog="zoo study", description=__doc__ or "", presets=PRESETS)))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
