"""Files of the user that register parts."""

from pathlib import Path

import keras
import pytest

from zoo import (
    BLOCKS,
    HeadSpec,
    InputError,
    ModelSpec,
    PreprocessingSpec,
    StageSpec,
    StyleSpec,
    build_model,
    load_plugin,
)

PLUGIN = """
from keras import layers
from zoo import BLOCKS

@BLOCKS.register("mine")
def mine(inputs, *, filters, strides, style, name, rate=1):
    return layers.Conv2D(filters, 3, strides=strides, dilation_rate=rate, name=f"{name}_conv")(inputs)
"""


@pytest.fixture(autouse=True)
def own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BLOCKS, "_entries", dict(BLOCKS._entries))


def test_a_spec_can_name_what_a_plugin_registers(tmp_path: Path) -> None:
    path = tmp_path / "my parts.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    load_plugin(str(path))  # once more is no error
    spec = ModelSpec(
        name="my_model",
        family="mine",
        image_size=16,
        preprocessing=PreprocessingSpec(scale=1.0, offset=0.0),
        style=StyleSpec(activation="relu"),
        stages=(StageSpec(block="mine", filters=4, depth=2, arguments={"rate": 2}),),
        head=HeadSpec(name="pool"),
    )
    model = build_model(ModelSpec.from_json(spec.to_json()), input_shape=(16, 16, 1), num_classes=2)
    assert isinstance(model.get_layer("stage1_block2_conv"), keras.layers.Conv2D)
    assert model.get_layer("stage1_block2_conv").output.shape == (None, 8, 8, 4)
    # Two blocks of 4 pixels each leave nothing of 8.
    with pytest.raises(InputError, match=r"^Stage 1 of my_model: the feature map becomes smaller than 1 pixel here"):
        build_model(spec, input_shape=(8, 8, 1), num_classes=2)


def test_two_plugins_cannot_take_one_name(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "parts.py").write_text(PLUGIN)
    load_plugin(tmp_path / "a" / "parts.py")
    with pytest.raises(
        InputError, match=r"failed at line 5: InputError: The block name 'mine' is taken by zoo_plugin_pa"
    ):
        load_plugin(tmp_path / "b" / "parts.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import keras\nimport no_such_module\n",
            "failed at line 2: ModuleNotFoundError: No module named 'no_such_mod",
        ),
        ("x = 1\ndef broken(:\n", "failed at line 2: SyntaxError"),
    ],
)
def test_a_broken_plugin_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "parts.py"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"The plugin .*parts\.py {message}"):
        load_plugin(path)


@pytest.mark.parametrize("name", ["missing.py", "parts.txt", "."])
def test_what_is_no_python_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "parts.txt").write_text(PLUGIN)
    with pytest.raises(InputError, match=r"A plugin must be a Python file, NAME\.py\. Received: "):
        load_plugin(tmp_path / name)
