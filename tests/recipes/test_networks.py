"""Networks by name or by the file of their spec, and parts of the user's own on the command line."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from recipes.cli import main
from recipes.parts.networks import find_spec, known_weights, spec_of
from zoo import MODELS, InputError, vary

PLUGIN = """
import dataclasses

from keras import layers
from zoo import BLOCKS, MODELS, StageSpec


@BLOCKS.register("mine")
def mine(inputs, *, filters, strides, style, name):
    return layers.Conv2D(filters, 3, strides=strides, padding="same", name=f"{name}_conv")(inputs)


stages = (StageSpec(block="mine", filters=4, depth=2, strides=2),)
MODELS.add("my_vgg", dataclasses.replace(MODELS["test_vgg"], name="my_vgg", stages=stages))
"""
# Two convolutions of 3 x 3 with a bias, from 3 to 4 to 4 channels, and 10 logits.
PARAMETERS = (27 * 4 + 4) + (36 * 4 + 4) + (4 + 1) * 10


pytestmark = pytest.mark.usefixtures("own_registries")


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "my_blocks.py"
    path.write_text(PLUGIN)
    return path


def write_own_spec(path):
    """A spec that names a block which only the plugin registers."""
    plain = json.loads(MODELS["test_vgg"].to_json())
    plain["name"] = "mine_of_a_file"
    plain["stages"] = [{"block": "mine", "filters": 4, "depth": 2, "strides": 2}]
    path.write_text(json.dumps(plain))
    return path


def test_a_spec_is_found_by_name_or_in_a_file(tmp_path):
    assert find_spec("vgg_small") is MODELS["vgg_small"]
    spec = vary(MODELS["resnet20"], depth=2, pool="blur")
    path = tmp_path / "deeper.json"
    spec.save(path)
    assert find_spec(str(path)) == spec == spec_of(str(path))
    assert spec_of("MobileNetV2") is None


def test_a_file_at_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    MODELS["test_vgg"].save(tmp_path / "mine.json")
    assert find_spec("~/mine.json") == MODELS["test_vgg"]


def test_a_spec_that_was_changed_has_no_published_weights(tmp_path):
    spec = MODELS["mobilenet_v2"]
    path = tmp_path / "mine.json"
    spec.save(path)
    assert known_weights(str(path)) == known_weights("mobilenet_v2") != ()
    dataclasses.replace(spec, head=dataclasses.replace(spec.head, pool="max")).save(path)
    assert known_weights(str(path)) == ()
    dataclasses.replace(spec, name="mine").save(path)
    assert known_weights(str(path)) == ()


@pytest.mark.parametrize("find", [find_spec, spec_of])
def test_unknown_names_are_refused_with_what_is_close(find):
    with pytest.raises(InputError, match=r"^Unknown model 'vgg_smal'\. Did you mean vgg_small"):
        find("vgg_smal")


def test_the_zoo_has_no_networks_of_keras():
    with pytest.raises(InputError, match="Unknown model 'MobileNetV2'"):
        find_spec("MobileNetV2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as the spec of a model: No such file or directory"),
        (b"\xff\xfe", "is no text, and so no spec of a model"),
        (b"", "This is no JSON"),
        (b"[]", r"ModelSpec must be a JSON object\. Received: \[\]"),
        (b'{"nme": "mine"}', "Unknown field of ModelSpec: 'nme'. Did you mean name"),
    ],
)
def test_a_file_without_a_spec_is_one_line_that_begins_with_its_name(tmp_path, content, message, capsys):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: {message}"):
        find_spec(str(path))
    assert main(["describe", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert error.count("\n") == 1


def test_describe_takes_a_spec_that_names_a_block_of_a_plugin(tmp_path, plugin, capsys):
    path = str(write_own_spec(tmp_path / "mine.json"))
    assert main(["describe", "--num-classes", "10", "--json", "--plugin", str(plugin), path]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model"] == "mine_of_a_file"
    assert told["total"]["parameters"] == PARAMETERS
    assert "stage1_block2_conv" in [layer["layer"] for layer in told["layers"]]
    assert told["weights"] == []


def test_describe_takes_a_model_that_a_plugin_registers(tmp_path, plugin, capsys):
    other = tmp_path / "other.py"
    other.write_text("from zoo import MODELS\nMODELS['my_vgg']  # plugins are loaded in the order given\n")
    assert main(["describe", "my_vgg", "--num-classes", "10", "--plugin", str(plugin), "--plugin", str(other)]) == 0
    assert f"{PARAMETERS:,}: " in capsys.readouterr().out


def test_compare_takes_specs_and_plugins(tmp_path, plugin, capsys):
    path = str(write_own_spec(tmp_path / "mine.json"))
    words = ["compare", "my_vgg", path, "test_vgg", "--num-classes", "10", "--plugin", str(plugin), "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == ["my_vgg", path, "test_vgg"]
    assert [row["parameters"] for row in rows] == [PARAMETERS, PARAMETERS, 1634]


def test_compare_varies_the_depth_of_a_spec_in_a_file(tmp_path, plugin, capsys):
    path = str(write_own_spec(tmp_path / "mine.json"))
    figure = tmp_path / "depths.png"
    words = ["compare", path, "--depths", "1", "2", "--plugin", str(plugin), "--figure", str(figure), "--json"]
    assert main([*words, "--num-classes", "10"]) == 0
    assert [row["parameters"] for row in json.loads(capsys.readouterr().out)] == [PARAMETERS - 148, PARAMETERS]
    assert figure.is_file()


def test_the_example_of_the_documentation_works(tmp_path, monkeypatch, capsys):
    readme = (Path(zoo.__file__).parent / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(# my_blocks\.py\n.*?)```", readme, re.DOTALL)
    (command,) = re.findall(r"^zoo (compare .* --plugin my_blocks\.py)$", readme, re.MULTILINE)
    (tmp_path / "my_blocks.py").write_text(example)
    MODELS["test_vgg"].save(tmp_path / "edited.json")
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


@pytest.mark.parametrize("command", ["describe", "compare"])
def test_what_is_wrong_with_a_plugin_is_one_line(command, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("import keras\nkeras.no_such_thing\n")
    for file, message in ((tmp_path / "no.py", "A plugin must be a Python file"), (broken, "failed at line 2: Attr")):
        assert main([command, "test_vgg", "--plugin", str(file)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_without_its_plugin_a_block_is_unknown(tmp_path, capsys):
    path = str(write_own_spec(tmp_path / "mine.json"))
    assert main(["describe", path]) == 2
    assert "Stage 1 of mine_of_a_file: Unknown block 'mine'" in capsys.readouterr().err


def test_names_and_specs_are_checked_before_tensorflow_is_loaded(tmp_path):
    path = write_own_spec(tmp_path / "mine.json")
    code = (
        "import sys\n"
        "from recipes.cli import main\n"
        f"assert main(['describe', {str(path)!r}, '--image-size', '1']) == 2\n"
        "sys.exit('tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "takes images of at least 2 x 2 pixels. Received: 1" in done.stderr
