"""A trained classifier as a server runs it: from image files, or their pixels, to classes and scores."""

import re
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from recipes.parts.finished_run import FinishedRun
from recipes.parts.grouped_convolution import without_xla
from recipes.parts.images import decode, resize_pixels
from recipes.parts.names import printable
from zoo.folding import fold_batch_norm, folding_plan
from zoo.graph import Graph, KerasTensor, as_functional, sublayers

IN_16_BITS = "the model computes in 16 bits, where folded weights would be rounded otherwise"


class ServingModel(tf.Module):
    """What a run learned, with everything between an encoded image and an answer in one graph.

    Images are decoded and resized by the functions that training used, and the network runs in inference mode, with
    batch norm folded. Nothing in the graph is random, and it needs none of our packages.

    Signatures:
        - `serving_default`: `image_bytes`, string `(batch,)`, encoded images. Gives `classes`, string `(batch, k)`, and
        `scores`, float32 `(batch, k)`: all classes and their calibrated probabilities, the likeliest first. One image
        that cannot be decoded makes the whole request an `InvalidArgumentError`.
        - `pixels`: `pixels`, uint8 `(batch, height, width, 3)` of any size, RGB. Gives the same and `logits`, float32
        `(batch, k)` in the order of the run's classes, before calibration.
        - `features`: `pixels` as above. Gives `features`, float32 `(batch, n)`: see `embedding`.

    Args:
        finished: The run.

    Attributes:
        endpoints: The concrete function of each signature, by name.
        folded: How many batch norms are folded.
        kept: The name of each batch norm that is not, and why.
        layers: The names of all layers.
        classes: The names of the classes as they are served, in the order of the run.
    """

    def __init__(self, finished: FinishedRun) -> None:
        super().__init__(name="serving_model")
        self.classes = tuple(served_name(name) for name in finished.classes)
        plan = folding_plan(finished.model)
        layers = [layer for layer in sublayers(finished.model) if not isinstance(layer, keras.Model)]
        if all(layer.compute_dtype == "float32" for layer in layers):
            network = fold_batch_norm(finished.model)
            self.folded, self.kept = len(plan.folded), plan.kept
        else:
            network = as_functional(finished.model)
            self.folded, self.kept = 0, tuple((name, IN_16_BITS) for name in (*plan.folded, *dict(plan.kept)))
        network = without_xla(network)
        both = keras.Model(network.inputs[0], [embedding(network), network.outputs[0]])
        # What a SavedModel holds is what hangs on the object that is saved.
        self.weights = [weight.value for weight in both.weights]
        self.layers = tuple(operation.name for operation in network.operations)
        self.endpoints = _signatures(both, finished)
        # A closure, which does not hang on the object: the SavedModel has no need of this function.
        self._make_network = lambda: _network(both, finished)

    def network(self) -> tf.types.experimental.PolymorphicFunction:
        """The network and the calibration alone, without decoding, resizing and names, as other formats hold them.

        Returns:
            A function of `pixels`, uint8 `(batch, size, size, 3)`, RGB. Gives `scores` and `logits`, float32
            `(batch, k)`, both in the order of the run's classes.
        """
        return self._make_network()

    def layer_at(self, place: str) -> str:
        """Say which layer an op of the graph belongs to.

        Args:
            place: The path of the op, such as `MobileNetV2_1/Conv1_relu_1/Relu6`.

        Returns:
            The name of the layer, in words; the path itself if no layer has made the op.
        """
        # Keras numbers the scopes of layers that it calls again.
        scopes = {re.sub(r"_[0-9]+$", "", part) for part in place.split("/")} | set(place.split("/"))
        found = [name for name in self.layers if name in scopes]
        return f"the layer '{printable(max(found, key=len))}'" if found else f"'{printable(place)}'"

    def save(self, folder: Path) -> None:
        """Write the SavedModel into a folder."""
        tf.saved_model.save(self, str(folder), signatures=self.endpoints)


def embedding(model: keras.Model) -> KerasTensor:
    """What the layer that gives the logits reads, before dropout.

    That is the output of `head_pool` unless hidden layers follow it.

    Args:
        model: A functional classifier.

    Returns:
        A tensor of its graph, float32 `(batch, n)`; where logits are made of a feature map, its mean over positions.
    """
    graph = Graph(model)
    call = graph.calls[graph.producer(graph.model.outputs[0])]
    while call.inputs and not getattr(call.operation, "weights", None):  # such as an activation
        call = graph.calls[graph.producer(call.inputs[0])]
    tensor = call.inputs[0]
    while isinstance((source := graph.calls[graph.producer(tensor)]).operation, keras.layers.Dropout):
        tensor = source.inputs[0]
    positions = tuple(range(1, len(tensor.shape) - 1))
    return keras.ops.cast(keras.ops.mean(tensor, axis=positions) if positions else tensor, "float32")


def served_name(name: str) -> str:
    """The name of a class as it is served: strings in an answer are UTF-8, and a folder's name may hold what is not."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _network(both: keras.Model, finished: FinishedRun) -> tf.types.experimental.PolymorphicFunction:
    size = finished.image_size

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8, name="pixels")])
    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.cast(both(tf.cast(pixels, tf.float32), training=False)[1], tf.float32)
        return {"scores": tf.nn.softmax(logits / finished.temperature), "logits": logits}

    return network


def _signatures(both: keras.Model, finished: FinishedRun) -> dict[str, tf.types.experimental.ConcreteFunction]:
    size, resize = finished.image_size, finished.resize
    image = tf.TensorSpec((size, size, 3), tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
    def network(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, logits = both(tf.cast(images, tf.float32), training=False)
        return features, tf.cast(logits, tf.float32)

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = network(images)[1]
        scores, order = tf.math.top_k(tf.nn.softmax(logits / finished.temperature), k=len(finished.classes))
        names = tf.constant([served_name(name) for name in finished.classes])
        return {"classes": tf.gather(names, order), "scores": scores, "logits": logits}

    def fit(pixels: tf.Tensor) -> tf.Tensor:
        # At the model's own size nothing would change.
        return tf.cond(
            tf.reduce_all(tf.shape(pixels)[1:3] == size),
            lambda: tf.ensure_shape(pixels, (None, *image.shape)),
            lambda: tf.map_fn(partial(resize_pixels, size=size, resize=resize), pixels, fn_output_signature=image),
        )

    def serving_default(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(partial(decode, size=size, resize=resize), image_bytes, fn_output_signature=image)
        answer = classify(images)
        return {name: answer[name] for name in ("classes", "scores")}

    def pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return classify(fit(pixels))

    def features(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"features": network(fit(pixels))[0]}

    encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
    raw = tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")
    return {
        "serving_default": tf.function(serving_default, input_signature=[encoded]).get_concrete_function(),
        "pixels": tf.function(pixels, input_signature=[raw]).get_concrete_function(),
        "features": tf.function(features, input_signature=[raw]).get_concrete_function(),
    }
