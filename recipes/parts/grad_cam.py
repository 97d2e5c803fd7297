"""Grad-CAM: where in an image a network sees evidence for a class."""

import keras
import numpy as np
import tensorflow as tf

from zoo.graph import KerasTensor


def grad_cam(model: keras.Model, feature_map: KerasTensor, image: np.ndarray, class_index: int) -> np.ndarray:
    r"""Weigh the channels of a feature map by how much each one raises the score of a class.

    With `A_k` channel k of the feature map and `y_c` the logit of class c:

    ```
    alpha_k = mean over all positions of d y_c / d A_k
    L = ReLU(sum over k of alpha_k A_k)
    ```

    What is below zero speaks against the class and is cut off. Where the feature map is averaged over all positions
    and a dense layer follows, alpha_k is that layer's weight from channel k to class c over the number of
    positions: there L is, up to this factor, what CAM shows.

    Args:
        model: A functional model from images to logits.
        feature_map: A tensor of it, `(batch, height, width, channels)`.
        image: float32 `(height, width, channels)`, as the model takes it.
        class_index: Index of the class among the logits.

    Returns:
        float32 `(height, width)` of the feature map, 0 or more; zero everywhere if no position speaks for the class.

    Reference:
        - [Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
          Localization](https://arxiv.org/abs/1610.02391)
        - CAM: [Zhou et al., Learning Deep Features for Discriminative Localization](https://arxiv.org/abs/1512.04150)
    """
    observed = keras.Model(model.input, [feature_map, model.output])
    images = tf.convert_to_tensor(image[np.newaxis], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(images)  # in a network whose layers are frozen, there is no variable to follow
        activations, logits = observed(images, training=False)
    chosen = tf.one_hot([class_index], logits.shape[-1], dtype=logits.dtype)
    gradients = tape.gradient(
        logits, activations, output_gradients=chosen, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    activations, gradients = (tf.cast(tensor[0], tf.float32) for tensor in (activations, gradients))
    weights = tf.reduce_mean(gradients, axis=(0, 1))
    return tf.nn.relu(tf.tensordot(activations, weights, axes=1)).numpy()


def enlarge(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a map `(height, width)` to the size of the image by linear interpolation."""
    return tf.image.resize(heat[..., np.newaxis], size, method="bilinear").numpy()[..., 0]
