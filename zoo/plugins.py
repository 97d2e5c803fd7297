"""Files of the user that register parts of their own."""

import hashlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path

from zoo.errors import InputError


def load_plugin(path: str | os.PathLike[str]) -> None:
    """Run a Python file that registers blocks, pools, stems, heads or models, so that specs can name them.

    Loading the same file again replaces what it registered before.

    Args:
        path: The file.

    Raises:
        InputError: If there is no such file, or it fails; the message has its error and the line.

    Example:
        ```python
        # my_parts.py
        from keras import layers
        from zoo import BLOCKS


        @BLOCKS.register("mine")
        def mine(inputs, *, filters, strides, style, name):
            x = layers.Conv2D(filters, 3, strides=strides, padding="same", name=f"{name}_conv")(inputs)
            return layers.Activation(style.activation, name=f"{name}_activation")(x)
        ```

        ```python
        load_plugin("my_parts.py")
        ```
    """
    file = Path(path).expanduser()
    if file.suffix != ".py" or not file.is_file():
        raise InputError(f"A plugin must be a Python file, NAME.py. Received: {str(path)!r}, which is none.")
    # A name of its own for each file, so that two of them with equal names stay apart in error messages and
    # registries.
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    name = f"zoo_plugin_{file.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the suffix is that of source code
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"The plugin {file} failed{_line_of(error, file)}: {type(error).__name__}: {error}") from error


def _line_of(error: Exception, file: Path) -> str:
    """Where in the file the error comes from, as far as it does."""
    if isinstance(error, SyntaxError):
        return f" at line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
    return f" at line {lines[-1]}" if lines else ""
