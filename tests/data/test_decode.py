"""Any file becomes the picture it holds, or the reason why not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastgan.data.decode import FORMATS, Unusable, decode, probe, quiet
from tests.data.picture_files import encoded, picture, pixels


def near(some, others, by=1):
    return np.abs(some.astype(int) - others.astype(int)).max() <= by


def pillows(image, resolution, mode="RGB"):
    """Centre square, then Pillow's own bicubic."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.convert(mode).crop((left, top, left + side, top + side))
    return np.array(image.resize((resolution, resolution), Image.Resampling.BICUBIC)).reshape(
        resolution, resolution, -1
    )


@pytest.mark.parametrize(("height", "width"), [(24, 24), (24, 37), (40, 25), (7, 9)])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_is_the_centre_square_resized(height, width, channels, mode):
    image = picture(1, height, width)
    got, converted = decode(encoded(image, "PNG"), 16, channels)
    assert got.shape == (16, 16, channels)
    assert got.dtype == np.uint8
    assert np.array_equal(got, pillows(image, 16, mode))
    assert converted == []


def test_what_fits_is_left_as_it_is():
    assert np.array_equal(decode(encoded(picture(), "PNG"), 24, 3)[0], pixels())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(channels):
    data = encoded(picture(3, 700, 500), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert near(decode(data, 32, channels)[0], pillows(image, 32, "L" if channels == 1 else "RGB"), 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats_by_content(kind):
    got, _ = decode(encoded(picture(2), kind), 24, 3)
    assert near(got, pixels(2), 80 if kind in ("GIF", "WEBP", "JPEG") else 0)


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_exif_rotation_is_undone(kind, orientation):
    image = picture(4, 24, 35)
    data = encoded(image, kind, exif=exif(orientation), **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as stored:
        expected = pillows(ImageOps.exif_transpose(stored), 24)
    got, converted = decode(data, 24, 3)
    assert np.array_equal(got, expected)
    # Pillow turns a TIFF itself.
    assert converted == (["rotated by EXIF"] if orientation != 1 and kind != "TIFF" else [])


def test_cmyk():
    got, converted = decode(encoded(picture(5).convert("CMYK"), "JPEG", quality=95), 24, 3)
    assert converted == ["CMYK"]
    assert near(got, pixels(5), 40)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    got, converted = decode(encoded(Image.fromarray(values), kind), 16, 1)
    assert np.array_equal(got[:, :, 0].ravel(), np.arange(256))
    assert converted == ["16-bit grey"]
    assert np.array_equal(decode(encoded(Image.fromarray(values), kind), 16, 3)[0][:, :, 2], got[:, :, 0])


def test_an_animation_gives_its_first_frame():
    for kind in ("GIF", "WEBP", "PNG"):
        frames = [picture(i) for i in range(3)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        got, converted = decode(data, 24, 3)
        assert converted == ["animated, first frame"]
        assert near(got, pixels(0), 60 if kind == "GIF" else 0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(mode):
    image = Image.new("RGBA", (24, 24), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 12, 24))
    options = {}
    if mode == "P":
        image = Image.fromarray(np.array(image)[:, :, 3] // 255).convert("P")
        options = {"transparency": 0}
        image.putpalette([200, 0, 0, 0, 0, 0])
    got, converted = decode(encoded(image.convert(mode), "PNG", **options), 24, 3)
    assert (got[:, 0] == 0).all()
    assert (got[:, 23] == 255).all()
    assert converted == ["transparent, on white"]


def test_an_opaque_alpha_channel_is_nothing_to_tell():
    got, converted = decode(encoded(picture(6).convert("RGBA"), "PNG"), 24, 3)
    assert np.array_equal(got, pixels(6))
    assert converted == []


def bomb(width, height):
    """A PNG of a few bytes whose header promises a picture of this size."""
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))):
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data


UNUSABLE = {
    "empty": (b"", "not a picture"),
    "text": (b"<html>404 not found</html>" * 20, "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "truncated JPEG": (encoded(picture(), "JPEG")[:-200], "truncated"),
    "truncated PNG": (encoded(picture(0, 99, 99), "PNG")[:2000], "truncated"),
    "1x1": (encoded(Image.new("RGB", (1, 1)), "GIF"), "1x1 pixels, too small for 16x16"),
    "thin": (encoded(Image.new("RGB", (1, 400)), "PNG"), "1x400 pixels, too small"),
    "bomb": (bomb(12000, 12000), "12000x12000 pixels, more than 89,478,485"),
    "large bomb": (bomb(60000, 60000), "more than 89,478,485 pixels"),
    "float": (encoded(Image.new("F", (24, 24), 0.5), "TIFF"), "floating point, whose scale is not known"),
    "32 bits": (encoded(Image.new("I", (24, 24), 1 << 20), "TIFF"), "32-bit integers, whose scale is not known"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_says_why_not(name):
    data, reason = UNUSABLE[name]
    with quiet(), pytest.raises(Unusable, match=reason):
        decode(data, 16, 3)


def test_probe_reads_the_header():
    assert probe(encoded(picture(0, 30, 20), "PNG")) == (20, 1.5, 3)
    assert probe(encoded(picture(0, 30, 40, 1), "JPEG")) == (30, 40 / 30, 1)
    with pytest.raises(Unusable, match="not a picture"):
        probe(b"nothing")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_hostile_bytes_give_a_picture_or_a_reason(kind):
    whole = encoded(picture(7, 20, 28), kind)
    rng = np.random.default_rng(0)
    unusable = 0
    with quiet():
        for _ in range(60):
            data = bytearray(whole)
            for position in rng.integers(0, len(data), rng.integers(1, 12)):
                data[position] = rng.integers(256)
            for header in rng.integers(0, min(64, len(data)), rng.integers(0, 3)):
                data[header] ^= 1 << rng.integers(8)
            content = bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
            try:
                got, _ = decode(content, 16, 3)
            except Unusable:
                unusable += 1
            else:
                assert got.shape == (16, 16, 3)
    assert unusable, "nothing was broken"


def test_formats_are_known_to_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
