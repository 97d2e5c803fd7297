"""Give a finished model another classifier."""

from typing import Any

import keras
from keras import layers

from zoo.checks import is_count, is_number
from zoo.errors import InputError
from zoo.graph import Graph, copy_model, dtype_policy


def replace_head(model: keras.Model, num_classes: int | None, *, dropout: float | None = None) -> keras.Model:
    """Copy a model with a new classifier.

    The old classifier, if there is one, is the last layer with weights, if that is dense, or a convolution of an image
    of one pixel as in MobileNet; it goes with all that follows it, such as a softmax. If a feature map is left, as in
    `keras.applications` models with `include_top=False`, it is averaged to one vector in `head_pool`. What comes before
    keeps its weights, names and dtype policies.

    Args:
        model: A functional model with one output, or a built `Sequential`, which stays as it is.
        num_classes: Number of logits, of the new layer `head_logits`. `None` ends the model before it, with
            `(batch, features)`.
        dropout: Fraction of the features that training drops, in [0, 1), in a layer `head_dropout` in place of any
            dropout right before the classifier. `None` leaves what there is.

    Returns:
        A functional model, not compiled. The layers it adds are computed in float32 under every dtype policy.

    Output shape:
        `(batch, num_classes)`: logits, float32.

    Raises:
        InputError: If an argument is wrong, the model has more than one output or gives neither vectors nor images.

    Example:
        ```python
        backbone = keras.applications.MobileNetV2(include_top=False, input_shape=(160, 160, 3))
        model = replace_head(backbone, 10, dropout=0.2)
        ```
    """
    if num_classes is not None and not is_count(num_classes):
        raise InputError(f"`num_classes` must be a positive int or None. Received: num_classes={num_classes!r}")
    if dropout is not None and not (is_number(dropout) and 0 <= dropout < 1):
        raise InputError(f"`dropout` must be a fraction in [0, 1) or None. Received: dropout={dropout!r}")
    graph = Graph(model)
    if len(graph.model.outputs) > 1:
        raise InputError(f"A head is replaced behind a single output. {model.name} has {len(graph.model.outputs)}.")
    x = _features(graph)
    if dropout is not None or num_classes is None:
        x = _before_dropout(graph, x)
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D(dtype="float32", name="head_pool")(x)
    if len(x.shape) != 2:
        raise InputError(
            f"{model.name} gives tensors of shape {tuple(x.shape)}; a head follows (batch, features) or "
            "(batch, height, width, channels)."
        )
    if num_classes is not None:
        if dropout:
            x = layers.Dropout(dropout, dtype="float32", name="head_dropout")(x)
        x = layers.Dense(num_classes, dtype="float32", name="head_logits")(x)
    with dtype_policy(model.dtype_policy):
        return copy_model(keras.Model(graph.model.input, x, name=model.name))


def _features(graph: Graph) -> Any:
    """What the classifier reads, or what the model gives if it has none."""
    (output,) = graph.model.outputs
    tensor = output
    while True:
        call = graph.calls[graph.producer(tensor)]
        if len(call.inputs) != 1:
            return output
        (source,) = call.inputs
        if getattr(call.operation, "weights", None):
            of_one_pixel = isinstance(call.operation, layers.Conv2D) and tuple(source.shape[1:3]) == (1, 1)
            is_classifier = isinstance(call.operation, layers.Dense) or (of_one_pixel and len(output.shape) == 2)
            return source if is_classifier else output
        tensor = source


def _before_dropout(graph: Graph, tensor: Any) -> Any:
    call = graph.calls[graph.producer(tensor)]
    return _before_dropout(graph, call.inputs[0]) if isinstance(call.operation, layers.Dropout) else tensor
