import numpy as np
import pytest
from PIL import Image

from recipes.parts.metrics import measure
from recipes.parts.report import draw_report


def history(epochs):
    rng = np.random.default_rng(0)
    names = ("loss", "val_loss", "accuracy", "val_accuracy")
    return [{name: float(value) for name, value in zip(names, rng.random(4), strict=True)} for _ in range(epochs)]


def draw(path, *, classes, stages, wrong=5, images=20):
    rng = np.random.default_rng(0)
    labels = np.arange(images) % len(classes)
    logits = rng.random((images, len(classes)))
    logits[np.arange(images), labels] += 2
    logits[:wrong] = -logits[:wrong]
    draw_report(
        path,
        title="a title",
        subtitle="a subtitle",
        stages=stages,
        metrics=measure(logits, labels, classes),
        classes=classes,
        images=rng.integers(0, 256, (images, 12, 12, 3), np.uint8),
        labels=labels,
        logits=logits,
        notices=["12 photos are rotated: $a_[b].jpg", "a long notice " * 40],
    )
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    return pixels


STAGES = [
    {"name": "head", "history": history(3), "best_epoch": 2},
    {"name": "deep", "history": history(1), "best_epoch": None},
]


@pytest.mark.parametrize(
    "classes",
    [
        ("a", "b"),
        (
            "$x_",
            "[bold red]",
            "\udcff\x1b[2J\n",
            "很长的名字",
            "a very long name indeed, longer than any figure",
        ),
        tuple(f"class {index}" for index in range(120)),
    ],
    ids=["two", "hostile", "many"],
)
def test_any_class_names(tmp_path, classes):
    draw(tmp_path / "report.png", classes=classes, stages=STAGES, images=max(20, len(classes)))


def test_without_training_and_without_mistakes(tmp_path):
    plain = draw(tmp_path / "plain.png", classes=("a", "b"), stages=STAGES)
    bare = draw(tmp_path / "bare.png", classes=("a", "b"), stages=[], wrong=0)
    assert plain.shape == bare.shape
    assert (plain != bare).any()


def test_nothing_is_left_beside_it(tmp_path):
    draw(tmp_path / "report.png", classes=("a", "b"), stages=STAGES)
    assert [path.name for path in tmp_path.iterdir()] == ["report.png"]
