"""Relative gradient norms against those of a linear network in plain NumPy, and the choice of blocks that follows."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from recipes.parts.blocks import Block, select
from recipes.parts.classifier import Classifier
from recipes.parts.display import Display
from recipes.parts.importance import (
    BlockImportance,
    Importance,
    choose_blocks,
    draw_importance,
    importance_table,
    measure_importance,
)
from recipes.parts.optimizers import block_factors

CLASSES = 3


@pytest.fixture(scope="module")
def classifier():
    """Linear from pixels to logits, so that its gradients can be written down."""
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(4, 1, name="one_conv")(image)
    x = keras.layers.BatchNormalization(epsilon=0.5, name="one_norm")(x)
    x = keras.layers.Dropout(0.9, name="one_noise")(x)
    x = keras.layers.Conv2D(5, 1, use_bias=False, name="two_conv")(x)
    x = keras.layers.BatchNormalization(name="three_norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(image, keras.layers.Dense(CLASSES, name="head_logits")(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(
            rng.uniform(0.5, 1.5, weight.shape) * rng.choice([1, 1 if "variance" in weight.path else -1], weight.shape)
        )
    blocks = (
        Block("one", ("one_conv", "one_norm", "one_noise")),
        Block("two", ("two_conv",)),
        Block("three", ("three_norm",)),
        Block("head", ("head_pool", "head_logits")),
    )
    return Classifier(model, blocks)


def batches():
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(count, 2, 2, 3)).astype("f4"), rng.integers(0, CLASSES, count)) for count in (6, 6, 3, 6)]


def in_numpy(classifier, images, labels):
    """Gradients of the mean cross-entropy by path; of norms, with their statistics as they are."""
    state = {weight.path: weight.numpy().astype("f8") for weight in classifier.model.weights}
    pixels = images.mean(axis=(1, 2)).astype("f8")  # nothing is done to places but their mean

    def norm(name, x, epsilon):
        scale = state[f"{name}/gamma"] / np.sqrt(state[f"{name}/moving_variance"] + epsilon)
        standard = (x - state[f"{name}/moving_mean"]) / np.sqrt(state[f"{name}/moving_variance"] + epsilon)
        return standard * state[f"{name}/gamma"] + state[f"{name}/beta"], standard, scale

    first = pixels @ state["one_conv/kernel"][0, 0] + state["one_conv/bias"]
    x, one_standard, one_scale = norm("one_norm", first, 0.5)
    y, three_standard, three_scale = norm("three_norm", x @ state["two_conv/kernel"][0, 0], 1e-3)
    logits = y @ state["head_logits/kernel"] + state["head_logits/bias"]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (scores - np.eye(CLASSES)[labels]) / len(labels)
    into_y = error @ state["head_logits/kernel"].T
    into_x = (into_y * three_scale) @ state["two_conv/kernel"][0, 0].T
    into_first = into_x * one_scale
    return state, {
        "head_logits/kernel": y.T @ error,
        "head_logits/bias": error.sum(axis=0),
        "three_norm/gamma": (into_y * three_standard).sum(axis=0),
        "three_norm/beta": into_y.sum(axis=0),
        "two_conv/kernel": x.T @ (into_y * three_scale),
        "one_norm/gamma": (into_x * one_standard).sum(axis=0),
        "one_norm/beta": into_x.sum(axis=0),
        "one_conv/kernel": pixels.T @ into_first,
        "one_conv/bias": into_first.sum(axis=0),
    }


def norm_of(values):
    return np.sqrt(sum(np.sum(value**2) for value in values))


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
def test_norms_are_the_formula(classifier, batch_norm):
    found = measure_importance(classifier, iter(batches()), num_batches=3, batch_norm=batch_norm)
    assert found.images == 15
    for block, row in zip(("one", "two", "three", "head"), found.blocks, strict=True):
        ratios, parameters = [], 0
        for images, labels in batches()[:3]:
            state, gradients = in_numpy(classifier, images, labels)
            own = [p for p in gradients if p.startswith(block) and (batch_norm == "trained" or "norm" not in p)]
            parameters = sum(state[path].size for path in own)
            ratios.append(norm_of(gradients[p] for p in own) / norm_of(state[p] for p in own) if own else 0.0)
        assert row.name == block
        assert row.relative_gradient_norm == pytest.approx(np.mean(ratios), rel=1e-4)
        assert row.parameters == parameters
    largest = max(row.relative_gradient_norm for row in found.blocks[:-1])
    assert [row.relative for row in found.blocks[:-1]] == pytest.approx(
        [row.relative_gradient_norm / largest for row in found.blocks[:-1]]
    )
    assert [row.multiply_adds for row in found.blocks] == [2 * 2 * 3 * 4, 2 * 2 * 4 * 5, 0, 5 * 3]


def test_nothing_is_changed(classifier):
    before = [variable.numpy().tobytes() for variable in classifier.model.variables]
    measure_importance(classifier, batches(), num_batches=1)
    assert [variable.numpy().tobytes() for variable in classifier.model.variables] == before
    assert all(layer.trainable for layer in classifier.model.layers)
    assert classifier.model.get_layer("one_noise").rate == 0.9


def importance(**relative):
    rows = [
        BlockImportance(
            name=name, relative_gradient_norm=0.02 * value, relative=value, parameters=10**6, multiply_adds=10**7
        )
        for name, value in relative.items()
    ]
    return Importance(blocks=tuple(rows), images=320, loss=0.5)


def test_blocks_from_the_threshold_on_train_in_proportion(classifier):
    choice = choose_blocks(importance(one=0.6, two=0.4, three=1.0, head=3.0))
    assert choice.unfreeze == "blocks:one,three"
    assert choice.factors == {"one": 0.6, "three": 1.0, "head": 1.0}
    assert select(classifier.blocks, choice.unfreeze) == (0, 2, 3)
    factors = block_factors(classifier.blocks, classifier.model, choice.factors)
    assert (factors["one_conv/kernel"], factors["head_logits/kernel"]) == (0.6, 1.0)
    assert (
        choose_blocks(importance(one=0.6, two=0.4, three=1.0, head=3.0), threshold=0.3).unfreeze
        == "blocks:one,two,three"
    )


def test_without_gradients_the_head_alone_trains(classifier):
    """As where every image is right beyond doubt."""
    choice = choose_blocks(importance(one=0.0, two=0.0, head=0.0))
    assert (choice.unfreeze, choice.factors) == ("head", {"head": 1.0})


def test_it_is_shown_drawn_and_written(classifier, tmp_path, capsys):
    found = measure_importance(classifier, batches())
    choice = choose_blocks(found)
    json.dumps(found.to_json(), allow_nan=False)
    with Display() as display:
        display.show(importance_table(found, choice))
    shown = capsys.readouterr().out
    assert {line.split()[0] for line in shown.splitlines() if "x " in line} == set(choice.factors)
    draw_importance(tmp_path / "importance.png", found, choice, title="a $title")
    with Image.open(tmp_path / "importance.png") as figure:
        assert figure.width > 400
