"""Which hyperparameters suit my images?

    zoo search                                                    # architectures for handwritten digits
    zoo search --data folder:PATH/photos --model vgg_small --vary pool depth width --max-trials 60 --workers 2
    zoo search --space finetune --data folder:PATH/flowers --backbone MobileNetV2
    zoo search --space my_space.py --data folder:PATH/photos --fix optimizer=adamw
    zoo search --report runs/search-architecture-digits           # of a search that runs, too

Trials with different pooling, depth, width, rates and so on are trained in worker processes, each judged on the
validation split, and the next is chosen from what came of those before (`--engine`). The best one and the default are
then trained again, at full length and with three seeds each, and measured on the test split for the first time. The
folder holds `report.md`, `search.png`, `results.csv`, and `best.json`, which `zoo train --config` or `zoo finetune
--config` takes as it is.

The same command goes on with a search that was stopped, in whatever way: what is done is not done again.
"""

import hashlib
import math
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from recipes.parts import runtime
from recipes.parts.backbones import check_weights, find
from recipes.parts.command_line import guarded, parse
from recipes.parts.config_file import config_to_json, read_config
from recipes.parts.defaults import choose_defaults, choose_training_defaults
from recipes.parts.display import Display
from recipes.parts.failure import Failed
from recipes.parts.file_lock import try_lock
from recipes.parts.names import counted, printable
from recipes.parts.networks import find_spec
from recipes.parts.run_folder import LOCK
from recipes.parts.search.job import EngineName, Job, Recipe
from recipes.parts.search.records import Objective, best_trial
from recipes.parts.search.session import JOB, STATE, Session
from recipes.parts.search.space import split_file
from recipes.parts.search.trial_lists import searched
from recipes.parts.settings import check_settings
from zoo import load_plugin
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is searched, on what, and how long."""

    space: str = "architecture"
    """`architecture` (a zoo model, trained from scratch), `finetune` (a pretrained backbone), or a Python file with a
    space of your own, `FILE.py` or `FILE.py:NAME`."""
    data: str = "digits"
    """Where the images come from: `digits` (built in), `folder:PATH`, `idx:PATH` (IDX files, as MNIST has them), or
    `tfds:NAME`. Splits are drawn as in `zoo train`, and are the same for all trials."""
    model: str = "vgg_tiny"
    """The model that an architecture search begins from: one of `zoo list`, or the JSON file of a spec."""
    backbone: str = "efficientnet_lite0"
    """What a search for fine-tuning begins from: a model of `zoo` or a constructor of `keras.applications`."""
    weights: str = "imagenet"
    """`imagenet`, or a file of weights for the backbone."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers models, blocks or pools of your own. May be given several times."""
    vary: tuple[str, ...] = ()
    """Search only these: names of hyperparameters, or the beginnings that several have in common, such as `pool depth
    width`. The others keep their defaults."""
    fix: tuple[str, ...] = ()
    """Hyperparameters that are not searched, as NAME=VALUE."""
    engine: EngineName = "bayesian"
    """`random`, `bayesian` (a Gaussian process on the trials so far), `hyperband` (many short trials, of which the
    better ones go on) or `grid` (every combination)."""
    objective: Objective = "accuracy"
    """What the search is for, on the validation split: `accuracy`, `loss`, or `macro_f1`, for which rare classes count
    as much as others."""
    max_trials: int = 30
    """How many are begun. Hyperband counts each round of a trial, and goes on with those that it has begun."""
    max_total_seconds: float | None = None
    """No trial begins later than this, all sittings together."""
    max_trial_seconds: float | None = None
    """A trial that takes longer is ended, and counts as failed."""
    max_params: int | None = None
    """Models with more parameters are not trained."""
    max_multiply_adds: int | None = None
    """Models that take more multiply-adds for an image are not trained."""
    max_latency_ms: float | None = None
    """Models that take longer for one image, with folded batch norm, are not trained."""
    epochs: int | None = None
    """Of a trial from scratch; by default a third of what `zoo train` would take. For fine-tuning, the unit in which
    stages are counted."""
    seeds: int = 3
    """With how many seeds the best and the default are trained again in the end; 0 leaves that out."""
    workers: int = 1
    """Processes that train at the same time; they share the cores."""
    worker_memory: float | None = None
    """GB of memory above which a worker is replaced after a trial, and with half as much again in the middle of one. By
    default, its share of the machine's."""
    address: str = "127.0.0.1:0"
    """HOST:PORT at which workers on other machines find this search. Whoever reaches it can take trials: leave it open
    to no strangers."""
    join: str | None = None
    """HOST:PORT of a search on another machine, to which this one adds its --workers. Its folder, --out, must be the
    same for both, on a disk that they share."""
    extend: bool = False
    """Go on although the space has grown since; trials from before count."""
    image_size: int | None = None
    """Images are resized to this many pixels a side."""
    batch_size: int | None = None
    """Images a step."""
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    """How an image that is not square becomes so: its long side is squeezed or cut, or its short side padded."""
    augmentation: Literal["none", "light", "medium", "strong"] | None = None
    """How much training images are changed at random, where that is not searched."""
    horizontal_flip: bool = False
    """Also mirror training images left to right; right where a mirror image keeps its label."""
    bad_images: Literal["skip", "error"] = "skip"
    """What to do about files that cannot be decoded: list and skip them, or stop."""
    views: int = 4
    """Where images are augmented and frozen layers run once: in how many versions of each image."""
    memory_budget: float = 1.0
    """GB of decoded images, and of what frozen layers say of them, that each worker holds in memory."""
    cache: bool = True
    """Run frozen layers once for all trials, and keep what they say in the folder that `zoo cache` lists."""
    cache_limit: float = 20.0
    """GB that this folder may take; what was not used for longest goes first."""
    seed: int = 0
    """Decides the split, what is tried, and of each trial the order of images, augmentation and initial weights."""
    deterministic: bool | None = None
    """Make the same command give the same scores, bit for bit, with one worker. Free on a CPU, so on there by default.
    Also --deterministic and --no-deterministic."""
    report: Path | None = None
    """Only write the report of the search in this folder, which may be under way; nothing else goes with it."""
    out: Path | None = None
    """The folder of the search; by default runs/search-SPACE-DATA, in which the same command goes on."""


