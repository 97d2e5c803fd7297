"""`model_card.md`: the model card for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from recipes.parts.checked_export import describe
from recipes.parts.names import counted, printable

MOST_CLASSES = 20
"""A confusion matrix of more classes stands in `model_card.json` alone."""


def card_text(card: dict[str, Any]) -> str:
    """Write a model card in Markdown.

    Args:
        card: What `model_card.json` holds.
    """
    sections = (_head, _contract, _origin, _measures, _check, _files)
    return "\n".join(line for section in sections for line in section(card))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in the middle of a line, whatever characters are in it."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|~&#$" else letter for letter in printable(text))


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are Markdown."""
    return ["", *(f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)), ""]


def _head(card: dict[str, Any]) -> list[str]:
    model = card["model"]
    return [
        f"# {escaped(card['name'])}, version {card['version']}",
        "",
        f"An image classifier of {len(card['classes'])} classes: {escaped(model['name'])}, "
        f"{model['parameters']:,} parameters, as a SavedModel for TensorFlow Serving. Exported "
        f"{card['exported']} from the run {escaped(card['run'])}. All of this, and more exactly, is in "
        "`model_card.json`.",
        "",
    ]


def _contract(card: dict[str, Any]) -> list[str]:
    model = card["model"]
    rows = [
        [
            f"`{name}`",
            *(", ".join(_tensor(*item) for item in signature[side].items()) for side in ("inputs", "outputs")),
        ]
        for name, signature in card["signatures"].items()
    ]
    return [
        "## What to ask, and what is answered",
        *table(["signature", "inputs", "outputs"], rows),
        "Images are JPEG, PNG, BMP, GIF (the first frame) or WebP files, or RGB pixels of any size. They are brought "
        f"to {model['image_size']} × {model['image_size']} pixels ({model['resize']}) and normalised inside. "
        "`classes` and `scores` are of all classes, the likeliest first; scores are probabilities, calibrated with a "
        f"temperature of {card['calibration']['temperature']:.4g}. An image that cannot be decoded is an error of the "
        "whole request. EXIF rotation is ignored. TensorFlow misreads BMPs with a palette and GIFs whose first "
        "frame is smaller than their canvas without an error: `zoo predict` refuses them, a server does not.",
        "",
        f"Classes, in the order of `logits`: {', '.join(map(escaped, card['classes']))}.",
        "",
    ]


def _origin(card: dict[str, Any]) -> list[str]:
    data, weights = card["data"], card["model"]["initial_weights"]
    images = ", ".join(f"{number:,} {split}" for split, number in data["images"].items())
    licence = f"licence {weights['licence']}, stated at <{weights['licence_source']}>; from <{weights['origin']}>"
    lines = [
        "## Where it comes from",
        "",
        f"- Data: {escaped(data['source'])}; {images} images; fingerprint `{data['fingerprint']}`.",
        f"- Initial weights: {escaped(weights['weights'])}; {licence if weights['licence'] else 'no licence known'}.",
    ]
    lines += [f"- {escaped(notice)}" for notice in data["notices"]]
    rows = [
        [
            escaped(stage["name"]),
            f"{stage['trainable_parameters']:,}",
            f"{stage['epochs']}",
            "none" if stage["best_epoch"] is None else f"{stage['best_epoch']}",
        ]
        for stage in card["stages"]
    ]
    return [*lines, *table(["stage", "trainable parameters", "epochs", "epoch kept"], rows)] if rows else [*lines, ""]


def _measures(card: dict[str, Any]) -> list[str]:
    measured = {split: values for split, values in card["metrics"].items() if values["images"]}
    rows = [
        [split, f"{values['images']:,}", *(f"{values[name]:.4f}" for name in ("accuracy", "macro_f1", "loss"))]
        for split, values in measured.items()
    ]
    lines = ["## How good it is", *table(["split", "images", "accuracy", "macro F1", "loss"], rows)]
    if "test" in measured and len(card["classes"]) <= MOST_CLASSES:
        names = [escaped(name) for name in card["classes"]]
        matrix = measured["test"]["confusion_matrix"]
        lines += ["Confusion on the test split, rows by true class, columns by predicted class:"]
        lines += table(["", *names], [[name, *map(str, row)] for name, row in zip(names, matrix, strict=True)])
    return lines


def _check(card: dict[str, Any]) -> list[str]:
    check, model = card["check"], card["model"]
    own = "all made up, as none of the run's validation images could be found"
    if check["validation_images"]:
        own = f"{counted(check['validation_images'], 'validation image')} of the run, the others made up"
    lines = [
        "## The check",
        "",
        "Loaded in a fresh process without the code it was made with, it was compared with the trained model on "
        f"{check['images']} images: {own}, of all kinds of files, tiny, huge, grey and transparent. "
        "`assets.extra/check.npz` keeps all of these images with their answers, so that `zoo export --check` can "
        "repeat the check anywhere.",
        "",
    ]
    lines += [f"- {each['name']}: {describe(each)}" for each in check["checks"]]
    lines += ["", f"{counted(model['batch_norms_folded'], 'batch norm')} folded into the layers around."]
    lines += [
        f"Not folded: {escaped(name)}, as {escaped(reason)}." for name, reason in model["batch_norms_kept"].items()
    ]
    return [*lines, ""]


def _files(card: dict[str, Any]) -> list[str]:
    training, export = card["versions"]["training"], card["versions"]["export"]
    packages = [[name, escaped(training.get(name, "")), escaped(version)] for name, version in export.items()]
    return [
        "## Versions and files",
        *table(["", "in training", "in export"], packages),
        *table(["file", "SHA-256"], [[f"`{name}`", f"`{digest}`"] for name, digest in card["files"].items()]),
    ]


def _tensor(name: str, spec: dict[str, Any]) -> str:
    shape = ", ".join("any" if side is None else str(side) for side in spec["shape"])
    return f"`{name}` {spec['dtype']} ({shape})"
