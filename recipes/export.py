"""How do I serve a finished run?

    zoo export runs/finetune-20260101T120000 --to served                  # served/finetune-20260101T120000/1
    zoo export RUN --to served --name flowers                             # served/flowers/1, then 2, 3 ...
    zoo export --check served/flowers                                     # is it still what was exported?

Writes a SavedModel in the layout of TensorFlow Serving, with everything inside: files of images are decoded and resized
as in training, then normalised, classified and calibrated; batch norm is folded. It needs TensorFlow alone to run.
Beside it stand a model card, the names of the classes, and warm-up requests.

Before it gets its number, a fresh process that has none of our code loads it and compares it with the trained model,
on validation images and awkward ones. An export that does not answer the same is not kept: one line says what differs
and by how much. The last line printed is the folder of the new version.

The images of the check stay with the export, in `assets.extra/check.npz`, so that `--check` can repeat it anywhere. Up
to 48 of them are validation images of the run: delete that file where they must not go.

Measured: 17 s for EfficientNet-Lite0 at 32 pixels, on 2 CPU cores that had other work (one run).
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display
from recipes.parts.names import listed, printable
from recipes.parts.run_folder import to_json
from recipes.parts.version_folder import beside_versions, check_name, find_version, put_in_place
from zoo.errors import InputError

if TYPE_CHECKING:
    from recipes.parts.finished_run import FinishedRun


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to export, or to check."""

    run: tyro.conf.Positional[Path | None] = None
    """A run folder: the last line that `zoo finetune` or `zoo train` printed."""
    to: Path | None = None
    """The folder of all served models; made if it is not there."""
    name: str | None = None
    """What the model is called where it is served; by default as the run folder is."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if the model has any. May be given several times."""
    check: Path | None = None
    """Instead of exporting, check a version of a served model, or the newest one, as it was when it was exported."""


def run(config: Config) -> Path:
    """Export a finished run, or check an export.

    Args:
        config: What to export where, or what to check.

    Returns:
        The folder of the version.

    Raises:
        InputError: If the run folder or the place is no good.
        Failed: If the export does not answer as the trained model does. Nothing is left of it then.
    """
    if config.check is not None:
        if config != Config(check=config.check):
            raise InputError("--check takes the folder of an export, and nothing else goes with it")
        return check(config.check)
    if config.run is None or config.to is None:
        raise InputError("Give the run folder, and with --to where served models are; or --check and an export")
    name = check_name(config.run.resolve().name if config.name is None else config.name)
    with beside_versions(config.to, name) as beside, Display() as display:
        runtime.start(seed=0, deterministic=False)
        import tensorflow as tf

        from recipes.parts.finished_run import load_run

        with suppress(RuntimeError):  # TensorFlow has run already, as in a notebook
            tf.config.set_visible_devices([], "GPU")  # GPUs round otherwise than the CPU of the check
        return export(load_run(config.run, plugins=config.plugin), name, beside, display)


def export(finished: "FinishedRun", name: str, beside: Path, display: Display) -> Path:
    """Write an export, check it, and make it the next version.

    Args:
        finished: The run.
        name: Of the served model.
        beside: A folder beside the versions.
        display: Where to show what is being done.

    Returns:
        The folder of the version.
    """
    import numpy as np
    import tensorflow as tf

    from recipes.parts.check_images import encode, gather_check_images, photo
    from recipes.parts.checked_export import check_export, write_answers
    from recipes.parts.failure import Failed
    from recipes.parts.model_card import CARD, checksums, model_card, read_history
    from recipes.parts.model_card_text import card_text
    from recipes.parts.recorded import read_split
    from recipes.parts.serving_model import ServingModel
    from recipes.parts.warmup import FILE_NAME, write_warmup

    # 1. What the trained model answers.
    history, records = read_history(finished.folder), read_split(finished.folder / "split.jsonl")
    with display.working("asking the trained model") as progress, runtime.native_stderr_held_back():
        images = gather_check_images(finished, records, progress=progress)
        write_answers(beside, finished, images.encoded)
    if not images.own:
        display.say("  no validation image of the run can be found: comparing on made-up ones")

    # 2. The SavedModel, and what stands beside it.
    warm_image = photo(finished.image_size, finished.image_size, 0)
    pixels = {"pixels": np.asarray(warm_image)[np.newaxis]}
    encoded = {"image_bytes": np.array([encode(warm_image, "JPEG")], object)}
    requests = [("serving_default", encoded), ("pixels", pixels), ("features", pixels)]
    with display.working("writing the SavedModel"), runtime.native_stderr_held_back():
        served = ServingModel(finished)
        try:
            served.save(beside)
            write_warmup(beside / "assets.extra" / FILE_NAME, name, requests)
        except tf.errors.OpError as error:  # such as a full disk
            raise Failed(f"The SavedModel cannot be written: {printable(str(error.message))}") from None
    labels = "".join(f"{printable(each)}\n" for each in finished.classes)
    (beside / "labels.txt").write_text(labels, encoding="utf-8")

    # 3. The check, and the card that says what came of it.
    with display.working("checking it in a fresh process"):
        checks = check_export(beside)
    card = model_card(
        finished,
        history,
        records,
        served,
        name=name,
        checks=checks,
        images=len(images.encoded),
        own_images=images.own,
        files=checksums(beside),
    )

    def write_card(version: int) -> None:
        numbered = {"version": version, **card}
        (beside / f"{CARD}.json").write_text(to_json(numbered), encoding="ascii")
        (beside / f"{CARD}.md").write_text(card_text(numbered), encoding="utf-8")

    place = put_in_place(beside, write_card)
    show(checks, display)
    if served.kept:
        display.say(f"  batch norms that could not be folded: {listed([norm for norm, _ in served.kept])}")
    return place


def check(folder: Path) -> Path:
    """Check an export: that its files are what they were, and that it answers what the trained model answered.

    Args:
        folder: Of a version, or of all versions of a served model, of which the newest is checked.

    Returns:
        The folder of the version.

    Raises:
        InputError: If it is no export, or not whole.
        Failed: If a file has changed, or it does not answer the same.
    """
    version = find_version(folder)
    runtime.start(seed=0, deterministic=False)
    from recipes.parts.checked_export import check_export
    from recipes.parts.failure import Failed
    from recipes.parts.model_card import CARD, checksums

    with Display() as display:
        try:
            recorded: dict[str, str] = json.loads((version / f"{CARD}.json").read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{printable(str(version))} has no model card that can be read: {error}") from None
        now = checksums(version)
        changed = sorted(file for file in recorded.keys() | now.keys() if recorded.get(file) != now.get(file))
        if changed:
            raise Failed(f"{printable(str(version))} is not what was exported: changed, gone or new: {listed(changed)}")
        with display.working("checking it in a fresh process"):
            checks = check_export(version)
        show(checks, display)
    return version


def show(checks: Sequence[dict[str, Any]], display: Display) -> None:
    """Print what was checked, a line each."""
    from recipes.parts.checked_export import describe

    for each in checks:
        display.say(f"  {each['name']:<8} {describe(each)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(printable(str(run(tyro.cli(Config, args=arguments, prog="zoo export", description=__doc__)))))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
