"""How do I serve a finished run, or any classifier that Keras has saved?

    zoo export runs/finetune-20260101T120000 --to served                  # served/finetune-20260101T120000/1
    zoo export RUN --to served --name flowers                             # served/flowers/1, then 2, 3 ...
    zoo export RUN --to served --format litert onnx                       # and served/NAME-1.tflite, NAME-1.onnx ...
    zoo export model.keras --classes labels.txt --to served               # served/model/1
    zoo export --check served/flowers                                     # is it still what was exported?

Writes a SavedModel in the layout of TensorFlow Serving, with everything inside: files of images are decoded and resized
as in training, then normalised, classified and calibrated; batch norm is folded. It needs TensorFlow alone to run.
Beside it stand a model card, the names of the classes, and warm-up requests.

Before it gets its number, a fresh process that has none of our code loads it and compares it with the trained model,
on validation images and awkward ones. An export that does not answer the same is not kept: one line says what differs
and by how much. The last line printed is the folder of the new version.

With --format litert there are also NAME-VERSION.tflite in float32, NAME-VERSION-float16.tflite and
NAME-VERSION-int8.tflite, and with onnx NAME-VERSION.onnx, beside the folder NAME. They take RGB pixels, uint8 (batch,
size, size, 3), at the model's own size, and answer with `scores` and `logits`, float32 (batch, classes), in the order
of labels.txt. Each is compared with the trained model in a fresh process too, and all are kept or none. A score may
differ by 1e-4, with float16 by 0.05. For int8 the ranges of all numbers are taken from training images of the run, and
some accuracy is lost: the table of all files says how much, on the test split, and a warning if that is over a point.
An int8 file that takes more than half of the images of the check for another class than the trained model is not kept.

A .keras file has to take RGB pixels from 0 to 255 (whatever normalises them is inside the model) and to give logits, or
the probabilities of a softmax. Whether it does cannot be seen from the file: with --data, images in folders by class,
the accuracy that is printed tells. Its scores are not calibrated.

The images of the check stay with the export, in `assets.extra/check.npz`, so that `--check` can repeat it anywhere. Up
to 48 of them are validation images of the run: delete that file where they must not go.

Measured: 17 s for EfficientNet-Lite0 at 32 pixels, on 2 CPU cores that had other work (one run); 48 s for all formats
of MobileNetV2 at 96 pixels.
"""

import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from recipes.parts import runtime
from recipes.parts.command_line import guarded
from recipes.parts.display import Display, complain
from recipes.parts.extras import require
from recipes.parts.names import listed, printable
from recipes.parts.run_folder import to_json
from recipes.parts.version_folder import (
    beside_models,
    beside_versions,
    check_name,
    find_version,
    other_file,
    put_in_place,
)
from zoo.errors import InputError

if TYPE_CHECKING:
    from recipes.parts.exportable import Exportable


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to export, or to check."""

    model: tyro.conf.Positional[Path | None] = None
    """A run folder, the last line that `zoo finetune` or `zoo train` printed; or a .keras file."""
    to: Path | None = None
    """The folder of all served models; made if it is not there."""
    name: str | None = None
    """What the model is called where it is served; by default as the run folder or the file is."""
    format: tuple[Literal["savedmodel", "litert", "onnx"], ...] = ("savedmodel",)
    """One or several. The SavedModel is always written."""
    precision: tuple[Literal["float32", "float16", "int8"], ...] = ()
    """Which LiteRT files to write; by default all, or without int8 if no training image can be found."""
    data: str | None = None
    """Where the run's images are now, if they have moved; of a .keras file, images to measure on. `digits`,
    `folder:PATH`, `idx:PATH` or `tfds:NAME`."""
    classes: Path | None = None
    """Of a .keras file: a text file with the name of a class a line, in the order of the outputs."""
    resize: Literal["stretch", "crop", "pad"] | None = None
    """Of a .keras file: how images that are not square become so; `stretch` if not given."""
    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A Python file that registers layers of your own, if the model has any. May be given several times."""
    check: Path | None = None
    """Instead of exporting, check a version of a served model, or the newest one, as it was when it was exported."""


def run(config: Config) -> Path:
    """Export a model, or check an export.

    Args:
        config: What to export where, or what to check.

    Returns:
        The folder of the version.

    Raises:
        InputError: If the model or the place is no good, or a format cannot hold the model.
        Failed: If the export does not answer as the trained model does. Nothing is left of it then.
    """
    if config.check is not None:
        if config != Config(check=config.check):
            raise InputError("--check takes the folder of an export, and nothing else goes with it")
        return check(config.check)
    if config.model is None or config.to is None:
        raise InputError(
            "Give a run folder or a .keras file, and with --to where served models are; or --check and an export"
        )
    if config.precision and "litert" not in config.format:
        raise InputError("--precision is of LiteRT files: give --format litert too")
    for extra in ("litert", "onnx"):
        if extra in config.format:
            require(extra)
    own_name = config.model.resolve().name.removesuffix(".keras")
    name = check_name(own_name if config.name is None else config.name)
    alone = set(config.format) <= {"savedmodel"}
    with (
        beside_versions(config.to, name) as beside,
        nullcontext(beside) if alone else beside_models(config.to) as files,
        Display() as display,
    ):
        runtime.start(seed=0, deterministic=False)
        import tensorflow as tf

        from recipes.parts.exportable import load

        with suppress(RuntimeError):  # TensorFlow has run already, as in a notebook
            tf.config.set_visible_devices([], "GPU")  # GPUs round otherwise than the CPU of the check
        with display.working("loading the model") as progress:
            subject = load(
                config.model,
                classes=config.classes,
                resize=config.resize,
                data=config.data,
                plugins=config.plugin,
                progress=progress,
            )
        return export(subject, name, beside, files, config, display)


