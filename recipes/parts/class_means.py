"""A head that needs no training: the nearest class mean (Mensink et al. 2013)."""

import keras
import numpy as np
import tensorflow as tf

from recipes.parts.inference import Inference


def set_nearest_class_mean_head(model: keras.Model, batches: tf.data.Dataset) -> None:
    """Let `head_logits` choose the class whose mean feature is nearest.

    With class means m_c and a spread s, the mean squared distance of an example to the mean of its own class,

        logit_c(x) = -|x - m_c|^2 / s = (2 m_c . x - |m_c|^2) / s + (the same for every class)

    which is linear in the feature x, so the model stays what it is.

    Args:
        model: A classifier with layers `head_pool` and `head_logits`; changed in place.
        batches: Training images with integer labels, once through.
    """
    head = model.get_layer("head_logits")
    extractor = keras.Model(model.input, model.get_layer("head_pool").output)
    labels = np.concatenate([batch[1].numpy() for batch in batches])
    features = Inference(extractor)(batches).astype(np.float64)
    means = np.stack([features[labels == index].mean(axis=0) for index in range(head.units)])
    spread = max(np.mean(np.sum((features - means[labels]) ** 2, axis=1)), np.finfo(np.float32).tiny)
    head.set_weights([2 * means.T / spread, -np.sum(means**2, axis=1) / spread])
