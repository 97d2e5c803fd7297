"""The official ImageNet files of all networks of `keras.applications`, with and without classifier.

Data only; `zoo.weights.fetch.fetch` gets a file. They also serve those models of the zoo that have the same
layers. A test compares addresses and checksums with what the installed Keras asks for. The files of
MobileNetV3's `minimalistic` networks are left out, since nothing here builds them.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from zoo.errors import InputError
from zoo.registry import unknown_name
from zoo.weights.keras_checksums import KERAS_CHECKSUMS
from zoo.weights.weight_file import Download, WeightFile

Preprocessing: TypeAlias = Literal["tf", "tf_128", "torch", "caffe", "included"]

# Formula for pixels x from 0 to 255, and the range of what comes out. The mean colour of ImageNet is
# (123.68, 116.78, 103.94), as shares of 255 (0.485, 0.456, 0.406); the standard deviation (0.229, 0.224, 0.225).
_PREPROCESSING: dict[Preprocessing, tuple[str, tuple[float, float]]] = {
    "tf": ("x / 127.5 - 1", (-1.0, 1.0)),
    "tf_128": ("x / 128 - 1", (-1.0, 255 / 128 - 1)),
    "torch": ("(x / 255 - mean) / deviation", (-0.485 / 0.229, (1 - 0.406) / 0.225)),
    "caffe": ("x - mean, blue first", (-123.68, 255 - 103.939)),
    "included": ("x: the network normalises", (0.0, 255.0)),
}

_STORAGE = "https://storage.googleapis.com/tensorflow/keras-applications/"

# Where licences are stated: in the documentation of Keras 2, whose Chinese edition is newer and has ResNetV2. For
# the networks that came later (EfficientNet, MobileNetV3, ConvNeXt) Keras states none; given here is the licence
# of the repository that released the checkpoints from which Keras's files were converted.
_KERAS_2 = "https://github.com/keras-team/keras/blob/31599d801d73/docs/templates/applications.md"
_KERAS_2_ZH = "https://github.com/keras-team/keras-docs-zh/blob/4dcf73292e5b/sources/applications.md"
_SLIM = "https://github.com/tensorflow/models/tree/master/research/slim"
_EFFICIENTNET = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet"

# Where accuracies are reported.
_KERAS_IO = "https://keras.io/api/applications/"
_KERAS_APPLICATIONS = "https://github.com/keras-team/keras-applications/blob/05ff4705388b/README.md"
_MOBILENET_V3 = "https://keras.io/api/applications/mobilenet/"


@dataclass(frozen=True)
class Network:
    """A network whose weights are published, as two files.

    Args:
        application: Constructor in `keras.applications`.
        stem: What is special to the network in the addresses of its files.
        image_size: Height and width of the images it was designed for, pixels.
        top1: See `WeightFile`.
        alpha: Width multiplier.
    """

    application: str
    stem: str
    image_size: int
    top1: float | None
    alpha: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Family:
    """Networks that share everything but their size.

    Args:
        preprocessing: Name of what is done to pixels. `tf` is x / 127.5 - 1 and `tf_128` is x / 128 - 1;
            `torch` subtracts ImageNet's mean colour and divides by its standard deviation; `caffe` subtracts
            the mean colour and swaps red and blue; with `included` the network does it itself. (So do
            EfficientNetV2, ConvNeXt and MobileNetV3, unless built with `include_preprocessing=False`.)
        address: Of a file; `{stem}` and `{top}` stand for what differs.
        without_top: What `{top}` is in the file without classifier; otherwise it is empty.
        origin: See `WeightFile`, as are the next three.
        licence: SPDX identifier.
        licence_source: Address.
        top1_source: Address.
        networks: Small to large, first by width, then by size of the images.
    """

    preprocessing: Preprocessing
    address: str
    without_top: str = "_notop"
    origin: str
    licence: str = "Apache-2.0"
    licence_source: str = _KERAS_2
    top1_source: str = _KERAS_IO
    networks: tuple[Network, ...]


def _mobilenets() -> tuple[Network, ...]:
    # Top-1 was measured with Keras's files at 224 pixels only.
    widths = {0.25: ("2_5", 0.516), 0.5: ("5_0", 0.643), 0.75: ("7_5", 0.684), 1.0: ("1_0", 0.704)}
    return tuple(
        Network("MobileNet", f"{text}_{size}", size, top1 if size == 224 else None, alpha)
        for alpha, (text, top1) in widths.items()
        for size in (128, 160, 192, 224)
    )


def _mobilenets_v2() -> tuple[Network, ...]:
    widths = {0.35: 0.601, 0.5: 0.652, 0.75: 0.695, 1.0: 0.713, 1.3: 0.747, 1.4: 0.752}
    return tuple(
        Network("MobileNetV2", f"{alpha}_{size}", size, top1 if size == 224 else None, alpha)
        for alpha, top1 in widths.items()
        # Keras asks for the other sizes of 1.3 and 1.4 as well, but they do not exist (keras#16452).
        for size in ((96, 128, 160, 192, 224) if alpha <= 1 else (224,))
    )


FAMILIES: dict[str, Family] = {
    "EfficientNet": Family(
        preprocessing="included",
        address="https://storage.googleapis.com/keras-applications/{stem}{top}.h5",
        origin=_EFFICIENTNET,
        licence_source=_EFFICIENTNET,
        networks=(
            Network("EfficientNetB0", "efficientnetb0", 224, 0.771),
            Network("EfficientNetB1", "efficientnetb1", 240, 0.791),
            Network("EfficientNetB2", "efficientnetb2", 260, 0.801),
            Network("EfficientNetB3", "efficientnetb3", 300, 0.816),
            Network("EfficientNetB4", "efficientnetb4", 380, 0.829),
            Network("EfficientNetB5", "efficientnetb5", 456, 0.836),
            Network("EfficientNetB6", "efficientnetb6", 528, 0.840),
            Network("EfficientNetB7", "efficientnetb7", 600, 0.843),
        ),
    ),
    "EfficientNetV2-B": Family(
        preprocessing="torch",
        address=_STORAGE + "efficientnet_v2/{stem}{top}.h5",
        origin="https://github.com/google/automl/tree/master/efficientnetv2",
        licence_source="https://github.com/google/automl/blob/master/LICENSE",
        networks=(
            Network("EfficientNetV2B0", "efficientnetv2-b0", 224, 0.787),
            Network("EfficientNetV2B1", "efficientnetv2-b1", 240, 0.798),
            Network("EfficientNetV2B2", "efficientnetv2-b2", 260, 0.805),
            Network("EfficientNetV2B3", "efficientnetv2-b3", 300, 0.820),
        ),
    ),
    "EfficientNetV2": Family(
        preprocessing="tf_128",
        address=_STORAGE + "efficientnet_v2/{stem}{top}.h5",
        origin="https://github.com/google/automl/tree/master/efficientnetv2",
        licence_source="https://github.com/google/automl/blob/master/LICENSE",
        networks=(
            Network("EfficientNetV2S", "efficientnetv2-s", 384, 0.839),
            Network("EfficientNetV2M", "efficientnetv2-m", 480, 0.853),
            Network("EfficientNetV2L", "efficientnetv2-l", 480, 0.857),
        ),
    ),
    "ConvNeXt": Family(
        preprocessing="torch",
        address=_STORAGE + "convnext/{stem}{top}.h5",
        origin="https://github.com/facebookresearch/ConvNeXt",
        licence="MIT",
        licence_source="https://github.com/facebookresearch/ConvNeXt",
        networks=(
            Network("ConvNeXtTiny", "convnext_tiny", 224, 0.813),
            Network("ConvNeXtSmall", "convnext_small", 224, 0.823),
            Network("ConvNeXtBase", "convnext_base", 224, 0.853),
            Network("ConvNeXtLarge", "convnext_large", 224, 0.863),
            Network("ConvNeXtXLarge", "convnext_xlarge", 224, 0.867),
        ),
    ),
    "MobileNet": Family(
        preprocessing="tf",
        address=_STORAGE + "mobilenet/mobilenet_{stem}_tf{top}.h5",
        without_top="_no_top",
        origin=f"{_SLIM}/nets/mobilenet_v1.md",
        top1_source=_KERAS_APPLICATIONS,
        networks=_mobilenets(),
    ),
    "MobileNetV2": Family(
        preprocessing="tf",
        address=_STORAGE + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{stem}{top}.h5",
        without_top="_no_top",
        origin=f"{_SLIM}/nets/mobilenet",
        top1_source=_KERAS_APPLICATIONS,
        networks=_mobilenets_v2(),
    ),
    "MobileNetV3": Family(
        preprocessing="tf",
        address=_STORAGE + "mobilenet_v3/weights_mobilenet_v3_{stem}_float{top}.h5",
        without_top="_no_top_v2",
        origin=f"{_SLIM}/nets/mobilenet",
        licence_source="https://github.com/tensorflow/models/blob/master/LICENSE",
        top1_source=_MOBILENET_V3,
        networks=(
            Network("MobileNetV3Small", "small_224_0.75", 224, 0.654, 0.75),
            Network("MobileNetV3Small", "small_224_1.0", 224, 0.681),
            Network("MobileNetV3Large", "large_224_0.75", 224, 0.733, 0.75),
            Network("MobileNetV3Large", "large_224_1.0", 224, 0.756),
        ),
    ),
    "ResNet": Family(
        preprocessing="caffe",
        address=_STORAGE + "resnet/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin="https://github.com/KaimingHe/deep-residual-networks",
        licence="MIT",
        licence_source=_KERAS_2_ZH,
        networks=(
            Network("ResNet50", "resnet50", 224, 0.749),
            Network("ResNet101", "resnet101", 224, 0.764),
            Network("ResNet152", "resnet152", 224, 0.766),
        ),
    ),
    "ResNetV2": Family(
        preprocessing="tf",
        address=_STORAGE + "resnet/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin="https://github.com/facebookarchive/fb.resnet.torch",
        licence="BSD-3-Clause",
        licence_source=_KERAS_2_ZH,
        networks=(
            Network("ResNet50V2", "resnet50v2", 224, 0.760),
            Network("ResNet101V2", "resnet101v2", 224, 0.772),
            Network("ResNet152V2", "resnet152v2", 224, 0.780),
        ),
    ),
    "DenseNet": Family(
        preprocessing="torch",
        address=_STORAGE + "densenet/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin="https://github.com/liuzhuang13/DenseNet",
        licence="BSD-3-Clause",
        networks=(
            Network("DenseNet121", "densenet121", 224, 0.750),
            Network("DenseNet169", "densenet169", 224, 0.762),
            Network("DenseNet201", "densenet201", 224, 0.773),
        ),
    ),
    "VGG": Family(
        preprocessing="caffe",
        address=_STORAGE + "{stem}/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin="https://www.robots.ox.ac.uk/~vgg/research/very_deep/",
        licence="CC-BY-4.0",
        networks=(
            Network("VGG16", "vgg16", 224, 0.713),
            Network("VGG19", "vgg19", 224, 0.713),
        ),
    ),
    "Xception": Family(
        preprocessing="tf",
        address=_STORAGE + "{stem}/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin="https://keras.io/api/applications/xception/",
        licence="MIT",
        networks=(Network("Xception", "xception", 299, 0.790),),
    ),
    "InceptionV3": Family(
        preprocessing="tf",
        address=_STORAGE + "{stem}/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin=_SLIM,
        networks=(Network("InceptionV3", "inception_v3", 299, 0.779),),
    ),
    "InceptionResNetV2": Family(
        preprocessing="tf",
        address=_STORAGE + "{stem}/{stem}_weights_tf_dim_ordering_tf_kernels{top}.h5",
        origin=_SLIM,
        networks=(Network("InceptionResNetV2", "inception_resnet_v2", 299, 0.803),),
    ),
    "NASNet": Family(
        preprocessing="tf",
        address=_STORAGE + "nasnet/NASNet-{stem}{top}.h5",
        without_top="-no-top",
        origin=f"{_SLIM}/nets/nasnet",
        networks=(
            Network("NASNetMobile", "mobile", 224, 0.744),
            Network("NASNetLarge", "large", 331, 0.825),
        ),
    ),
}


def _entries(family: Family) -> tuple[WeightFile, ...]:
    """The two files of each network."""
    formula, value_range = _PREPROCESSING[family.preprocessing]
    return tuple(
        WeightFile(
            model=network.application,
            name="imagenet",
            source=Download(url=family.address.format(stem=network.stem, top=top)),
            origin=family.origin,
            licence=family.licence,
            licence_source=family.licence_source,
            sha256=checksum if checksum and len(checksum) == 64 else None,
            md5=checksum if checksum and len(checksum) == 32 else None,
            alpha=network.alpha,
            num_classes=num_classes,
            image_size=network.image_size,
            preprocessing=formula,
            value_range=value_range,
            top1=network.top1,
            top1_source=family.top1_source,
        )
        for network in family.networks
        for top, num_classes, checksum in zip(
            ("", family.without_top), (1000, None), KERAS_CHECKSUMS.get(network.stem, (None, None)), strict=True
        )
    )


KERAS_FILES: tuple[WeightFile, ...] = tuple(entry for family in FAMILIES.values() for entry in _entries(family))


def find_keras_file(application: str, *, include_top: bool, alpha: float = 1.0, image_size: int = 224) -> WeightFile:
    """Return the official file of a network of `keras.applications`.

    Args:
        application: Name of its constructor.
        include_top: Whether the file holds the classifier for ImageNet's 1,000 classes.
        alpha: Width multiplier of MobileNet, MobileNetV2 or MobileNetV3.
        image_size: Height and width of the images, pixels. MobileNet and MobileNetV2 have files for several
            sizes; at other sizes that of the largest, 224 pixels, serves, and so does the only file of all other
            networks.

    Raises:
        InputError: If there is no such constructor, or no file of this width.

    Example:
        ```python
        path = fetch(find_keras_file("MobileNetV2", include_top=False, alpha=0.35, image_size=96))
        ```
    """
    files = [entry for entry in KERAS_FILES if entry.model == application]
    if not files:
        names = dict.fromkeys(entry.model for entry in KERAS_FILES)
        raise unknown_name("network of keras.applications", application, names)
    sizes = {
        entry.image_size: entry
        for entry in files
        if entry.alpha == alpha and (entry.num_classes is not None) == include_top
    }
    if not sizes:
        widths = ", ".join(str(width) for width in dict.fromkeys(entry.alpha for entry in files))
        raise InputError(
            f"{application} has no published weights of this width; it has of {widths}. Received: alpha={alpha}"
        )
    return sizes.get(image_size, sizes[max(sizes)])
