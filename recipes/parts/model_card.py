"""`model_card.json`: what an exported model is, where it comes from, how good it is, and what to ask it."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.parts.check_images import CheckImages
from recipes.parts.dataset import fingerprint
from recipes.parts.exportable import Exportable
from recipes.parts.names import printable
from recipes.parts.run_folder import versions
from recipes.parts.serving_model import ServingModel
from recipes.parts.sources import SPLITS
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.weights.keras_applications import find_keras_file
from zoo.weights.pretrained import find_pretrained

CARD = "model_card"


def read_card(version: Path) -> dict[str, Any]:
    """Read the card of an export. Before there were other formats, cards did not speak of them.

    Args:
        version: Its folder.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    try:
        card: dict[str, Any] = json.loads((version / f"{CARD}.json").read_text(encoding="utf-8"))
        return {"other_formats": [], **card, "files": dict(card["files"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{printable(str(version))} has no model card that can be read: {error}") from None


def model_card(
    subject: Exportable,
    served: ServingModel,
    *,
    name: str,
    checks: Sequence[dict[str, Any]],
    check_images: CheckImages,
    measured: dict[str, Any] | None,
    folder: Path,
    other_formats: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Everything about an export but its version. What is not known is None, or not there.

    Args:
        subject: What is exported.
        served: The same as it is served.
        name: Of the served model.
        checks: From `recipes.parts.checked_export.check_export`.
        check_images: On which the export was compared.
        measured: From `recipes.parts.exportable.measure_on_test`.
        folder: Where the SavedModel is, complete but for the card.
        other_formats: From `recipes.parts.other_formats.write_checked`.

    Returns:
        What `model_card.json` holds but `version`.
    """
    finished = subject.finished
    files = checksums(folder)
    return {
        "name": name,
        "format": "SavedModel",
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **_origin(subject, measured),
        "model": {
            "name": finished.model.name,
            "parameters": finished.model.count_params(),
            "image_size": finished.image_size,
            "resize": finished.resize,
            "initial_weights": initial_weights(subject.history["config"] if subject.history else None),
            "batch_norms_folded": served.folded,
            "batch_norms_kept": dict(served.kept),
        },
        "classes": list(served.classes),
        "signatures": signatures(served),
        "check": {"images": len(check_images.encoded), "validation_images": check_images.own, "checks": list(checks)},
        "accuracy": measured["accuracy"] if measured else None,
        "bytes": sum((folder / file).stat().st_size for file in files if not file.startswith("assets.extra/")),
        "other_formats": other_formats,
        "files": files,
    }


def _origin(subject: Exportable, measured: dict[str, Any] | None) -> dict[str, Any]:
    """What is known of how the model came to be: of a `.keras` file next to nothing."""
    finished, records = subject.finished, subject.records
    images = {split: sum(record.split == split for record in records) for split in SPLITS}
    if subject.history is None:
        return {
            "keras_file": {"name": finished.folder.name, "sha256": checksum(finished.folder)},
            "data": None,
            "measured_on": {"source": finished.data, "images": images} if records else None,
            "stages": [],
            "calibration": {"temperature": None},
            "metrics": {"test": measured} if measured else {},
            "versions": {"training": {}, "export": versions()},
        }
    metrics = subject.history["metrics"]
    return {
        "run": finished.folder.absolute().name,
        "data": {
            "source": subject.history["config"]["data"],
            "fingerprint": fingerprint(
                finished.classes,
                ((record.split, finished.classes.index(record.class_name), record.sha256) for record in records),
                size=finished.image_size,
                resize=finished.resize,
            ),
            "images": images,
            "notices": metrics["notices"],
        },
        "stages": metrics["stages"],
        "calibration": {"temperature": finished.temperature},
        "metrics": {split: metrics[split] for split in ("validation", "test")},
        "versions": {"training": subject.history["versions"], "export": versions()},
    }


def signatures(served: ServingModel) -> dict[str, Any]:
    """By signature, `inputs` and `outputs`, each with its dtype and its shape, where None stands for any number."""

    def described(specs: Any) -> dict[str, Any]:
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}

    return {
        name: {
            "inputs": described({spec.name: spec for spec in endpoint.structured_input_signature[0]}),
            "outputs": described(endpoint.structured_outputs),
        }
        for name, endpoint in served.endpoints.items()
    }


def initial_weights(config: dict[str, Any] | None) -> dict[str, Any]:
    """Where training began: `weights` and, as far as it is known, their `origin`, `licence` and `licence_source`.

    Args:
        config: Of the run, whichever recipe made it; None if there was none.
    """
    if config is None:
        return {"weights": None, "origin": None, "licence": None, "licence_source": None}
    weights, backbone = config.get("weights"), config.get("backbone")
    unknown = {"origin": None, "licence": None, "licence_source": None}
    if weights is None or backbone is None:
        return {"weights": "random", **unknown}
    if weights != "imagenet":
        return {"weights": weights, **unknown}
    size = config["image_size"]
    if backbone in MODELS:
        entry = find_pretrained(MODELS[backbone], weights, image_size=size, num_classes=None)
    else:
        entry = find_keras_file(backbone, include_top=False, image_size=size)
    return {
        "weights": weights,
        "origin": entry.origin,
        "licence": entry.licence,
        "licence_source": entry.licence_source,
    }


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the cards, by path, with `/`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stem != CARD)
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
