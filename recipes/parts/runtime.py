"""Start TensorFlow: without its log noise, and with everything settled that must be settled before the first op."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from zoo.errors import InputError


def start(*, seed: int, deterministic: bool | None) -> bool:
    """Import TensorFlow quietly, then set seeds and determinism. Call it before any module that imports Keras.

    Seeds and op determinism alone do not make two processes agree: the order in which independent ops finish
    changes sums, so `deterministic` also runs one op at a time (each op still uses every core).

    Args:
        seed: Seed of Python, NumPy, TensorFlow and Keras, below 2^32.
        deterministic: Whether the same call must give the same weights, bit for bit; None means unless TensorFlow
            sees a GPU, where it costs time and some ops refuse it.

    Returns:
        Whether TensorFlow sees a GPU.

    Raises:
        InputError: If Keras is set to another backend.
    """
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(f"Keras must run on TensorFlow. Unset KERAS_BACKEND, which is {backend!r}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_held_back(show_after_error=True):
        import tensorflow as tf
    import keras

    gpu = bool(tf.config.list_physical_devices("GPU"))
    if deterministic or (deterministic is None and not gpu):
        # It cannot be set once ops have run, as in a notebook: results then vary in the last bits.
        with suppress(RuntimeError):
            tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    return gpu


@contextmanager
def native_stderr_held_back(*, show_after_error: bool = False) -> Iterator[None]:
    """Hold back what native code writes to standard error.

    TensorFlow's libraries log before they read any log level, and its image decoders never do, so only the file
    descriptor can be silenced. What Python writes there meanwhile is held back as well.

    Args:
        show_after_error: Whether to show it after all if the block raises.
    """
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to write to
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            if show_after_error:
                held.seek(0)
                os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
