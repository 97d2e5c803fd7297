"""`model_card.md`: the model card for people."""

from typing import Any

from recipes.parts.checked_export import describe
from recipes.parts.markdown import escaped, table
from recipes.parts.names import counted
from recipes.parts.other_formats import format_rows, warnings_on

MOST_CLASSES = 20
"""A confusion matrix of more classes stands in `model_card.json` alone."""


def card_text(card: dict[str, Any]) -> str:
    """Write a model card in Markdown.

    Args:
        card: What `model_card.json` holds.
    """
    sections = (_head, _contract, _other_formats, _origin, _measures, _check, _files)
    return "\n".join(line for section in sections for line in section(card))


def _head(card: dict[str, Any]) -> list[str]:
    model = card["model"]
    made_of = f"the run {escaped(card['run'])}" if "run" in card else f"the file {escaped(card['keras_file']['name'])}"
    return [
        f"# {escaped(card['name'])}, version {card['version']}",
        "",
        f"An image classifier of {len(card['classes'])} classes: {escaped(model['name'])}, "
        f"{model['parameters']:,} parameters, as a SavedModel for TensorFlow Serving. Exported "
        f"{card['exported']} from {made_of}. All of this, and more exactly, is in `model_card.json`.",
        "",
    ]


def _contract(card: dict[str, Any]) -> list[str]:
    model, temperature = card["model"], card["calibration"]["temperature"]
    calibrated = "not calibrated" if temperature is None else f"calibrated with a temperature of {temperature:.4g}"
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
        "`classes` and `scores` are of all classes, the likeliest first; scores are probabilities, "
        f"{calibrated}. An image that cannot be decoded is an error of the "
        "whole request. EXIF rotation is ignored. TensorFlow misreads BMPs with a palette and GIFs whose first "
        "frame is smaller than their canvas without an error: `zoo predict` refuses them, a server does not.",
        "",
        f"Classes, in the order of `logits`: {', '.join(map(escaped, card['classes']))}.",
        "",
    ]


def _other_formats(card: dict[str, Any]) -> list[str]:
    if not card["other_formats"]:
        return []
    size = card["model"]["image_size"]
    heading, *rows = format_rows(card)
    lines = [
        "## Other formats",
        "",
        f"These files stand beside the folder of the model. Each takes `pixels`, uint8 (any, {size}, {size}, 3), RGB, "
        f"already brought to this size ({card['model']['resize']}), and gives `scores` and `logits`, float32 (any, "
        f"{len(card['classes'])}), in the order of the classes above. Milliseconds are those of one image on "
        f"{escaped(card['versions']['export']['platform'])}. A float16 file stores weights in 16 bits, and a CPU "
        "computes in float32 with them.",
        *table(heading, [[escaped(file), *cells] for file, *cells in rows]),
    ]
    for line in warnings_on(card):
        lines += [f"**{escaped(line)}**", ""]
    for other in card["other_formats"]:
        checks = "; ".join(describe(each) for each in other["checks"])
        lines += [f"- {escaped(other['file'])}, compared with the trained model in a fresh process: {checks}."]
        if "representative_images" in other:
            lines[-1] += f" Its ranges come from {counted(other['representative_images'], 'training image')}."
    return [*lines, ""]


def _origin(card: dict[str, Any]) -> list[str]:
    if card["data"] is None:
        return _origin_of_file(card)
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


def _origin_of_file(card: dict[str, Any]) -> list[str]:
    file, given = card["keras_file"], card["measured_on"]
    lines = [
        "## Where it comes from",
        "",
        f"From a Keras file, {escaped(file['name'])}, SHA-256 `{file['sha256']}`. What it was trained on, from which "
        "weights, and under which licence is not known here. It is taken to read RGB pixels from 0 to 255.",
        "",
    ]
    if given is not None:
        images = ", ".join(f"{number:,} {split}" for split, number in given["images"].items())
        lines += [
            f"Images given for the export: {escaped(given['source'])}; put into splits here: {images}. Whether the "
            "model was trained on some of them is not known, so it may look better than it is.",
            "",
        ]
    return lines


def _measures(card: dict[str, Any]) -> list[str]:
    measured = {split: values for split, values in card["metrics"].items() if values["images"]}
    rows = [
        [split, f"{values['images']:,}", *(f"{values[name]:.4f}" for name in ("accuracy", "macro_f1", "loss"))]
        for split, values in measured.items()
    ]
    if not measured:
        return ["## How good it is", "", "Not known: it was not measured on any images.", ""]
    lines = ["## How good it is", *table(["split", "images", "accuracy", "macro F1", "loss"], rows)]
    if "test" in measured and len(card["classes"]) <= MOST_CLASSES:
        names = [escaped(name) for name in card["classes"]]
        matrix = measured["test"]["confusion_matrix"]
        lines += ["Confusion on the test split, rows by true class, columns by predicted class:"]
        lines += table(["", *names], [[name, *map(str, row)] for name, row in zip(names, matrix, strict=True)])
    return lines


def _check(card: dict[str, Any]) -> list[str]:
    check, model = card["check"], card["model"]
    own = "all made up, as no validation images could be found"
    if check["validation_images"]:
        own = f"{counted(check['validation_images'], 'validation image')}, the others made up"
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
    files = {**card["files"], **{other["file"]: other["sha256"] for other in card["other_formats"]}}
    packages = [[name, escaped(training.get(name, "")), escaped(version)] for name, version in export.items()]
    return [
        "## Versions and files",
        *table(["", "in training", "in export"], packages),
        *table(["file", "SHA-256"], [[f"`{name}`", f"`{digest}`"] for name, digest in files.items()]),
    ]


def _tensor(name: str, spec: dict[str, Any]) -> str:
    shape = ", ".join("any" if side is None else str(side) for side in spec["shape"])
    return f"`{name}` {spec['dtype']} ({shape})"
