"""From an encoded image to pixels at the size that a model takes, in TensorFlow ops only.

Training, evaluation, prediction and an exported graph all call these functions: a model that is fed by
another decoder sees other pixels (Pillow and TensorFlow decode the same JPEG up to some levels apart).

What TensorFlow 2.21 makes of the kinds of files, as the tests pin it:

- JPEG in RGB, grey and CMYK, also progressive; PNG in RGB, grey, palette, 16 bits (scaled to 8) and 1 bit;
  BMP in 24 and 32 bits and 8-bit grey; GIF, its first frame; WebP: all come out as RGB.
- Transparency is dropped, not blended: the stored colour shows, and black where a GIF is transparent.
- A BMP with a palette and a GIF with frames smaller than its canvas come out wrong without an error, so
  `inspect` refuses them. BMPs of 1, 4 and 16 bits, animated WebP without transparency and whatever is cut
  short are errors.
- EXIF rotation is ignored.
"""

from typing import Literal

import tensorflow as tf

from recipes.parts.headers import ImageHeader as ImageHeader
from recipes.parts.headers import inspect as inspect
from zoo.errors import InputError
from zoo.registry import unknown_name

Resize = Literal["stretch", "crop", "pad"]
RESIZES: tuple[Resize, ...] = ("stretch", "crop", "pad")


def decode(encoded: tf.Tensor, *, size: int, resize: Resize) -> tf.Tensor:
    """Decode an image and bring it to a square.

    Works eagerly, in a `tf.function`, in `tf.data.Dataset.map` and in a SavedModel.

    Args:
        encoded: Scalar string, the content of an image file.
        size: Pixels a side.
        resize: How an image that is not square becomes so; see `resize_pixels`.

    Returns:
        uint8 `(size, size, 3)`, RGB from 0 to 255.

    Raises:
        InputError: If `size` or `resize` makes no sense.
        tf.errors.InvalidArgumentError: If the image cannot be decoded.
    """
    return resize_pixels(decode_pixels(encoded), size=size, resize=resize)


def decode_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decode an image at the size it has.

    Args:
        encoded: Scalar string, the content of an image file.

    Returns:
        uint8 `(height, width, 3)`, RGB from 0 to 255; of an animation the first frame.

    Raises:
        tf.errors.InvalidArgumentError: If the image cannot be decoded.
    """

    def channels(number: int) -> tf.Tensor:
        return tf.io.decode_image(encoded, channels=number, expand_animations=False)[..., :3]

    # TensorFlow drops the transparency of every format but WebP, where it wants to be asked for all four
    # channels. To ask for 0, "as many as there are", is no way out: on an opaque animation it writes past the
    # end of a buffer.
    pixels = tf.cond(_is_transparent_webp(encoded), lambda: channels(4), lambda: channels(3))
    return tf.ensure_shape(pixels, (None, None, 3))


def resize_pixels(pixels: tf.Tensor, *, size: int, resize: Resize) -> tf.Tensor:
    """Bring an image to a square, by linear interpolation over the area that each new pixel covers.

    The same as `tf.image.resize(antialias=True)` followed by a central crop or padding, but in one step, so
    that the enlarged image that a crop of a very long picture implies is never held.

    Args:
        pixels: uint8 `(height, width, 3)`.
        size: Pixels a side.
        resize: `"stretch"` changes the aspect ratio; `"crop"` makes the shorter side `size` and cuts the rest
            of the longer side away, equally at both ends; `"pad"` makes the longer side `size` and adds
            black, equally at both ends.

    Returns:
        uint8 `(size, size, 3)`.

    Raises:
        InputError: If `size` or `resize` makes no sense.
    """
    if size < 1:
        raise InputError(f"An image has 1 pixel a side or more. Received: size={size}")
    if resize not in RESIZES:
        raise unknown_name("resize", resize, RESIZES)
    sides = tf.shape(pixels, out_type=tf.int64)[:2]
    if resize == "stretch":
        scaled = tf.fill([2], tf.constant(size, tf.int64))
    else:
        fitted = tf.reduce_min(sides) if resize == "crop" else tf.reduce_max(sides)
        scaled = tf.maximum((2 * sides * size + fitted) // (2 * fitted), 1)  # sides * size / fitted, rounded
    resized = tf.raw_ops.ScaleAndTranslate(
        images=pixels[tf.newaxis],
        size=(size, size),
        scale=tf.cast(scaled, tf.float32) / tf.cast(sides, tf.float32),
        translation=tf.cast(tf.truncatediv(size - scaled, 2), tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.ensure_shape(tf.saturate_cast(tf.round(resized), tf.uint8), (size, size, 3))


def _is_transparent_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether an image is a WebP with transparency, by the flag in its header (RFC 9649, 2.7 and 3.4)."""
    start = tf.io.decode_raw(tf.strings.substr(encoded, 0, 25), tf.uint8, fixed_length=25)

    def holds(text: bytes, position: int) -> tf.Tensor:
        return tf.reduce_all(start[position : position + len(text)] == tf.constant(list(text), tf.uint8))

    extended = holds(b"VP8X", 12) & (start[20] & 0x10 > 0)
    lossless = holds(b"VP8L", 12) & (start[24] & 0x10 > 0)
    return holds(b"RIFF", 0) & holds(b"WEBP", 8) & (extended | lossless)
