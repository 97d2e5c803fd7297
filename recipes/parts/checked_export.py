"""What a trained model answers, kept with its export, and the check of the export against it in a fresh process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from recipes.parts import export_check, fresh_process
from recipes.parts.failure import Failed
from recipes.parts.finished_run import FinishedRun
from recipes.parts.images import Resize, decode
from recipes.parts.inference import Inference
from recipes.parts.metrics import log_softmax
from recipes.parts.names import listed, printable
from recipes.parts.serving_model import embedding, served_name
from zoo.errors import InputError
from zoo.graph import as_functional

ANSWERS = Path("assets.extra", "check.npz")


def write_answers(folder: Path, finished: FinishedRun, images: Sequence[bytes]) -> None:
    """Write images and what the trained model says of them, as `zoo predict` would, beside its export.

    Args:
        folder: Of the SavedModel.
        finished: The run.
        images: Encoded.

    Raises:
        Failed: If the model answers with what is no number.
    """
    pixels = decode_all(images, size=finished.image_size, resize=finished.resize)
    batches = tf.data.Dataset.from_tensor_slices((tf.cast(pixels, tf.float32),)).batch(export_check.BATCH)
    model = as_functional(finished.model)
    logits = Inference(model)(batches).astype(np.float32)
    if not np.isfinite(logits).all():
        raise Failed("Nothing is exported: the trained model answers with what is no number")
    features = Inference(keras.Model(model.inputs[0], embedding(model)))(batches)
    names = json.dumps([served_name(name) for name in finished.classes]).encode()
    (folder / ANSWERS).parent.mkdir(exist_ok=True)
    np.savez_compressed(
        folder / ANSWERS,
        encoded=np.frombuffer(b"".join(images), np.uint8),
        lengths=np.array([len(image) for image in images]),
        classes=np.frombuffer(names, np.uint8),
        scores=np.exp(log_softmax(logits / finished.temperature)),
        logits=logits,
        features=features,
    )


def decode_all(images: Sequence[bytes], *, size: int, resize: Resize) -> np.ndarray:
    """Decode images as training does.

    Args:
        images: Encoded.
        size: Pixels a side.
        resize: How images that are not square become so.

    Returns:
        uint8 `(n, size, size, 3)`.
    """
    return np.stack([decode(tf.constant(image), size=size, resize=resize).numpy() for image in images])


def check_pixels(folder: Path, *, size: int, resize: Resize) -> np.ndarray:
    """The images that `write_answers` wrote into the folder of a SavedModel, decoded; see `decode_all`."""
    with np.load(folder / ANSWERS, allow_pickle=False) as stored:
        images = export_check.split_images(stored["encoded"], stored["lengths"])
    return decode_all(images, size=size, resize=resize)


def check_export(folder: Path) -> list[dict[str, Any]]:
    """Compare an export with what the trained model answered, in a fresh process without our packages.

    Args:
        folder: Of the SavedModel.

    Returns:
        The checks, see `recipes.parts.export_check`. All have passed.

    Raises:
        Failed: If one has not, or the process failed; one line that says by how much, or why.
        InputError: If this is no export of `zoo export`.
    """
    if not (folder / ANSWERS).is_file():
        raise InputError(f"{printable(str(folder))} holds no {ANSWERS}: it is no export of `zoo export`, or not whole")
    checks: list[dict[str, Any]] = fresh_process.ask(
        export_check.__file__, str(folder.absolute()), folder=folder, failed="The check of the export could not run"
    )
    for each in checks:
        if not each["passed"]:
            raise Failed(f"The export failed the check '{each['name']}': {describe(each)}")
    return checks


def describe(check: dict[str, Any]) -> str:
    """One check in words, such as "largest difference of a score: 3e-07, at most 0.0001"."""
    found, limit = check["found"], check["limit"]
    if isinstance(found, list):
        return f"{check['what']}: {listed(found) if found else 'none'}"
    return f"{check['what']}: {found:.2g}, at most {limit:g}"
