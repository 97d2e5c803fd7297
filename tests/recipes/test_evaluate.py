"""`zoo evaluate` on a run folder made by hand: a model that says the class by the brightness of an image."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from recipes.evaluate import Config, main, run
from recipes.parts.dataset import materialise
from recipes.parts.folder import Folder
from recipes.parts.recorded import write_split
from recipes.parts.scan import scan
from zoo.errors import InputError


def put_grey(file, level):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(file)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of ten dark and ten bright images, and a run on it."""
    root = tmp_path_factory.mktemp("made")
    for index in range(10):
        put_grey(root / "images" / "bright" / f"{index}.png", 200 + index)
        put_grey(root / "images" / "dark" / f"{index}.png", 20 + index)
    data = materialise(scan(Folder(str(root / "images")), seed=0), size=4, resize="stretch")
    folder = root / "run"
    folder.mkdir()
    write_split(folder / "split.jsonl", data)
    config = {"data": f"folder:{root / 'images'}", "image_size": 4, "resize": "stretch"}
    contents = {"config.json": config, "classes.json": data.classes, "calibration.json": {"temperature": 1.0}}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    model.layers[-1].set_weights([np.tile([1 / 48, 0.0], (48, 1)), np.array([-128.0, 0.0])])
    model.save(folder / "model.keras")
    return root


@pytest.fixture
def place(made, tmp_path):
    """A copy of it that a test may change, whose images have moved."""
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "images", tmp_path / "moved")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"] = f"folder:{tmp_path / 'images'}"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_its_own_test_split(made, capsys):
    measured = run(Config(run=made / "run"))
    assert (measured["accuracy"], measured["images"], measured["notices"]) == (1.0, 4, [])
    assert "accuracy" in capsys.readouterr().out


def test_images_that_have_moved_are_asked_for_and_found(place, made):
    with pytest.raises(InputError, match=r"does not exist\. If the images of the run are elsewhere now, .*--data"):
        run(Config(run=place / "run"))
    measured = run(Config(run=place / "run", data=f"folder:{place / 'moved'}"))
    notices = measured.pop("notices")
    own = run(Config(run=made / "run"))
    assert own.pop("notices") == []
    assert measured == own
    assert notices == [
        "left out 16 images that the run trained or validated on; of the 4 that remain, 4 are of its own test split"
    ]


def test_json_holds_the_notices_on_new_images(place, capsys):
    put_grey(place / "moved" / "bright" / "new.png", 33)
    (place / "moved" / "bright" / "bad.png").write_bytes(b"")
    assert main([str(place / "run"), "--data", f"folder:{place / 'moved'}", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["images"], measured["accuracy"]) == (5, 0.8)
    left_out, skipped = sorted(measured["notices"])
    assert left_out.startswith("left out 16 images that the run trained or validated on; of the 5 that remain, 4")
    assert skipped == "skipped 1 unreadable file: bright/bad.png (the file is empty)"


def test_a_test_image_that_became_unreadable_is_an_error_on_request(place):
    (place / "moved").rename(place / "images")
    records = map(json.loads, (place / "run" / "split.jsonl").read_text().splitlines())
    file = next(record["file"] for record in records if record["split"] == "test")
    (place / "images" / file).write_bytes(b"")
    assert run(Config(run=place / "run"))["images"] == 3
    with pytest.raises(InputError, match="Cannot read 1 file"):
        run(Config(run=place / "run", bad_images="error"))
