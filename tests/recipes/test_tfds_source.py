"""A real, tiny TFDS data set, built here, read back through the source."""

import hashlib
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from recipes.parts.sources import open_source
from zoo.errors import InputError


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


class SmallPictures(tfds.core.GeneratorBasedBuilder):
    """Seven pictures for training, three for testing, and a split of another name."""

    VERSION = tfds.core.Version("1.2.3")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="labelled"),
        tfds.core.BuilderConfig(name="unlabelled"),
        tfds.core.BuilderConfig(name="float"),
        tfds.core.BuilderConfig(name="no_train"),
        tfds.core.BuilderConfig(name="by_hand"),
        tfds.core.BuilderConfig(name="empty_classes"),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask\nnicely."

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
            "kind": tfds.features.ClassLabel(names=["left", "right"]),
        }
        if self.builder_config.name == "empty_classes":
            features["kind"] = tfds.features.ClassLabel(names=["N/A", "left", "none", "right", "last"])
        if self.builder_config.name == "unlabelled":
            del features["kind"]
        if self.builder_config.name == "float":
            del features["mask"]
            features["picture"] = tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)
        supervised = ("picture", "kind") if "kind" in features else None
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), supervised_keys=supervised)

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "by_hand":
            dl_manager.manual_dir  # noqa: B018 - the look at it raises if it is not there
        if self.builder_config.name == "no_train":
            return {"test": self._generate_examples(3)}
        return {
            "train": self._generate_examples(7),
            "test": self._generate_examples(3),
            "extra": self._generate_examples(2),
        }

    def _generate_examples(self, count):
        mask = np.zeros((2, 2, 1), np.uint8)
        for index in range(count):
            label = -1 if index == 6 else index % 2
            if self.builder_config.name == "empty_classes" and label >= 0:
                label = 1 + 2 * label
            yield index, {"id": str(index), "picture": io.BytesIO(jpeg(index)), "mask": mask, "kind": label}


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))


def test_encoded_images_labels_and_splits_come_out():
    source = open_source("tfds:small_pictures")
    assert source.name == "tfds:small_pictures/labelled/1.2.3"
    assert source.classes == ("left", "right")
    assert source.splits == ("train", "test")
    assert source.notices == ("not used: other splits of tfds:small_pictures/labelled/1.2.3, extra",)
    examples = list(source)
    assert len(source) == len(examples) == 10
    assert [example.file for example in examples] == [
        *(f"train/{i}" for i in range(7)),
        *(f"test/{i}" for i in range(3)),
    ]
    # TFDS shuffles when it prepares; what belongs together stays together.
    made = {hashlib.sha256(jpeg(index)).digest(): -1 if index == 6 else index % 2 for index in range(7)}
    train = [example for example in examples if example.split == "train"]
    assert {hashlib.sha256(example.read()).digest(): example.label for example in train} == made


def test_classes_without_images_are_left_out():
    source, usual = open_source("tfds:small_pictures/empty_classes"), open_source("tfds:small_pictures")
    assert source.classes == ("left", "right")
    assert source.notices[1:] == ("left out classes without any image: N/A, none, last",)

    def labels(source):
        return sorted((example.split, hashlib.sha256(example.read()).digest(), example.label) for example in source)

    assert labels(source) == labels(usual)


def test_the_order_is_the_same_every_time():
    source = open_source("tfds:small_pictures")
    assert [example.read() for example in source] == [example.read() for example in source]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnistt", r"TFDS has no data set 'mnistt'. Did you mean .*mnist"),
        ("xqzw", r"TFDS has no data set 'xqzw'. tfds.list_builders\(\) lists them"),
        ("", "TFDS cannot open ''"),
        ("a b\n[red]", r"TFDS cannot open 'a b\\n\[red\]'"),
        ("mnist:9.9.9", "cannot be loaded at version 9.9.9, only: 3.0.1"),
        ("mnist/nothing", "BuilderConfig nothing not found"),
        ("glue/mrpc", "does not give one image and one class label an example; it gives idx, label, "),
        ("coco/2017", "does not give one image and one class label"),
        ("small_pictures/unlabelled", "does not give one image and one class label"),
        ("small_pictures/float", "does not give one image and one class label"),
        ("small_pictures/no_train", "has no train split, only test"),
        (
            "small_pictures/by_hand",
            r"TFDS cannot prepare tfds:small_pictures/by_hand/1.2.3: Manual directory .*Ask nicely\.",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(name, message):
    with pytest.raises(InputError, match=message) as refusal:
        open_source(f"tfds:{name}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "kind",
    [
        ConnectionError,
        ImportError,  # of Apache Beam
        tfds.core.download.util.DownloadError,
        tfds.core.download.download_manager.NonMatchingChecksumError,
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line_too(monkeypatch, kind):
    error = kind.__new__(kind)  # not by their own constructors, which want much more
    error.args = ("Max retries\nexceeded",)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(InputError, match=r"TFDS cannot prepare tfds:mnist/3\.0\.1: Max retries exceeded"):
        open_source("tfds:mnist")