# What may change from one sitting to the next, as it changes nothing that is done.
FREE = (
    "max_trials",
    "max_total_seconds",
    "max_trial_seconds",
    "seeds",
    "workers",
    "worker_memory",
    "address",
    "join",
    "extend",
    "memory_budget",
    "cache",
    "cache_limit",
    "report",
    "out",
)
# What may change if the space has only grown.
OF_THE_SPACE = ("space", "vary", "fix")

PRESETS = {
    "smoke": Config(model="vgg_nano", image_size=16, epochs=1, max_trials=2, seeds=0, vary=("width",)),
}


def run(config: Config) -> Path:
    """Search, and write the report.

    Args:
        config: What to do.

    Returns:
        The folder of the search.

    Raises:
        InputError: If something in `config` or the data is wrong, or the folder is that of another search.
        Failed: If no trial can be trained.
    """
    if config.report is not None:
        if config != Config(report=config.report):
            raise InputError("--report takes the folder of a search, and nothing else goes with it")
        from recipes.parts.search.report import make_report

        return make_report(config.report)
    config = from_environment(config)
    check_config(config)
    folder = folder_of(config)
    if config.join is not None:
        from recipes.parts.search.joining import join

        with Display() as display:
            join(
                folder,
                config.join,
                workers=config.workers,
                memory_bytes=memory_bytes(config),
                display=display,
            )
        return folder
    if folder.exists() and not (folder / STATE).exists() and not all(map(of_a_beginning, folder.iterdir())):
        raise InputError(f"{printable(str(folder))} holds something else than a search. Choose another with --out")
    began = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / LOCK)
    if lock is None:
        raise InputError(f"The search in {printable(str(folder))} is under way already")
    try:
        with Display() as display:
            search(config, folder, display)
    finally:
        lock.release()
        if not began and not any(folder.iterdir()):
            folder.rmdir()
    return folder


def of_a_beginning(file: Path) -> bool:
    """Whether a file is one of those that a search writes first; it may have been killed before the last of them."""
    return bool(re.fullmatch(rf"{re.escape(LOCK)}|\.?(config|search|session)(-\d+)?\.json", file.name))


def from_environment(config: Config) -> Config:
    """Addresses as KerasTuner has them, in KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT."""
    host, port = os.environ.get("KERASTUNER_ORACLE_IP"), os.environ.get("KERASTUNER_ORACLE_PORT")
    if not host or not port or config.join is not None or config.address != Config.address:
        return config
    if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "chief"):
        return replace(config, address=f"{host}:{port}")
    return replace(config, join=f"{host}:{port}")


def folder_of(config: Config) -> Path:
    """Where a search is kept: in the same place whenever the same is searched."""
    if config.out is not None:
        return config.out.expanduser().absolute()
    if config.join is not None:
        raise InputError("--join needs --out, the folder of the search on a disk that both machines share")
    words = re.findall(r"[A-Za-z0-9._-]+", f"{Path(config.space).stem} {config.data.rstrip('/').split('/')[-1]}")
    return Path("runs", "-".join(["search", *words])).absolute()


