"""Fixtures that several test files of the recipes share."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from tensorflow.python.framework import config

from recipes.parts.check_images import photo
from recipes.parts.dataset import materialise
from recipes.parts.folder import Folder
from recipes.parts.metrics import measure
from recipes.parts.recorded import write_split
from recipes.parts.run_folder import versions
from recipes.parts.scan import scan
from zoo import BLOCKS, MODELS


def _png(seed, width, height):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(autouse=True)
def determinism_ends_with_the_test():
    """Recipes that run in this process make all ops deterministic, and Keras then never compiles with XLA."""
    yield
    config.disable_op_determinism()


@pytest.fixture(autouse=True, scope="session")
def no_test_touches_the_users_cache(tmp_path_factory):
    """Also not what a fixture runs for several tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test finds what another left in the cache of activations."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def write_run():
    """A function that leaves what a run on some made-up images leaves, `root/run`, and returns its images.

    The model takes images of `model.input_shape`, and its measures are made up as well.
    """

    def write(root, model, classes, *, images, notices=()):
        for number, name in enumerate(classes):
            (root / "images" / name).mkdir(parents=True)
            for index in range(images):
                photo(20 + index, 30, 100 * number + index).save(root / "images" / name / f"{index}.png")
        size = model.input_shape[1]
        data = materialise(scan(Folder(str(root / "images")), seed=0), size=size, resize="crop")
        folder = root / "run"
        folder.mkdir()
        write_split(folder / "split.jsonl", data)
        model.save(folder / "model.keras")
        measured = measure(np.eye(len(classes))[data.test.labels], data.test.labels, data.classes)
        contents = {
            "config.json": {"data": f"folder:{root / 'images'}", "image_size": size, "resize": "crop", "model": "mine"},
            "classes.json": data.classes,
            "calibration.json": {"temperature": 0.5},
            "versions.json": versions(),
            "metrics.json": {"validation": measured, "test": measured, "stages": [], "notices": notices},
        }
        for name, content in contents.items():
            (folder / name).write_text(json.dumps(content))
        return data

    return write


@pytest.fixture
def own_registries(monkeypatch):
    """Whatever a plugin registers is gone after the test."""
    for registry in (BLOCKS, MODELS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.fixture
def put_images(tmp_path):
    """A function that puts an image of random pixels at each path below a folder, and returns the folder.

    The same path always gets the same pixels, other paths get others.
    """

    def put(*paths, below="images", width=9, height=7):
        for path in paths:
            file = tmp_path / below / path
            file.parent.mkdir(parents=True, exist_ok=True)
            seed = list(hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).digest())
            file.write_bytes(_png(seed, width, height))
        return tmp_path / below

    return put
