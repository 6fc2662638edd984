"""One picture out of a file that nobody has looked at: to the size and channels wanted, or the reason why not."""

import io
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastgan.data.size import Size, as_size, at_least, used_part

# By content, whatever a file is called. Not every format that Pillow knows: EPS would start a PostScript interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
EXTENSIONS = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png apng webp gif bmp tif tiff ppm pgm pbm pnm avif jp2".split()  # noqa: SIM905
)
ORIENTATION = 0x0112  # the EXIF tag

# A picture whose smaller side is less than this part of the resolution is no picture of anything: 1x1 pixels of
# web pages, icons among photographs.
LEAST_PART = 8

GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"}
WHITE = 65535  # of 16 bits
BITS_PER_SAMPLE, MAX_SAMPLE_VALUE = 258, 281  # TIFF tags
SIXTEEN_BITS = {"I", "I;16", "I;16L", "I;16B", "I;16N"}


class Unusable(Exception):
    """A picture that cannot be used. The text says why: `truncated`, `not a picture`, ..."""

    picture = ""  # its name, where a row has several


_quiet = threading.Lock()
_blocks = 0  # of `quiet` that are open, in all threads


@contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings about files are left out: what is wrong with a picture is counted and named instead.

    In all threads, and of Pillow alone. `warnings.catch_warnings` puts back what it found, which with two threads may
    be what the other one had set.
    """
    global _blocks
    with _quiet:
        _blocks += 1
        if _FILTER not in warnings.filters:
            warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _quiet:
            _blocks -= 1
            if not _blocks:
                with suppress(ValueError):  # somebody else has put back what was before
                    warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]


# As warnings.filterwarnings has it, which compares and clears more than its own.
_FILTER = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)


class Header(NamedTuple):
    """What a picture's first bytes tell."""

    height: int  # pixels
    width: int
    channels: int  # 1 or 3

    @property
    def side(self) -> int:
        """Pixels, of the shorter."""
        return min(self.height, self.width)


class Half(NamedTuple):
    """The left or the right half of each picture. exact: the picture must be twice as wide as high."""

    side: str
    exact: bool

    def size(self, width: int, height: int) -> tuple[int, int]:
        """That of the half. Raises Unusable."""
        if width < 2 or (self.exact and not twice_as_wide(width, height)):
            raise Unusable(f"{width}x{height} pixels, not twice as wide as high")
        return width // 2, height

    def of(self, picture: Image.Image) -> Image.Image:
        width, height = self.size(*picture.size)
        left = 0 if self.side == "left" else picture.width - width
        return picture.crop((left, 0, left + width, height))


