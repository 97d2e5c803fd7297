"""Packages that only some formats need, so that the usual installation does without them."""

import importlib.util

from zoo.errors import InputError

EXTRAS = {
    "litert": ("ai_edge_litert",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "openvino": ("openvino",),
    "serving": ("ray.serve",),
}
"""The modules that each extra of `pyproject.toml` is for."""


def require(extra: str) -> None:
    """Make sure that the packages of an extra are installed; nothing is imported but the parents of submodules.

    Args:
        extra: A key of `EXTRAS`.

    Raises:
        InputError: If one is not there; the message has the command that installs it.
    """
    missing = [module for module in EXTRAS[extra] if not _installed(module)]
    if missing:
        raise InputError(
            f"This needs packages that are not installed ({', '.join(missing)}): "
            f"pip install 'keras-model-zoo[{extra}]', or pip install -e '.[{extra}]' where you have the source"
        )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent is there
        return False
