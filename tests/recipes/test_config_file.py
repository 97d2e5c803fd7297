import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from recipes.finetune import Config
from recipes.parts.config_file import config_to_json, read_config
from recipes.parts.stages import Stage
from zoo.errors import InputError

CHANGED = Config(
    data="folder:some where",
    backbone="MobileNetV2",
    weights="file.h5",
    cut="block_13",
    head_pool="max",
    plugin=(Path("/a/plugin.py"),),
    strategy="gradual",
    stages=(
        Stage(name="one", unfreeze="last:2", epochs=3, learning_rate=0.5, warmup=0.2, patience=7, batch_norm="trained"),
    ),
    epochs=(1, 2),
    learning_rate=(0.25,),
    find_learning_rate=True,
    layer_decay=0.8,
    interpolate=False,
    image_size=64,
    batch_size=8,
    resize="pad",
    augmentation="strong",
    horizontal_flip=True,
    dropout=0.5,
    class_weights=True,
    bad_images="error",
    mixup=0.2,
    cutmix=1.0,
    label_smoothing=0.2,
    ema=0.99,
    memory_budget=0.5,
    cache=False,
    cache_limit=5.0,
    cache_dtype="float16",
    views=3,
    fold=False,
    seed=3,
    deterministic=False,
    plan=True,
    resume=Path("there"),
    out=Path("here"),
)


def write(tmp_path, value):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_round_trip_keeps_every_field(tmp_path):
    default = Config()
    for name, value in vars(CHANGED).items():
        assert value != getattr(default, name), f"{name} must differ from its default, or this test is blind to it"
    assert read_config(Config, write(tmp_path, config_to_json(CHANGED))) == CHANGED


def test_fields_left_out_keep_their_defaults(tmp_path):
    path = write(tmp_path, config_to_json(CHANGED, leave_out=("out", "seed")))
    assert read_config(Config, path) == replace(CHANGED, out=None, seed=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"image_sise": 64}, r"unknown field 'image_sise'\. Did you mean 'image_size'\?"),
        ({"image_size": "big"}, r"image_size must be a whole number\. Received: 'big'"),
        ({"image_size": True}, "image_size must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"dropout": "0.5"}, "dropout must be a number"),
        ({"horizontal_flip": 1}, "horizontal_flip must be true or false"),
        ({"resize": "squash"}, r"resize must be one of 'stretch', 'crop', 'pad'\. Received: 'squash'"),
        ({"epochs": 3}, "epochs must be a list"),
        ({"epochs": [1, "2"]}, r"epochs\[1\] must be a whole number"),
        ({"stages": [{"unfreeze": "all"}]}, r"stages\[0\] lacks: name"),
        ({"stages": [{"name": "a", "epoch": 1}]}, "Did you mean 'epochs'"),
        ({"stages": [{"name": "a", "epochs": -1}]}, "epochs=-1"),
        ([], "must be an object"),
    ],
)
def test_a_wrong_file_gives_one_line_that_says_where(tmp_path, value, message):
    with pytest.raises(InputError, match=message) as error:
        read_config(Config, write(tmp_path, value))
    assert "\n" not in str(error.value)
    assert "config.json" in str(error.value) or "stage" in str(error.value)


def test_a_file_that_is_not_there_or_not_json(tmp_path):
    with pytest.raises(InputError, match="Cannot read the configuration"):
        read_config(Config, tmp_path / "none.json")
    path = tmp_path / "broken.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="is not JSON"):
        read_config(Config, path)


def test_types_that_configurations_are_made_of(tmp_path):
    @dataclass(frozen=True)
    class Plain:
        number: float = 0.5
        choice: Literal["a", "b"] | None = None
        path: Path | None = None
        values: dict[str, int | str] = field(default_factory=dict)

    assert read_config(Plain, write(tmp_path, {"values": {"a": 1}})) == Plain(values={"a": 1})
    with pytest.raises(InputError, match="values must be an object"):
        read_config(Plain, write(tmp_path, {"values": [1]}))
    assert read_config(Plain, write(tmp_path, {"number": 2})) == Plain(number=2.0)
    assert isinstance(read_config(Plain, write(tmp_path, {"number": 2})).number, float)
    assert read_config(Plain, write(tmp_path, {"choice": "b", "path": "x"})) == Plain(choice="b", path=Path("x"))
    with pytest.raises(InputError, match="choice must be one of 'a', 'b'"):
        read_config(Plain, write(tmp_path, {"choice": "c"}))