def check_config(config: Config) -> None:
    """Raise `InputError` for what can be seen to be wrong before TensorFlow is loaded and the data is read."""
    check_settings(batch_size=config.batch_size, seed=config.seed, memory_budget=config.memory_budget)
    for name in ("max_trials", "epochs", "image_size", "workers", "max_params", "max_multiply_adds"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is 1 or more. Received: {value}")
    for name in ("max_total_seconds", "max_trial_seconds", "max_latency_ms", "worker_memory", "cache_limit"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name.replace('_', '-')} is more than 0. Received: {value:g}")
    for name in ("seeds", "views"):
        if getattr(config, name) < 0:
            raise InputError(f"--{name} is 0 or more. Received: {getattr(config, name)}")
    for name in ("address", "join"):
        value = getattr(config, name)
        if value is not None and not re.fullmatch(r"\S+:\d{1,5}", value):
            raise InputError(f"--{name} is HOST:PORT, as in 192.168.0.7:8600. Received: {value}")
    for pair in config.fix:
        if "=" not in pair:
            raise InputError(f"--fix takes NAME=VALUE, as in optimizer=adamw. Received: {pair}")
    if not config.plugin:  # which may register them
        if config.space == "architecture":
            find_spec(config.model)
        elif config.space == "finetune":
            check_weights(find(config.backbone), config.weights)


def memory_bytes(config: Config) -> int | None:
    """What a worker may hold; None for its share of the machine."""
    return None if config.worker_memory is None else int(config.worker_memory * 1e9)


def search(config: Config, folder: Path, display: Display) -> None:
    """Begin a search or go on with it, to its end."""
    gpu = runtime.start(seed=config.seed, deterministic=config.deterministic)
    import tensorflow as tf

    with suppress(RuntimeError):  # too late, as in a notebook
        tf.config.set_visible_devices([], "GPU")  # it is for the workers
    # These import TensorFlow, which has to be started first.
    from keras_tuner.engine.hyperparameters import Fixed

    from recipes.parts.search.bases import find_base, static_budget
    from recipes.parts.search.exploring import explore
    from recipes.parts.search.final_runs import final_table, verdict
    from recipes.parts.search.fixing import fix, keep_only
    from recipes.parts.search.report import make_report
    from recipes.parts.search.resuming import begin_or_go_on, refuse_another
    from recipes.parts.search.sitting import sit
    from recipes.parts.search.space import load_space

    # 1. What is searched, and how far that has come.
    for plugin in config.plugin:
        load_plugin(plugin)
    space = load_space(config.space)
    kept = {**config_to_json(config, leave_out=FREE), "files": digests_of_files(config)}
    refuse_another(folder, kept, leave_out=OF_THE_SPACE)
    job = go_on_with(config, folder) or settle(config, space.recipe, gpu=gpu, display=display)
    if space.recipe != job.recipe:
        raise InputError(
            f"{printable(str(folder))} holds a search for `zoo {job.recipe}`, and this space is for "
            f"`zoo {space.recipe}`. Begin this one with another --out"
        )
    with display.working("looking at the space"):
        base = find_base(job)
        hyperparameters = explore(space, base)
        if config.vary:
            hyperparameters = keep_only(hyperparameters, config.vary)
        hyperparameters = fix(hyperparameters, pairs(config))
        times = Counter(each.name for each in hyperparameters.space)
        fixed = [each for each in hyperparameters.space if isinstance(each, Fixed) and times[each.name] == 1]
        job = replace(job, fix={each.name: each.value for each in fixed})
        over_budget = static_budget(job, space, base, hyperparameters)
    session, engine = begin_or_go_on(folder, job, hyperparameters, kept, extend=config.extend)
    for line in described(job, session, hyperparameters):
        display.say(line)

    # 2. Trials, in workers, and final runs.
    trials = sit(
        session,
        engine,
        job,
        over_budget=over_budget,
        final_seeds=range(config.seeds),
        workers=config.workers,
        memory_bytes=memory_bytes(config),
        address=config.address,
        display=display,
        defaults=hyperparameters.values,
    )

    # 3. What came out.
    with display.working("writing the report"):
        page = make_report(folder)
    if trials and best_trial(trials, job.objective) is None:
        raise Failed(f"no trial could be trained; see {printable(str(page))}")
    if told := verdict(trials, job.objective):
        display.show(final_table(trials, job.objective))
        display.say(told)
    display.say(f"see {printable(str(page))}, {printable(str(folder / 'search.png'))}")
    if (folder / "best.json").exists():
        display.say(f"try `zoo {job.recipe} --config {shlex.quote(printable(str(folder / 'best.json')))}`")


def go_on_with(config: Config, folder: Path) -> Job | None:
    """What a search was when it was begun, with what may change since; None if it is new."""
    if not (folder / JOB).exists() or not (folder / STATE).exists():
        return None
    free = {name: getattr(config, name) for name in FREE if name in Job.__dataclass_fields__}
    return replace(read_config(Job, folder / JOB), **free, space=whole_space(config))


def settle(config: Config, recipe: Recipe, *, gpu: bool, display: Display) -> Job:
    """Choose what was left open, from the data."""
    from recipes.parts.scan import scan
    from recipes.parts.sources import open_source

    with display.working("reading images") as progress:
        found = scan(open_source(config.data), seed=config.seed, bad_images=config.bad_images, progress=progress)
    facts: dict[str, Any] = {"train_images": found.count("train"), "median_side": found.median_side, "gpu": gpu}
    if recipe == "train":
        spec = find_spec(config.model)
        defaults = choose_training_defaults(native_size=spec.image_size, output_stride=spec.output_stride, **facts)
        # Hyperband shortens trials itself.
        share = 1 if config.engine == "hyperband" else 3
        epochs = config.epochs or math.ceil(defaults.epochs / share)
    else:
        backbone = find(config.backbone)
        check_weights(backbone, config.weights)
        defaults = choose_defaults(
            num_classes=len(found.classes),
            native_size=backbone.default_size,
            smallest_size=backbone.smallest_size,
            **facts,
        )
        epochs = config.epochs or defaults.epochs
    for name in ("image_size", "batch_size", "augmentation"):
        if not getattr(config, name):
            display.say(f"  {defaults.reasons[name]}")
    for notice in found.notices:
        display.say(f"  {notice}")
    weights = Path(config.weights).expanduser()
    model = config.model if recipe == "train" else config.backbone
    given = {name: getattr(config, name) for name in Job.__dataclass_fields__ if name in Config.__dataclass_fields__}
    settled: dict[str, Any] = {
        "space": whole_space(config),
        "recipe": recipe,
        "data": found.source.name if config.data.startswith(("folder:", "idx:")) else config.data,
        "model": str(Path(model).expanduser().absolute()) if model.endswith(".json") else model,
        "weights": str(weights.absolute()) if weights.is_file() else config.weights,
        "plugin": tuple(plugin.expanduser().absolute() for plugin in config.plugin),
        "fix": {},  # known when the space is
        "image_size": config.image_size or defaults.image_size,
        "batch_size": config.batch_size or defaults.batch_size,
        "augmentation": config.augmentation or defaults.augmentation,
        "epochs": epochs,
        "final_epochs": defaults.epochs,
        "num_classes": len(found.classes),
    }
    return Job(**{**given, **settled})


def digests_of_files(config: Config) -> dict[str, str]:
    """SHA-256 of the files that decide what is trained, besides images and the space."""
    named = [config.model if config.model.endswith(".json") else "", config.weights, *map(str, config.plugin)]
    files = [Path(name).expanduser() for name in named if name]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


def pairs(config: Config) -> dict[str, str]:
    """What `--fix` gives, by the names of hyperparameters."""
    return dict(pair.split("=", 1) for pair in config.fix)


def whole_space(config: Config) -> str:
    """The space, so that workers find its file from anywhere."""
    place, name = split_file(config.space)
    if not place.endswith(".py"):
        return config.space
    return ":".join(filter(None, [str(Path(place).expanduser().absolute()), name]))


def described(job: Job, session: Session, space: Any) -> list[str]:
    """What the search is about to do, in a few lines."""
    names = list(dict.fromkeys(each.name for each in space.space if each.name not in job.fix))
    all_of = session.combinations
    size = "no end of combinations" if all_of is None else counted(all_of, "combination")
    lines = [f"searching {counted(len(names), 'hyperparameter')}, {size}: {', '.join(map(printable, names))}"]
    if trials := searched(session.trials.values()):
        lines.append(f"going on behind {counted(len(trials), 'trial')}")
    if all_of is not None and all_of < job.max_trials:
        lines.append(
            f"the space has fewer combinations than the {job.max_trials} trials of --max-trials: each is tried once"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(run(parse(Config, arguments, prog="zoo search", description=__doc__ or "", presets=PRESETS)))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