def export(subject: "Exportable", name: str, beside: Path, files: Path, config: Config, display: Display) -> Path:
    """Write an export, check it, and make it the next version.

    Args:
        subject: The model, and what is known of it.
        name: Of the served model.
        beside: A folder beside the versions.
        files: A folder beside the models, for files in other formats.
        config: Which formats.
        display: Where to show what is being done.

    Returns:
        The folder of the version.
    """
    import numpy as np
    import tensorflow as tf

    from recipes.parts.check_images import encode, gather_check_images, photo
    from recipes.parts.checked_export import check_export, check_pixels, write_answers
    from recipes.parts.export_images import NO_IMAGES, find_images
    from recipes.parts.exportable import measure_on_test
    from recipes.parts.failure import Failed
    from recipes.parts.model_card import CARD, model_card
    from recipes.parts.model_card_text import card_text
    from recipes.parts.other_formats import formats_table, wanted_formats, warnings_on, write_checked
    from recipes.parts.serving_model import ServingModel
    from recipes.parts.warmup import FILE_NAME, write_warmup

    # 1. Which formats, and what the trained model answers.
    finished, images = subject.finished, NO_IMAGES
    if subject.records and (subject.history is None or set(config.format) - {"savedmodel"}):
        with display.working("reading training and test images") as progress, runtime.native_stderr_held_back():
            images = find_images(finished, subject.records, progress=progress)
        for notice in images.notices:
            display.say(f"  {notice}")
    forms = wanted_formats(config.format, config.precision, representative=len(images.representative))
    if "litert" in config.format and not config.precision and not len(images.representative):
        display.say("  no int8 file: it takes training images, and none can be found; give their place with --data")
    with display.working("asking the trained model") as progress, runtime.native_stderr_held_back():
        asked = gather_check_images(finished, subject.records, progress=progress)
        write_answers(beside, finished, asked.encoded)
        measured = measure_on_test(finished, images)
    if not asked.own:
        display.say("  no validation image can be found: comparing on made-up ones")

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

    # 3. The check, the other formats with theirs, and the card that says what came of it.
    with display.working("checking it in a fresh process"):
        checks = check_export(beside)
    paths = {form.ending: files / f"model{form.ending}" for form in forms}
    others = []
    if forms:
        asked_pixels = check_pixels(beside, size=finished.image_size, resize=finished.resize)
    for form in forms:
        others.append(write_checked(form, served, paths[form.ending], beside, asked_pixels, images, display))
    card = model_card(
        subject,
        served,
        name=name,
        checks=checks,
        check_images=asked,
        measured=measured,
        folder=beside,
        other_formats=others,
    )

    def write_card(version: int) -> None:
        for other in others:
            other["file"] = f"{name}-{version}{other['ending']}"
        numbered = {"version": version, **card}
        (beside / f"{CARD}.json").write_text(to_json(numbered), encoding="ascii")
        (beside / f"{CARD}.md").write_text(card_text(numbered), encoding="utf-8")

    place = put_in_place(beside, write_card, paths)
    show(checks, display)
    if served.kept:
        display.say(f"  batch norms that could not be folded: {listed([norm for norm, _ in served.kept])}")
    if others or (measured is not None and subject.history is None):
        display.say()
        display.show(formats_table(card))
    for line in warnings_on(card):
        complain(f"warning: {line}")
    return place


def check(place: Path) -> Path:
    """Check an export: that its files are what they were, and that it answers what the trained model answered.

    Args:
        place: The folder of a version, or of all versions of a served model, of which the newest is checked. Files of
            the version in other formats are checked if they stand where they were written.

    Returns:
        The folder of the version.

    Raises:
        InputError: If it is no export, or not whole, or what runs another format is not installed.
        Failed: If a file has changed, or it does not answer the same.
    """
    version = find_version(place).resolve()  # other formats are named after it and the folder above
    runtime.start(seed=0, deterministic=False)
    from recipes.parts.checked_export import check_export, check_pixels
    from recipes.parts.failure import Failed
    from recipes.parts.model_card import checksum, checksums, read_card
    from recipes.parts.other_formats import OtherFormat, check_file

    with Display() as display:
        card = read_card(version)
        others = {other_file(version, other["ending"]): other for other in card["other_formats"]}
        for path, other in others.items():
            if path.is_file():
                require(other["format"])
        now = checksums(version)
        recorded: dict[str, str] = card["files"]
        changed = sorted(file for file in recorded.keys() | now.keys() if recorded.get(file) != now.get(file))
        changed += [path.name for path, other in others.items() if path.is_file() and checksum(path) != other["sha256"]]
        if changed:
            raise Failed(f"{printable(str(version))} is not what was exported: changed, gone or new: {listed(changed)}")
        with display.working("checking it in a fresh process"):
            checks = check_export(version)
        show(checks, display)
        for path, other in others.items():
            if not path.is_file():
                display.say(f"  {printable(path.name)} is not beside it any more")
                continue
            form = OtherFormat(format=other["format"], precision=other["precision"])
            model = card["model"]
            with display.working(f"checking {path.name} in a fresh process"):
                pixels = check_pixels(version, size=model["image_size"], resize=model["resize"])
                found = check_file(path, form, version, pixels)
            display.say(f"  {printable(path.name)}")
            show(found["checks"], display)
    return version


def show(checks: Sequence[dict[str, Any]], display: Display) -> None:
    """Print what was checked, a line each."""
    from recipes.parts.checked_export import describe

    for each in checks:
        display.say(f"  {each['name']:<9} {describe(each)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""

    def job() -> None:
        print(printable(str(run(tyro.cli(Config, args=arguments, prog="zoo export", description=__doc__)))))

    return guarded(job)


if __name__ == "__main__":
    sys.exit(main())
