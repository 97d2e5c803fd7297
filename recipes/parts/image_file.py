"""One image file, from disk to the pixels that a model takes, or a line that says what is wrong with it."""

from pathlib import Path

import tensorflow as tf

from recipes.parts.folder import read_image_file
from recipes.parts.images import Resize, decode, inspect
from recipes.parts.names import printable
from zoo.errors import InputError


def load_image(path: Path, *, size: int, resize: Resize) -> tf.Tensor:
    """Read and decode an image file.

    TensorFlow's decoders write to standard error past Python: call it within `runtime.native_stderr_held_back`.

    Args:
        path: The file: JPEG, PNG, BMP, GIF or WebP.
        size: Pixels a side.
        resize: How an image that is not square becomes so; see `recipes.parts.images.resize_pixels`.

    Returns:
        uint8 `(size, size, 3)`, RGB from 0 to 255.

    Raises:
        InputError: If the file cannot be read, is no image, or is damaged.
    """
    try:
        encoded = read_image_file(path)
        inspect(encoded)
        return decode(tf.constant(encoded), size=size, resize=resize)
    except OSError as error:
        reason = str(error.strerror or error)
    except InputError as error:
        reason = str(error)
    except tf.errors.InvalidArgumentError:
        reason = "its image data is damaged"
    raise InputError(f"{printable(str(path))}: {reason}")
