"""What an image file says about itself, read without decoding a pixel.

Not by Pillow: on opening a file it warns of damaged EXIF and of what it takes for decompression bombs by
limits of its own (and warnings cannot be held back in one thread alone), it allocates the whole canvas of a
WebP, and it does not look at GIF frames larger than the canvas. The tests compare what is read here with
Pillow.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zoo.errors import InputError

MAX_PIXELS = 64 * 2**20
"""Larger images are refused: decoding and resizing takes up to 15 bytes a pixel, in each thread at once."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an image file says about itself."""

    format: str
    """`JPEG`, `PNG`, `BMP`, `GIF` or `WEBP`, by content."""
    width: int
    """Pixels, as stored: before any EXIF rotation."""
    height: int
    """Pixels, as stored: before any EXIF rotation."""
    frames: int
    """Pictures of an animation; only the first is used."""
    orientation: int
    """EXIF orientation: 1 is upright, 2 to 8 are mirrored or turned. Not applied: a served graph cannot."""


def sniff(start: bytes) -> str | None:
    """Return the format that the first 12 bytes of a file announce, by TensorFlow's own rule, or None."""
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"GIF8"):
        return "GIF"
    if start.startswith(b"BM"):
        return "BMP"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    return None


def inspect(encoded: bytes) -> ImageHeader:
    """Read an image's header.

    Args:
        encoded: The whole file.

    Returns:
        The header. Its image may still turn out to be damaged when it is decoded.

    Raises:
        InputError: If this is no JPEG, PNG, BMP, GIF or WebP image, if its header is damaged, if TensorFlow
            is known to decode its kind wrongly or not at all, or if it has more than `MAX_PIXELS` pixels in
            all its frames. The message is a phrase without the file's name, which is not known here.
    """
    if not encoded:
        raise InputError("the file is empty")
    kind = sniff(encoded)
    if kind is None:
        raise InputError("not a JPEG, PNG, BMP, GIF or WebP image")
    try:
        header, pixels = _READERS[kind](encoded)
    except InputError:
        raise
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"its {kind} header is damaged") from error
    if header.width < 1 or header.height < 1:
        raise InputError(f"its {kind} header is damaged: {header.width} x {header.height} pixels")
    if pixels > MAX_PIXELS:
        frames = f" in {header.frames} frames" if header.frames > 1 else ""
        raise InputError(
            f"{pixels / 2**20:,.0f} megapixels{frames} ({header.width} x {header.height}); "
            f"no more than {MAX_PIXELS / 2**20:.0f} are decoded"
        )
    return header


# Each reader returns the header and the pixels that a decoder unpacks, in all frames. On damage it raises
# what its last look at a byte raises.


