"""Temperature scaling: scores that are as often right as they say (Guo et al. 2017).

Networks that are trained until they make hardly a mistake on the training images are too sure of the others. Dividing
all logits by one temperature, fitted on images that the weights were not trained on, mends most of that; which class
comes first stays as it is.

Reference:
    - [Guo et al., On Calibration of Modern Neural Networks](https://arxiv.org/abs/1706.04599)
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq

from recipes.parts.metrics import log_softmax

BOUNDS = (1e-3, 1e3)
"""Lowest and highest temperature."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    r"""The temperature with the lowest mean cross-entropy.

    With $\beta = 1 / T$ and softmax scores $p$, the slope of the cross-entropy over $\beta$ is the mean of
    $\sum_c p_c z_c - z_y$. It never falls as $\beta$ grows, so it crosses zero at one temperature at most, and a
    search between two bounds finds it.

    There is none where no example has a logit above that of its class: every rise of $\beta$ helps there, up to
    scores of exactly 1, which says that the examples are too few and not that the model never errs. Then each label is
    believed to $(n + 1) / (n + 2)$ only, and the rest spread over the other classes (Platt 1999).

    Args:
        logits: `(n, num_classes)`, of images that no weight was trained on.
        labels: Integers `(n,)`.

    Returns:
        The temperature, from 0.001 to 1000; 1 where the one that was found does not lower the cross-entropy.

    Reference:
        - Platt, Probabilistic Outputs for Support Vector Machines, in Advances in Large Margin Classifiers, 1999
    """
    if not len(labels):
        return 1.0
    values = np.asarray(logits, np.float64)
    # Relative to the true class: logits below zero are right, and adding a number to all of a row changes nothing.
    values = values - values[np.arange(len(labels)), labels][:, None]
    if not (np.isfinite(values).all() and values.any()):
        return 1.0
    believed = 0.0
    if values.max() <= 0:
        believed = float(np.mean(np.sum(values, axis=1))) / (values.shape[1] - 1) / (len(labels) + 2)

    def slope(log_temperature: float) -> float:
        scores = np.exp(log_softmax(values / math.exp(log_temperature)))
        return float(np.mean(np.sum(scores * values, axis=1))) - believed

    low, high = map(math.log, BOUNDS)
    if slope(high) >= 0:  # worse than chance: the less the model says, the better
        temperature = BOUNDS[1]
    elif slope(low) <= 0:
        temperature = BOUNDS[0]
    else:
        temperature = math.exp(brentq(slope, low, high, xtol=1e-9))
    own = np.arange(len(labels)), labels
    better = np.mean(log_softmax(values / temperature)[own]) > np.mean(log_softmax(values)[own])
    return temperature if better else 1.0


def calibration_json(
    temperature: float, before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What `calibration.json` holds.

    Args:
        temperature: Fitted on the validation split.
        before: What `recipes.parts.metrics.measure` gives for each split with a temperature of 1.
        after: The same with the temperature.

    Returns:
        `temperature`, and for each split `before` and `after`, each with `loss` (mean cross-entropy, nats) and
        `calibration_error`.
    """
    measures = ("loss", "calibration_error")
    return {
        "temperature": temperature,
        "fitted_on": "validation",
        **{
            split: {
                moment: {name: measured[split][name] for name in measures}
                for moment, measured in (("before", before), ("after", after))
            }
            for split in after
        },
    }


def describe_calibration(calibration: Mapping[str, Any]) -> str:
    """One line that says what the temperature changed.

    Args:
        calibration: What `calibration_json` gives.
    """
    if calibration["temperature"] == 1:
        return "scores are left as they are: the validation split gives no reason to change them"
    changes = ", ".join(
        f"{split} {calibration[split]['before']['calibration_error']:.4f} to "
        f"{calibration[split]['after']['calibration_error']:.4f}"
        for split in ("validation", "test")
        if calibration[split]["after"]["loss"] is not None
    )
    return f"logits are divided by a temperature of {calibration['temperature']:.3f}; calibration error: {changes}"
