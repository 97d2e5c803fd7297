"""Fixtures that several test files of the recipes share."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from tensorflow.python.framework import config

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


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test finds what another left in the cache of activations, or touches that of the user."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


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
