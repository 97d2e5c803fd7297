"""`model_card.json`: what an exported model is, where it comes from, how good it is, and what to ask it."""

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.parts.dataset import fingerprint
from recipes.parts.finished_run import FinishedRun
from recipes.parts.names import listed, printable
from recipes.parts.recorded import SplitRecord
from recipes.parts.run_folder import read_run_file, versions
from recipes.parts.serving_model import ServingModel, served_name
from recipes.parts.sources import SPLITS
from zoo.errors import InputError
from zoo.models import MODELS
from zoo.weights.keras_applications import find_keras_file
from zoo.weights.pretrained import find_pretrained

CARD = "model_card"


def read_history(run: Path) -> dict[str, Any]:
    """Read what a run tells of itself: its `config`, `metrics` and `versions`.

    Args:
        run: Its folder.

    Raises:
        InputError: If a file is missing or damaged.
    """
    history = {name: read_run_file(run, f"{name}.json") for name in ("config", "metrics", "versions")}
    missing = [name for name in ("validation", "test", "stages", "notices") if name not in history["metrics"]]
    if missing:
        raise InputError(f"The run folder {printable(str(run))} is damaged: metrics.json has no {listed(missing)}")
    return history


def model_card(
    finished: FinishedRun,
    history: dict[str, Any],
    records: Sequence[SplitRecord],
    served: ServingModel,
    *,
    name: str,
    checks: Sequence[dict[str, Any]],
    images: int,
    own_images: int,
    files: dict[str, str],
) -> dict[str, Any]:
    """Everything about an export but its version.

    Args:
        finished: The run.
        history: From `read_history`.
        records: Which images it used.
        served: What is exported.
        name: Of the served model.
        checks: From `recipes.parts.checked_export.check_export`.
        images: How many images the export was compared on.
        own_images: How many of these are validation images of the run.
        files: SHA-256 of every file, by its path in the folder.

    Returns:
        What `model_card.json` holds but `version`.
    """
    config, metrics = history["config"], history["metrics"]
    return {
        "name": name,
        "format": "SavedModel",
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run": finished.folder.absolute().name,
        "model": {
            "name": finished.model.name,
            "parameters": finished.model.count_params(),
            "image_size": finished.image_size,
            "resize": finished.resize,
            "initial_weights": initial_weights(config),
            "batch_norms_folded": served.folded,
            "batch_norms_kept": dict(served.kept),
        },
        "classes": [served_name(each) for each in finished.classes],
        "signatures": signatures(served),
        "data": {
            "source": finished.data,
            "fingerprint": fingerprint(
                finished.classes,
                ((record.split, finished.classes.index(record.class_name), record.sha256) for record in records),
                size=finished.image_size,
                resize=finished.resize,
            ),
            "images": {split: sum(record.split == split for record in records) for split in SPLITS},
            "notices": metrics["notices"],
        },
        "stages": metrics["stages"],
        "calibration": {"temperature": finished.temperature},
        "metrics": {split: metrics[split] for split in ("validation", "test")},
        "check": {"images": images, "validation_images": own_images, "checks": list(checks)},
        "versions": {"training": history["versions"], "export": versions()},
        "files": files,
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


def initial_weights(config: dict[str, Any]) -> dict[str, Any]:
    """Where training began: `weights` and, as far as it is known, their `origin`, `licence` and `licence_source`.

    Args:
        config: Of the run, whichever recipe made it.
    """
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
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
