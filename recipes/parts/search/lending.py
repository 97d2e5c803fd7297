"""A pretrained network that many classifiers use one after the other, each as if it were the first."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np

from recipes.parts.classifier import Network


class Lending:
    """Lend a network, and put it back as it was.

    Args:
        network: In the state to which it returns. Its weights are kept a second time, in the memory of the host.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._weights = [(weight, weight.numpy().copy()) for weight in network.model.weights]
        operations = network.model.operations
        self._trainable = [(layer, layer.trainable) for layer in network.model.layers]
        # Whatever is built on a layer is held by it, and would be for ever.
        self._nodes = [
            (nodes, list(nodes)) for each in operations for nodes in (each._inbound_nodes, each._outbound_nodes)
        ]

    @contextmanager
    def lent(self) -> Iterator[Network]:
        """Let models be built on the network and trained, as long as the context lasts. They are of no use after it."""
        try:
            yield self.network
        finally:
            self._put_back()

    def _put_back(self) -> None:
        for weight, value in self._weights:
            if not np.array_equal(_bits(weight), _bits(value)):
                weight.assign(value)
        for layer, trainable in self._trainable:
            if layer.trainable != trainable:
                layer.trainable = trainable
        for nodes, kept in self._nodes:
            nodes[:] = kept


def _bits(value: keras.Variable | np.ndarray) -> np.ndarray:
    """A weight's bytes, which are equal also where numbers are none."""
    return np.frombuffer(np.asarray(value).tobytes(), np.uint8)
