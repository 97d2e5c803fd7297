"""Let a process forget a trial, so that it can live for hundreds of them."""

import gc

import keras
import tensorflow as tf


def forget_trial() -> None:
    """Free what models leave behind that nobody uses any more; models that are in use stay as they are."""
    # The graph that stands for the outside of all functions lists what they call in Python, and with it the arrays
    # from which batches are read. Functions inside functions, which are never freed, refer to that graph.
    tf.compat.v1.get_default_graph()._py_funcs_used_in_graph = []
    keras.backend.clear_session(free_memory=False)
    gc.collect()