def twice_as_wide(width: int, height: int) -> bool:
    """Whether a picture is two squares beside each other, but for a pixel or two."""
    return abs(width - 2 * height) <= max(1, height // 64)


def probe(file: BinaryIO | bytes, half: Half | None = None) -> Header:
    """What the header of a picture says, of the half that is taken. Raises Unusable."""
    with _explained(), _opened(file) as picture:
        width, height = half.size(*picture.size) if half else picture.size
        return Header(height, width, 1 if picture.mode in GREY else 3)


def brightest(file: BinaryIO | bytes) -> int | None:
    """The largest value of a picture of integers of 16 bits or more; None of others, and where the file itself says
    which value is white. Raises Unusable."""
    with _explained(), _opened(file) as picture:
        if picture.mode not in SIXTEEN_BITS or _white_of(picture) is not None:
            return None
        return int(np.asarray(picture).max())


def decode(
    file: BinaryIO | bytes,
    resolution: Size,
    channels: int,
    white: int | None = None,
    fit: str = "crop",
    half: Half | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The middle part of a picture, bicubic and antialiased, and what was converted on the way.

    resolution: of a square, or (height, width).   fit: "crop" takes the part of that aspect ratio, "stretch" all; "cut"
    gives the whole picture, as high and wide as it is, enlarged where it is smaller than the resolution.
    channels: 1 (ITU-R BT.601 luma) or 3 (RGB).
    white: the value that is, in pictures of integers of 16 bits or more whose file does not say so. None: 65535 where
    the picture takes more than half of that; else what 12 bits in a 16-bit file are is not known.
    half: take that instead of the whole.
    ->  (height, width, channels) uint8, and such as ["CMYK"]
    Raises Unusable, and nothing else for whatever is in the file.
    """
    with _explained(), _opened(file) as picture:
        return _decode(picture, as_size(resolution), channels, white, fit, half)


def _decode(
    picture: Image.Image, size: tuple[int, int], channels: int, white: int | None, fit: str, half: Half | None
) -> tuple[np.ndarray, list[str]]:
    width, height = half.size(*picture.size) if half else picture.size
    if not any(large_enough(*sides, size, fit) for sides in ((height, width), (width, height))):  # it may be turned
        raise _too_small(picture, size)
    converted = []
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        converted.append("animated, first frame")
        picture.seek(0)
    mode = "L" if channels == 1 else "RGB"
    if picture.mode in SIXTEEN_BITS:
        white = _white_of(picture) or white
    # libjpeg decodes at 1/2, 1/4, 1/8; twice the target leaves the bicubic filter enough to work on.
    if fit != "cut":
        picture.draft(mode, (2 * max(size) * (2 if half else 1), 2 * max(size)))
    picture.load()
    if "exif" in picture.info or "Raw profile type exif" in picture.info or picture.format == "TIFF":
        turned = picture.getexif().get(ORIENTATION, 1)
        if turned in range(2, 9):
            converted.append("rotated by EXIF")
            picture = ImageOps.exif_transpose(picture)
    picture = half.of(picture) if half else picture
    if not large_enough(picture.height, picture.width, size, fit):
        raise _too_small(picture, size)
    top, left, height, width = used_part(picture.height, picture.width, size, fit)
    if (width, height) != picture.size:
        picture = picture.crop((left, top, left + width, top + height))
    picture, kind = _plain(picture, mode, white)
    if kind:
        converted.append(kind)
    if fit == "cut":
        size = at_least(picture.height, picture.width, size)
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.array(picture).reshape(*size, channels), converted


def large_enough(height: int, width: int, size: tuple[int, int], fit: str) -> bool:
    """Whether the part of a picture that is used is not many times smaller than wanted."""
    _, _, high, wide = used_part(height, width, size, fit)
    return high * LEAST_PART >= size[0] and wide * LEAST_PART >= size[1]


def _too_small(picture: Image.Image, size: tuple[int, int]) -> Unusable:
    return Unusable(f"{picture.width}x{picture.height} pixels, too small for {size[1]}x{size[0]}")


def _white_of(picture: Image.Image) -> int | None:
    """Which value is white, as the file says it."""
    if picture.format in ("PPM", "JPEG2000"):  # brought to 16 bits by Pillow
        return WHITE
    if picture.format == "TIFF":
        bits, most = (picture.tag_v2.get(tag) for tag in (BITS_PER_SAMPLE, MAX_SAMPLE_VALUE))  # type: ignore[attr-defined]
        if bits and bits[0] < 16:
            return int((1 << bits[0]) - 1)
        if most:
            return int(most[0] if isinstance(most, tuple) else most)
    return None


def _plain(picture: Image.Image, mode: str, white: int | None) -> tuple[Image.Image, str | None]:
    """As L or RGB, and what it was where that says something."""
    if picture.mode == mode and "transparency" not in picture.info:
        return picture, None
    if picture.mode in SIXTEEN_BITS:
        values = np.asarray(picture)
        low, high = int(values.min()), int(values.max())
        if white is None and WHITE // 2 < high <= WHITE:
            white = WHITE
        if white is None or low < 0 or high > white:
            beyond = "and nothing says which is white" if white is None else f"where {white} is white"
            raise Unusable(f"integers from {low} to {high}, {beyond}: convert it to 8 bits, or say it (white)")
        # Pillow's convert clips at 255.
        scaled = Image.fromarray(np.rint(values.astype(np.float32) / (white / 255)).astype(np.uint8))
        return scaled.convert(mode), "16-bit grey" if white == WHITE else f"grey, {white} is white"
    if picture.mode == "F":
        raise Unusable("floating point, whose scale is not known")
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] == 255:
            return picture.convert("RGB").convert(mode), None
        behind = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(behind, picture).convert("RGB").convert(mode), "transparent, on white"
    kind = picture.mode if picture.mode in ("CMYK", "LAB", "HSV") else None
    if mode == "L" and picture.mode not in GREY:
        picture = picture.convert("RGB")  # from a palette or CMYK to L, Pillow takes other ways
    return picture.convert(mode), kind


@contextmanager
def _opened(file: BinaryIO | bytes) -> Iterator[Image.Image]:
    stream = io.BytesIO(file) if isinstance(file, bytes) else file
    with Image.open(stream, formats=FORMATS) as picture:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and picture.width * picture.height > limit:
            raise Unusable(f"{picture.width}x{picture.height} pixels, more than {limit:,}")
        yield picture


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Unusable:
        raise
    except UnidentifiedImageError:
        raise Unusable("not a picture") from None
    except Image.DecompressionBombError:
        raise Unusable(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        # Pillow's decoders raise whatever comes up: OSError, SyntaxError, struct.error, IndexError, MemoryError, ...
        text = " ".join(str(error).split())[:100]
        cut = isinstance(error, (EOFError, struct.error)) or "truncated" in text.lower()
        raise Unusable("truncated" if cut else f"corrupt ({text or type(error).__name__})") from None
