"""One decoder for every kind of file, pinned against Pillow; one resize, pinned against TensorFlow's own."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recipes.parts.headers import inspect
from recipes.parts.images import RESIZES, decode, decode_pixels, resize_pixels
from zoo.errors import InputError


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width=32, height=24):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 8 % 256, y * 10 % 256, (x + y) * 4 % 256], -1).astype(np.uint8))


RGB = gradient()
GREY = RGB.convert("L")
ALPHA = Image.fromarray(np.mgrid[0:24, 0:32][1].astype(np.uint8) * 8)
RGBA = RGB.convert("RGBA")
RGBA.putalpha(ALPHA)
GREY_ALPHA = GREY.convert("LA")
GREY_ALPHA.putalpha(ALPHA)
PALETTE = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
DEEP = Image.fromarray(np.mgrid[0:24, 0:32][1].astype(np.uint16) * 2047)
FRAMES = [Image.new("RGBA", (8, 8), (level, level, level, 100)) for level in (10, 120, 240)]


def levels(image):
    """What Pillow makes of an image that holds exactly these levels."""
    if image.mode == "I;16":
        return np.repeat(np.asarray(image)[..., np.newaxis] / 257, 3, axis=-1)
    return np.asarray(image.convert("RGB"), float)


# name: encoded, the image that went in (None: Pillow decodes it), and by how many levels TensorFlow may differ.
# Lossless formats agree exactly. Of JPEG the two use different inverse transforms and chroma upsampling.
READABLE = {
    "JPEG": (encode(RGB, "JPEG", quality=95), None, 10),
    "JPEG, progressive": (encode(RGB, "JPEG", quality=95, progressive=True), None, 10),
    "JPEG, grey": (encode(GREY, "JPEG", quality=95), None, 3),
    "JPEG, CMYK": (encode(RGB.convert("CMYK"), "JPEG", quality=95), None, 4),
    "PNG": (encode(RGB, "PNG"), RGB, 0),
    "PNG, grey": (encode(GREY, "PNG"), GREY, 0),
    "PNG, grey and alpha": (encode(GREY_ALPHA, "PNG"), GREY, 0),
    "PNG, RGBA": (encode(RGBA, "PNG"), RGB, 0),
    "PNG, palette": (encode(PALETTE, "PNG"), PALETTE, 0),
    "PNG, transparent palette": (encode(PALETTE, "PNG", transparency=3), PALETTE, 0),
    "PNG, 16 bit": (encode(DEEP, "PNG"), DEEP, 1),
    "PNG, 1 bit": (encode(GREY.convert("1"), "PNG"), GREY.convert("1"), 0),
    "PNG, animated": (encode(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), FRAMES[0], 0),
    "BMP": (encode(RGB, "BMP"), RGB, 0),
    "BMP, grey": (encode(GREY, "BMP"), GREY, 0),
    "BMP, RGBA": (encode(RGBA, "BMP"), RGB, 0),
    "GIF, palette": (encode(PALETTE, "GIF"), PALETTE, 0),
    "GIF, grey": (encode(GREY, "GIF"), GREY, 0),
    "GIF, 1 bit": (encode(GREY.convert("1"), "GIF"), GREY.convert("1"), 0),
    "GIF, animated": (
        encode(FRAMES[0].convert("L"), "GIF", save_all=True, append_images=FRAMES[1:]),
        FRAMES[0],
        0,
    ),
    "WebP": (encode(RGB, "WEBP"), None, 10),
    "WebP, lossless": (encode(RGB, "WEBP", lossless=True), RGB, 0),
    "WebP, grey": (encode(GREY, "WEBP", lossless=True), GREY, 0),
    "WebP, RGBA": (encode(RGBA, "WEBP", quality=90), None, 10),
    "WebP, lossless RGBA": (encode(RGBA, "WEBP", lossless=True, exact=True), RGB, 0),
    "WebP, RGBA with EXIF": (encode(RGBA, "WEBP", lossless=True, exact=True, exif=b"Exif\0\0"), RGB, 0),
    "WebP, animated": (
        encode(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        FRAMES[0],
        0,
    ),
    "1 x 1": (encode(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG"), Image.new("RGB", (1, 1), (9, 8, 7)), 0),
}


@pytest.mark.parametrize("name", READABLE)
def test_every_kind_of_file_comes_out_as_rgb(name):
    encoded, image, tolerance = READABLE[name]
    header = inspect(encoded)
    pixels = decode_pixels(encoded).numpy()
    assert pixels.dtype == np.uint8
    assert pixels.shape == (header.height, header.width, 3)
    expected = levels(image if image is not None else Image.open(io.BytesIO(encoded)))
    opaque = np.asarray(ALPHA) > 0 if image is None and name == "WebP, RGBA" else slice(None)
    assert np.abs(pixels.astype(float) - expected)[opaque].max() <= tolerance


def test_the_name_of_a_file_plays_no_part():
    """There is no name at all: a PNG called .jpg is read as what it is."""
    assert np.array_equal(decode_pixels(encode(RGB, "PNG")).numpy(), np.asarray(RGB))


def test_a_gif_is_as_large_as_its_largest_frames():
    """TensorFlow makes room by the frames and not by the canvas, so `inspect` measures those."""
    encoded = encode(GREY, "GIF")
    start = encoded.index(b"\x2c", 13 + 3 * 256)
    # The same frame twice, on a canvas of 1 x 1.
    twice = encoded[:6] + b"\1\0\1\0" + encoded[10:-1] + encoded[start:]
    header = inspect(twice)
    assert (header.height, header.width, header.frames) == (24, 32, 2)
    assert np.array_equal(decode_pixels(twice).numpy(), decode_pixels(encoded).numpy())


def test_where_a_gif_is_transparent_it_is_black():
    palette = Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8))
    palette.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 90, 90, 90])
    pixels = decode_pixels(encode(palette, "GIF", transparency=1)).numpy()
    assert pixels.tolist() == [[[200, 0, 0], [0, 0, 0], [0, 0, 200], [90, 90, 90]]]


def test_exif_rotation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(RGB, "JPEG", exif=exif)
    assert decode_pixels(encoded).shape == (24, 32, 3)
    assert np.array_equal(decode_pixels(encoded).numpy(), decode_pixels(encode(RGB, "JPEG")).numpy())


def cut(name, part):
    encoded = READABLE[name][0]
    return encoded[: int(len(encoded) * part)]


UNREADABLE = {
    **{
        f"{name} cut at {part:.0%}": cut(name, part)
        for name in ("JPEG", "PNG", "BMP", "GIF, grey", "WebP")
        for part in (0.3, 0.9)
    },
    "no bytes": b"",
    "text": b"hello, this is text",
    "TIFF": encode(RGB, "TIFF"),
    "BMP, 1 bit": encode(GREY.convert("1"), "BMP"),
    "WebP, opaque animation": encode(
        FRAMES[0].convert("RGB"), "WEBP", save_all=True, append_images=[FRAMES[1].convert("RGB")]
    ),
    "PNG, a bit flipped": bytes(byte ^ (position == 80) for position, byte in enumerate(encode(RGB, "PNG"))),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_decoded_raises(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_pixels(UNREADABLE[name])


def test_tensorflow_misreads_a_bmp_with_a_palette():
    """The reason why `inspect` refuses them; if this fails, TensorFlow has learned to."""
    encoded = encode(PALETTE, "BMP")
    pixels = decode_pixels(encoded).numpy()
    assert np.abs(pixels.astype(float) - levels(PALETTE)).max() > 100
    with pytest.raises(InputError, match="cannot read this kind of BMP"):
        inspect(encoded)


# Resizing


def literal(pixels, size, resize):
    """The same in TensorFlow's own high-level functions, which hold the enlarged image."""
    height, width = pixels.shape[:2]
    sides = np.array([height, width], np.int64)
    fitted = {"stretch": None, "crop": sides.min(), "pad": sides.max()}[resize]
    scaled = (
        [size, size] if fitted is None else [max(1, int(np.floor(s * size / fitted + 0.5))) for s in (height, width)]
    )
    resized = tf.image.resize(pixels, scaled, antialias=True)
    return tf.image.resize_with_crop_or_pad(resized, size, size).numpy()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 70),
    st.sampled_from(RESIZES),
    st.integers(0, 2**32 - 1),
)
def test_resize_is_what_tensorflow_does_and_then_a_crop_or_padding(height, width, size, resize, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    resized = resize_pixels(pixels, size=size, resize=resize).numpy()
    assert resized.dtype == np.uint8
    assert resized.shape == (size, size, 3)
    assert np.abs(resized - literal(pixels, size, resize)).max() <= 0.5 + 1e-3


def test_stretch_is_exactly_a_rounded_antialiased_resize():
    pixels = np.random.default_rng(0).integers(0, 256, (83, 131, 3), np.uint8)
    expected = np.round(tf.image.resize(pixels, (48, 48), method="bilinear", antialias=True).numpy()).astype(np.uint8)
    assert np.array_equal(resize_pixels(pixels, size=48, resize="stretch").numpy(), expected)


def test_resize_agrees_with_pillow():
    """Pillow's bilinear filter is antialiased too; it rounds after each direction."""
    pixels = np.asarray(gradient(200, 150).resize((160, 120)))
    expected = np.asarray(Image.fromarray(pixels).resize((48, 48), Image.Resampling.BILINEAR), float)
    assert np.abs(resize_pixels(pixels, size=48, resize="stretch").numpy() - expected).max() <= 1


def test_crop_keeps_the_centre_and_pad_keeps_everything():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:20, 1] = pixels[:, 20:, 2] = 250
    crop = resize_pixels(pixels, size=10, resize="crop").numpy()
    assert np.array_equal(crop, pixels[:, 10:20])
    pad = resize_pixels(pixels, size=30, resize="pad").numpy()
    assert np.array_equal(pad[10:20], pixels)
    assert not pad[:10].any()
    assert not pad[20:].any()


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize(("height", "width"), [(1, 5000), (5000, 1), (1, 1), (2, 3)])
def test_extreme_shapes_keep_their_colour(height, width, resize):
    """A crop of 1 x 5000 implies an enlarged image of 96 x 480,000, which must not be held."""
    pixels = np.full((height, width, 3), 200, np.uint8)
    resized = resize_pixels(pixels, size=96, resize=resize).numpy()
    assert resized.max() == 200
    shown = resized[..., 0] == 200
    assert shown.all() if resize != "pad" else shown.any()


