"""Headers agree with Pillow, and what should not be decoded is refused before it is."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recipes.parts.headers import MAX_PIXELS, ImageHeader, inspect, sniff
from zoo.errors import InputError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width=23, height=11):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 8 % 256, y * 10 % 256, (x + y) * 4 % 256], -1).astype(np.uint8))


def bmp(bits, compression, rest):
    """A 4 x 2 BMP."""
    information = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, bits, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rest), 0, 0, 54) + information + rest


SAMPLES = {kind: encode(gradient(), kind) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
def test_format_and_size_are_read(kind):
    expected = ImageHeader(format=kind, width=23, height=11, frames=1, orientation=1)
    assert inspect(SAMPLES[kind]) == expected


MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"],
    "BMP": ["RGB", "RGBA", "L"],
    "GIF": ["RGB", "RGBA", "L", "P", "1"],
    "WEBP": ["RGB", "RGBA"],
}


@settings(deadline=None)
@given(
    st.sampled_from([(kind, mode) for kind, modes in MODES.items() for mode in modes]),
    st.integers(1, 600),
    st.integers(1, 600),
    st.sampled_from([{}, {"progressive": True}, {"lossless": True}, {"exif": b"Exif\0\0"}]),
)
def test_size_is_what_pillow_says(kind_and_mode, width, height, options):
    kind, mode = kind_and_mode
    encoded = encode(Image.new(mode, (width, height)), kind, **options)
    header = inspect(encoded)
    assert (header.width, header.height) == Image.open(io.BytesIO(encoded)).size == (width, height)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_are_counted_where_tensorflow_would_read_them(kind):
    frames = [Image.new("RGBA", (9, 5), (40 * i, 0, 0, 200)) for i in range(4)]
    encoded = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(encoded)).n_frames == 4
    # The frames of an animated PNG are extra chunks, which TensorFlow does not look at.
    assert inspect(encoded).frames == (1 if kind == "PNG" else 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_reported(kind, orientation):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    assert inspect(encode(gradient(), kind, exif=exif)).orientation == orientation


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",
    ],
    ids=["none", "empty", "pointer beyond the end", "cut off", "orientation 99"],
)
def test_damaged_exif_counts_as_upright(exif):
    assert inspect(encode(gradient(), "JPEG", exif=exif)).orientation == 1


def test_exif_may_be_big_endian():
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIH", 8, 1, 0x0112, 3, 1, 6) + bytes(6)
    assert inspect(encode(gradient(), "JPEG", exif=exif)).orientation == 6


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "not a JPEG, PNG, BMP, GIF or WebP image"),
        (b"\xff\xd8\xff", "its JPEG header is damaged"),
        (SAMPLES["JPEG"][:100], "its JPEG header is damaged"),
        (SAMPLES["PNG"][:20], "its PNG header is damaged"),
        (SAMPLES["BMP"][:20], "its BMP header is damaged"),
        (SAMPLES["GIF"][:7], "its GIF header is damaged"),
        (SAMPLES["WEBP"][:20], "its WEBP header is damaged"),
        (b"GIF89a" + bytes(20), "its GIF header is damaged"),
        (SAMPLES["PNG"][:16] + bytes(8) + SAMPLES["PNG"][24:], "its PNG header is damaged: 0 x 0 pixels"),
        (
            SAMPLES["GIF"][:6] + struct.pack("<HH", 24, 11) + SAMPLES["GIF"][10:],
            "TensorFlow cannot read a GIF with frames smaller than its canvas: make it a PNG",
        ),
        (encode(gradient(), "TIFF"), "not a JPEG, PNG, BMP, GIF or WebP image"),
        (encode(gradient(), "ICO"), "not a JPEG, PNG, BMP, GIF or WebP image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(encoded, message):
    with pytest.raises(InputError) as refusal:
        inspect(encoded)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "encoded",
    [
        encode(gradient().convert("P", palette=Image.Palette.ADAPTIVE), "BMP"),
        encode(gradient().convert("1"), "BMP"),
        bmp(16, 0, bytes(16)),
        bmp(8, 1, bytes([level for grey in range(256) for level in (grey, grey, grey, 0)]) + bytes(8)),
        bmp(32, 3, struct.pack("<III", 0xFF, 0xFF00, 0xFF0000) + bytes(32)),
    ],
    ids=["palette", "1 bit", "16 bit", "run lengths", "red and blue swapped"],
)
def test_a_bmp_that_tensorflow_would_misread_is_refused(encoded):
    with pytest.raises(InputError, match="cannot read this kind of BMP"):
        inspect(encoded)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_plain_bmp_is_accepted(mode):
    assert inspect(encode(gradient().convert(mode), "BMP")).format == "BMP"


def test_an_animated_webp_without_transparency_is_refused():
    frames = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(3)]
    with pytest.raises(InputError, match="animated WebP without transparency"):
        inspect(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


def png_that_claims(width, height):
    encoded = bytearray(SAMPLES["PNG"])
    encoded[16:24] = struct.pack(">II", width, height)
    encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    return bytes(encoded)


def gif_with_frame(width, height):
    """A 23 x 11 GIF with one more frame, of any size and without its data."""
    return SAMPLES["GIF"][:-1] + b"\x2c" + struct.pack("<4xHHB", width, height, 0) + b"\x02\x01\x4c\x00\x3b"


@pytest.mark.parametrize(
    "encoded",
    [
        png_that_claims(30_000, 30_000),
        png_that_claims(2**31 - 1, 2**31 - 1),
        gif_with_frame(40_000, 40_000),
        gif_with_frame(60_000, 1)[:-1] + gif_with_frame(1, 60_000)[len(SAMPLES["GIF"]) - 1 :],
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/" + struct.pack("<I", 16382 | 16382 << 14) + bytes(9),
    ],
    ids=["png", "png beyond 2**61 pixels", "gif with one large frame", "gif with a wide and a high frame", "webp"],
)
def test_a_decompression_bomb_is_refused(encoded):
    with pytest.raises(InputError, match=r"[\d,]+ megapixels.*no more than 64 are decoded"):
        inspect(encoded)


def test_the_limit_counts_all_frames_of_an_animation():
    half = gif_with_frame(4096, MAX_PIXELS // 2 // 4096)
    assert inspect(half).frames == 2
    with pytest.raises(InputError, match="64 megapixels in 3 frames"):
        inspect(half[:-1] + gif_with_frame(4096, MAX_PIXELS // 2 // 4096)[len(SAMPLES["GIF"]) - 1 :])


def test_a_large_image_within_the_limit_is_fine():
    assert inspect(png_that_claims(8192, 8192)).width == 8192


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12),
    length=st.integers(0, 2_000),
)
def test_arbitrary_damage_gives_a_header_or_a_refusal(kind, changes, length):
    encoded = bytearray(SAMPLES[kind])
    for position, value in changes:
        if position < len(encoded):
            encoded[position] = value
    try:
        header = inspect(bytes(encoded[:length]))
    except InputError:
        return
    assert header.format == sniff(bytes(encoded[:length]))
    assert 0 < header.width * header.height <= MAX_PIXELS