def _read_jpeg(encoded: bytes) -> tuple[ImageHeader, int]:
    """Walk the marker segments up to the first scan (ITU-T T.81, annex B)."""
    size: tuple[int, int] | None = None
    orientation = 1
    position = 2
    while True:
        position = encoded.index(0xFF, position)
        while encoded[position] == 0xFF:  # a marker may be preceded by any number of fill bytes
            position += 1
        marker = encoded[position]
        position += 1
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # without a segment
            continue
        (length,) = struct.unpack_from(">H", encoded, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            size = struct.unpack_from(">HH", encoded, position + 3)
        elif marker == 0xE1 and encoded[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _orientation(encoded[position + 8 : position + length])
        elif marker in (0xD9, 0xDA):
            # Of a file that ends in its header the JPEG library complains on standard error.
            if size is None or position + length > len(encoded):
                raise InputError("its JPEG header is damaged")
            height, width = size
            header = ImageHeader(format="JPEG", width=width, height=height, frames=1, orientation=orientation)
            return header, width * height
        position += length


def _read_png(encoded: bytes) -> tuple[ImageHeader, int]:
    """Read the first chunk, and look for EXIF in those before the pixels (PNG specification, 5 and 11)."""
    width, height = struct.unpack_from(">II", encoded, 16)
    orientation = 1
    position = 8
    kind = b""
    while kind != b"IDAT":
        length, kind = struct.unpack_from(">I4s", encoded, position)
        if kind == b"eXIf":
            orientation = _orientation(encoded[position + 8 : position + 8 + length])
        position += 12 + length
    # The frames of an animated PNG are chunks of their own, which TensorFlow does not look at.
    header = ImageHeader(format="PNG", width=width, height=height, frames=1, orientation=orientation)
    return header, width * height


def _read_bmp(encoded: bytes) -> tuple[ImageHeader, int]:
    """Read the information header, and refuse what TensorFlow takes for something else without an error."""
    header_size, width, height, bits, compression, colors = struct.unpack_from("<Iii2xHI12xI", encoded, 14)
    palette = encoded[14 + header_size :][: 4 * (colors or 256)]
    grey_levels = all(palette[4 * level : 4 * level + 3] == bytes([level] * 3) for level in range(len(palette) // 4))
    if not (
        (compression == 0 and bits in (24, 32))
        or (compression == 0 and bits == 8 and grey_levels)
        or (compression == 3 and bits == 32 and encoded[54:66] == struct.pack("<III", 0xFF0000, 0xFF00, 0xFF))
    ):
        raise InputError("TensorFlow cannot read this kind of BMP (palette, compressed or 16-bit): make it a PNG")
    header = ImageHeader(format="BMP", width=width, height=abs(height), frames=1, orientation=1)
    return header, header.width * header.height


def _read_webp(encoded: bytes) -> tuple[ImageHeader, int]:
    """Read the first chunk, and look for frames and EXIF in those that follow (RFC 9649)."""
    kind = encoded[12:16]
    frames, orientation = 1, 1
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", encoded, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        flags = encoded[20]
        width, height = (int.from_bytes(encoded[start : start + 3], "little") + 1 for start in (24, 27))
        chunks = list(_webp_chunks(encoded))
        if flags & 0x02:
            frames = sum(name == b"ANMF" for name, _ in chunks)
            if not flags & 0x10:
                raise InputError("TensorFlow cannot read an animated WebP without transparency: save one frame")
        orientation = next((_orientation(data) for name, data in chunks if name == b"EXIF"), 1)
    else:
        raise InputError("its WEBP header is damaged")
    header = ImageHeader(format="WEBP", width=width, height=height, frames=frames, orientation=orientation)
    return header, width * height * max(frames, 1)


def _webp_chunks(encoded: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position + 8 <= len(encoded):
        name, length = struct.unpack_from("<4sI", encoded, position)
        yield name, encoded[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def _read_gif(encoded: bytes) -> tuple[ImageHeader, int]:
    """Read the sizes of all frames, as TensorFlow makes room for the widest and the highest of them."""
    canvas = struct.unpack_from("<HH", encoded, 6)
    sizes = list(_gif_frame_sizes(encoded))
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    if width < canvas[0] or height < canvas[1]:
        raise InputError("TensorFlow cannot read a GIF with frames smaller than its canvas: make it a PNG")
    header = ImageHeader(format="GIF", width=width, height=height, frames=len(sizes), orientation=1)
    return header, max(sum(width * height for width, height in sizes), width * height)


def _gif_frame_sizes(encoded: bytes) -> Iterator[tuple[int, int]]:
    """Yield width and height of each frame, walking from block to block (GIF89a specification, appendix A)."""
    position = 13 + _color_table_bytes(encoded[10])
    while position < len(encoded):
        block = encoded[position]
        if block == 0x2C and position + 10 < len(encoded):  # image descriptor
            width, height, flags = struct.unpack_from("<4xHHB", encoded, position + 1)
            yield width, height
            position += 11 + _color_table_bytes(flags)
        elif block == 0x21:  # extension
            position += 2
        else:  # trailer, or damage on which the decoder will have its say
            return
        while position < len(encoded) and encoded[position]:  # data sub-blocks, each led by its length
            position += 1 + encoded[position]
        position += 1


def _color_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _orientation(exif: bytes) -> int:
    """Return the orientation that an EXIF block gives, or 1 if it gives none."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, directory + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


_READERS: dict[str, Callable[[bytes], tuple[ImageHeader, int]]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "BMP": _read_bmp,
    "GIF": _read_gif,
    "WEBP": _read_webp,
}
