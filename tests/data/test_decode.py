"""Any file becomes the picture it holds, or the reason why not."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from fastgan import Trainer
from fastgan.data import Batches, load
from fastgan.data.decode import FORMATS, Unusable, brightest, decode, probe, quiet
from fastgan.systems import create
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


class TestWhiteOfIntegers:
    TWELVE = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16  # 0..4080

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_twelve_bits_in_a_sixteen_bit_file(self, kind):
        """Taken for 16 bits they would be 17 levels of grey."""
        content = encoded(Image.fromarray(self.TWELVE), kind)
        assert brightest(content) == 4080
        with pytest.raises(Unusable, match="integers from 0 to 4080, and nothing says which is white"):
            decode(content, 16, 1)
        got, converted = decode(content, 16, 1, white=4095)
        assert np.array_equal(got.ravel(), np.rint(np.arange(256) * 16 / 4095 * 255))
        assert converted == ["grey, 4095 is white"]
        assert len(np.unique(decode(content, 16, 1, white=65535)[0])) == 17
        with pytest.raises(Unusable, match="to 4080, where 1023 is white"):
            decode(content, 16, 1, white=1023)

    def test_of_32_bits(self):
        content = encoded(Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)), "TIFF")
        with pytest.raises(Unusable, match="integers from 0 to 255, and nothing says which is white"):
            decode(content, 16, 1)
        assert np.array_equal(decode(content, 16, 1, white=255)[0].ravel(), np.arange(256))
        with pytest.raises(Unusable, match="integers from -3"):
            decode(encoded(Image.new("I", (16, 16), -3), "TIFF"), 16, 1, white=255)

    def test_the_file_says_it(self):
        header = b"P5 16 16 4095\n"
        content = header + (self.TWELVE.astype(int) * 4095 // 4080).astype(">u2").tobytes()
        assert brightest(content) is None
        assert decode(content, 16, 1)[0].max() == 255
        tagged = encoded(Image.fromarray(self.TWELVE), "TIFF", tiffinfo={281: 4095})
        assert np.array_equal(decode(tagged, 16, 1)[0], decode(tagged, 16, 1, white=4095)[0])


class TestWhiteOfDataSets:
    def folder(self, root, factors, kind="png"):
        for i, factor in enumerate(factors):
            values = np.arange(256, dtype=np.uint16).reshape(16, 16) * factor
            Image.fromarray(values).save(root / f"{i}.{kind}")
        return root

    def test_it_is_not_guessed(self, tmp_path):
        data = load(self.folder(tmp_path, [16] * 4), 16, 1)
        with pytest.raises(ValueError, match=r"integers up to 4080, and nothing says which is white.*--white 4095"):
            Batches(data, 2)
        batch = next(Batches(load(tmp_path, 16, 1, white=4095), 4, workers=0))
        assert batch.image.max() > 0.98
        assert len(batch.image.unique()) > 200

    def test_all_pictures_tell(self, tmp_path):
        """A dark one among those of 16 bits is of 16 bits, and one line says so."""
        data = load(self.folder(tmp_path, [257, 60, 16, 257]), 16, 1)
        batches = Batches(data, 4, workers=0, seed=1)
        assert any("65535 is taken for white" in line for line in batches.problems())
        tops = {round((float(image.max()) + 1) * 127.5) for image in next(batches).image}
        assert tops == {255, round(60 * 255 / 257), round(16 * 255 / 257)}

    def test_others_are_not_asked(self, tmp_path):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "0.png")
        assert load(tmp_path, 16, 1).white is None
        with pytest.raises(ValueError, match="white must be a positive integer, not 0"):
            load(tmp_path, white=0)
        with pytest.raises(ValueError, match="digits is not of picture files, whose white could be said"):
            load("digits", white=255)

    def test_a_run_remembers(self, tmp_path):
        data = tmp_path / "data"
        data.mkdir()
        system = create("dcgan", resolution=16, channels=1, width=4, latent=4)
        settings = {"batch_size": 2, "sample_every": 0, "evaluate_every": 0, "checkpoint_every": 0}
        self.folder(data, [16] * 4)
        with pytest.raises(ValueError, match="nothing says which is white"):
            Trainer(system, data, out=tmp_path / "run", **settings)
        Trainer(system, data, out=tmp_path / "run", white=4095, **settings).fit(1)
        assert "white: 4095" in (tmp_path / "run" / "config.yaml").read_text()
        Trainer.resume(tmp_path / "run").fit(2)


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
    "32 bits": (
        encoded(Image.new("I", (24, 24), 1 << 20), "TIFF"),
        "integers from 1048576 to 1048576, and nothing says which is white: convert it to 8 bits",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_says_why_not(name):
    data, reason = UNUSABLE[name]
    with quiet(), pytest.raises(Unusable, match=reason):
        decode(data, 16, 3)


def test_probe_reads_the_header():
    assert probe(encoded(picture(0, 30, 20), "PNG")) == (30, 20, 3)
    assert probe(encoded(picture(0, 30, 40, 1), "JPEG")) == (30, 40, 1)
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


class TestQuiet:
    def warn(self):
        warnings.warn_explicit("a broken file", UserWarning, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")

    def test_of_pillow_alone(self):
        def both():
            with quiet():
                self.warn()
                warnings.warn("of somebody else", UserWarning, stacklevel=1)
            self.warn()

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            both()
        assert [str(warning.message) for warning in said] == ["of somebody else", "a broken file"]

    def test_in_threads_that_end_in_the_order_they_began(self):
        before = list(warnings.filters)
        first, second = quiet(), quiet()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert len(warnings.filters) == len(before) + 1
        second.__exit__(None, None, None)
        assert warnings.filters == before
