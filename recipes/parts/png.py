"""Pixels as an image file, in bytes that are the same everywhere."""

import struct
import zlib

import numpy as np


def encode_png(pixels: np.ndarray) -> bytes:
    """Put pixels into a PNG file without compressing them.

    The bytes are hashed, and splits are drawn by the hash: written out here, they depend on no version of a library.

    Args:
        pixels: uint8 `(height, width)`, or `(height, width, channels)` of 1 (grey) or 3 (RGB) channels.

    Returns:
        The file.

    Reference:
        [PNG specification](https://www.w3.org/TR/png-3/); RFC 1950 and 1951 for the blocks of its pixels.
    """
    height, width = pixels.shape[:2]
    channels = pixels[0, 0].size
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # a row begins with its filter; 0 is none
    rows[:, 1:] = pixels.reshape(height, -1)
    content = rows.tobytes()
    blocks = [content[start : start + 0xFFFF] for start in range(0, len(content), 0xFFFF)]
    stored = b"".join(
        struct.pack("<BHH", place == len(blocks), len(block), 0xFFFF - len(block)) + block
        for place, block in enumerate(blocks, 1)
    )
    color_type = 2 if channels == 3 else 0
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
            _png_chunk(b"IDAT", b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(content))),
            _png_chunk(b"IEND", b""),
        )
    )


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
