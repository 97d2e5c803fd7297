"""A process that lives for hundreds of trials must not keep what each of them read."""

import gc
import weakref

import numpy as np

from recipes.parts.batches import evaluation_batches
from recipes.parts.dataset import Split
from recipes.parts.search.forgetting import forget_trial


class Images(np.ndarray):
    """An array of which it can be seen that it is gone."""


def test_images_are_freed_that_batches_were_read_from():
    images = np.zeros((4, 8, 8, 3), np.uint8).view(Images)
    split = Split(images=images, labels=np.zeros(4, np.int32), files=("",) * 4, sha256=("",) * 4)
    alive = weakref.ref(images)
    assert len(list(evaluation_batches(split, batch_size=2))) == 2
    del split, images
    gc.collect()
    assert alive() is not None  # or TensorFlow holds on to nothing any more, and this module can go
    forget_trial()
    assert alive() is None
