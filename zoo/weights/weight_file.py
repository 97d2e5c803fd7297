"""What the manifest says of one file of pretrained weights."""

from dataclasses import dataclass
from typing import Literal


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

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that is downloaded once and kept under `ZOO_HOME`.

    Args:
        url: Where the publisher has it; `https`.
    """

    url: str

    @property
    def file_name(self) -> str:
        """The last part of the address, under which the file is kept."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One file of pretrained weights.

    Args:
        model: Name of the model in `zoo.MODELS`, or of the constructor in `keras.applications`.
        name: What `weights=` takes.
        source: Where the file is found.
        origin: Who made the weights, as an address to read more at.
        licence: SPDX identifier of the weights' licence, as the publisher states it.
        licence_source: Where the publisher states it.
        sha256: SHA-256 that the publisher states, hexadecimal.
        md5: MD5 that the publisher states, hexadecimal, for want of something better.
        alpha: Width multiplier, where files of several widths exist.
        num_classes: Outputs of the classifier; `None` if the file leaves the classifier out.
        image_size: Height and width of the images it was evaluated on, pixels.
        preprocessing: What is done to pixels `x` from 0 to 255 before the network sees them.
        value_range: The lowest and the highest number that pixels from 0 to 255 then are, in any channel.
        top1: Share of ImageNet's validation images whose first guess is right, measured with the classifier
            (also for the file without it); `None` if nobody reports it for this file.
        top1_source: Where it is reported.
    """

    model: str
    name: str
    source: PackageFile | Download
    origin: str
    licence: str
    licence_source: str
    sha256: str | None = None
    md5: str | None = None
    alpha: float = 1.0
    num_classes: int | None
    image_size: int
    preprocessing: str
    value_range: tuple[float, float]
    top1: float | None
    top1_source: str

    @property
    def file_name(self) -> str:
        """The last part of its path or address."""
        return self.source.file_name

    @property
    def checksum(self) -> Literal["published", "first-use"]:
        """How the file is known: `"published"` if its publisher states a checksum.

        Otherwise `"first-use"`: the SHA-256 of the first copy that is seen is kept beside it, in
        `ZOO_HOME/weights/{file_name}.json`, and verified ever after.
        """
        return "published" if self.sha256 or self.md5 else "first-use"