def test_levels_do_not_leave_the_range():
    pixels = np.random.default_rng(1).choice([0, 255], (31, 57, 3)).astype(np.uint8)
    smooth = resize_pixels(pixels, size=100, resize="stretch").numpy()
    assert smooth.min() == 0
    assert smooth.max() == 255


@pytest.mark.parametrize(("size", "resize"), [(0, "stretch"), (-3, "crop"), (8, "squash")])
def test_what_makes_no_sense_is_refused(size, resize):
    with pytest.raises(InputError, match=f"{size}|{resize}"):
        resize_pixels(np.zeros((4, 4, 3), np.uint8), size=size, resize=resize)


# Where it runs


@pytest.mark.parametrize("resize", RESIZES)
def test_eager_graph_pipeline_and_saved_model_agree_bit_for_bit(tmp_path, resize):
    files = [READABLE[name][0] for name in ("JPEG", "PNG, RGBA", "GIF, animated", "WebP, lossless RGBA", "BMP")]
    eager = np.stack([decode(file, size=20, resize=resize).numpy() for file in files])

    class Server(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def __call__(self, encoded):
            return decode(encoded, size=20, resize=resize)

    server = Server()
    assert np.array_equal(np.stack([server(tf.constant(file)).numpy() for file in files]), eager)

    pipeline = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: decode(file, size=20, resize=resize), num_parallel_calls=2
    )
    assert pipeline.element_spec == tf.TensorSpec((20, 20, 3), tf.uint8)
    assert np.array_equal(np.stack(list(pipeline.as_numpy_iterator())), eager)

    tf.saved_model.save(server, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert np.array_equal(np.stack([loaded(tf.constant(file)).numpy() for file in files]), eager)


def test_headers_are_read_without_tensorflow():
    code = "import sys, recipes.parts.headers; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
