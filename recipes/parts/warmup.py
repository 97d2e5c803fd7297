"""Requests that TensorFlow Serving sends to a model while it loads it, so that no client waits for the first answer.

It reads them from a TFRecord file of `PredictionLog` messages. The few fields that are needed are encoded here, as the
package that has these messages is otherwise not needed.

Reference:
    - [SavedModel Warmup](https://www.tensorflow.org/tfx/serving/saved_model_warmup)
    - [Protocol Buffers: Encoding](https://protobuf.dev/programming-guides/encoding/)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

FILE_NAME = "tf_serving_warmup_requests"

# The numbers of the fields in prediction_log.proto, predict.proto and model.proto of TensorFlow Serving.
_PREDICTION_LOG_PREDICT_LOG = 6
_PREDICT_LOG_REQUEST = 1
_PREDICT_REQUEST_MODEL_SPEC, _PREDICT_REQUEST_INPUTS = 1, 2
_MODEL_SPEC_NAME, _MODEL_SPEC_SIGNATURE_NAME = 1, 3
_MAP_KEY, _MAP_VALUE = 1, 2


def write_warmup(path: Path, name: str, requests: Sequence[tuple[str, Mapping[str, np.ndarray]]]) -> None:
    """Write warm-up requests.

    Args:
        path: The file.
        name: Of the served model.
        requests: The signature and the inputs of each; an array of dtype `object` holds bytes.
    """
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, inputs in requests:
            records.write(prediction_log(name, signature, inputs))


def prediction_log(name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Encode a request as a `PredictionLog`; arguments as in `write_warmup`."""
    spec = _field(_MODEL_SPEC_NAME, name.encode()) + _field(_MODEL_SPEC_SIGNATURE_NAME, signature.encode())
    request = _field(_PREDICT_REQUEST_MODEL_SPEC, spec)
    for key, array in inputs.items():
        value = tf.make_tensor_proto(array).SerializeToString()
        entry = _field(_MAP_KEY, key.encode()) + _field(_MAP_VALUE, value)
        request += _field(_PREDICT_REQUEST_INPUTS, entry)
    return _field(_PREDICTION_LOG_PREDICT_LOG, _field(_PREDICT_LOG_REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """A field whose content is a string, bytes or a message, which are all encoded alike: key, length, content."""
    length_delimited = 2
    return _varint(number << 3 | length_delimited) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """A number in base 128, the lowest digit first; all digits but the last have the highest bit set."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
