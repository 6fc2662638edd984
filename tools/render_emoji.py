"""Render the embedded data set `emoji` from the Noto Color Emoji font.

    python tools/render_emoji.py                  writes fastgan/data/assets/emoji.webp and emoji.json

Needs the font of Debian's package fonts-noto-color-emoji, in the version named by FONT_SHA256, and Python 3.11 or newer
(the names of Unicode 14). The pixels and the JSON depend on the font alone; the bytes of the WebP file also on libwebp.
"""

import argparse
import hashlib
import json
import unicodedata
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SHA256 = "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec"  # 2.042-0+deb12u1
ASSETS = Path(__file__).resolve().parent.parent / "fastgan" / "data" / "assets"

STRIKE = 109  # the one bitmap size in the font: glyphs of 136x128 pixels whose artwork lies within 128x128
ARTWORK = 128
RESOLUTION = 64
COLUMNS = 36

# The blocks of pictures. The font's other characters are typographic signs: arrows, letters in boxes, punctuation.
BLOCKS = (
    (0x2600, 0x26FF, "Miscellaneous Symbols"),
    (0x2700, 0x27BF, "Dingbats"),
    (0x1F300, 0x1F5FF, "Miscellaneous Symbols and Pictographs"),
    (0x1F600, 0x1F64F, "Emoticons"),
    (0x1F680, 0x1F6FF, "Transport and Map Symbols"),
    (0x1F780, 0x1F7FF, "Geometric Shapes Extended"),
    (0x1F900, 0x1F9FF, "Supplemental Symbols and Pictographs"),
    (0x1FA70, 0x1FAFF, "Symbols and Pictographs Extended-A"),
)
# Skin tones and hair styles: parts of other emoji, not pictures of their own.
COMPONENTS = {*range(0x1F3FB, 0x1F400), *range(0x1F9B0, 0x1F9B4)}

# Python 3.11 knows Unicode 14, the font has Unicode 15. A name once given is never changed by Unicode.
UNICODE_15 = {
    0x1F6DC: "wireless",
    0x1FA75: "light blue heart",
    0x1FA76: "grey heart",
    0x1FA77: "pink heart",
    0x1FA87: "maracas",
    0x1FA88: "flute",
    0x1FAAD: "folding hand fan",
    0x1FAAE: "hair pick",
    0x1FAAF: "khanda",
    0x1FABB: "hyacinth",
    0x1FABC: "jellyfish",
    0x1FABD: "wing",
    0x1FABF: "goose",
    0x1FACE: "moose",
    0x1FACF: "donkey",
    0x1FADA: "ginger root",
    0x1FADB: "pea pod",
    0x1FAE8: "shaking face",
    0x1FAF7: "leftwards pushing hand",
    0x1FAF8: "rightwards pushing hand",
}


def load_font(path: Path) -> ImageFont.FreeTypeFont:
    """The font, after making sure that it is the version whose pixels are shipped."""
    if not path.is_file():
        raise SystemExit(f"no font at {path}: install Debian's fonts-noto-color-emoji or pass --font")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != FONT_SHA256:
        raise SystemExit(
            f"{path} has SHA-256 {digest}, not {FONT_SHA256}: other versions of the font draw other pictures"
        )
    # The basic layout draws single code points the same whether or not libraqm is there.
    return ImageFont.truetype(str(path), STRIKE, layout_engine=ImageFont.Layout.BASIC)


def name_of(code_point: int) -> str:
    """The Unicode name in lower case."""
    name = unicodedata.name(chr(code_point), "").lower() or UNICODE_15.get(code_point)
    if not name:
        raise SystemExit(
            f"Python's Unicode {unicodedata.unidata_version} has no name for U+{code_point:X}: use Python 3.11 or newer"
        )
    return name


def draw(font: ImageFont.FreeTypeFont, code_point: int) -> Image.Image | None:
    """The picture on white, centred, RESOLUTION x RESOLUTION; None where the font has none."""
    canvas = Image.new("RGBA", (2 * ARTWORK, 2 * ARTWORK), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((ARTWORK // 2, ARTWORK // 2), chr(code_point), font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        return None
    glyph = canvas.crop(box)
    if max(glyph.size) > ARTWORK:
        raise SystemExit(f"U+{code_point:X} measures {glyph.size}, more than {ARTWORK} pixels")
    picture = Image.new("RGB", (ARTWORK, ARTWORK), "white")
    picture.paste(glyph, ((ARTWORK - glyph.width) // 2, (ARTWORK - glyph.height) // 2), glyph.getchannel("A"))
    # At exactly 2:1 the mean of 2x2 pixels is free of ringing, and its sheet is 40 % smaller than Lanczos'.
    return picture.reduce(ARTWORK // RESOLUTION)


def render(font: ImageFont.FreeTypeFont) -> tuple[Image.Image, list[tuple[int, str, int]]]:
    """The sheet, row by row in code point order, and for each picture its code point, name and class index."""
    pictures, rows = [], []
    for label, (first, last, _) in enumerate(BLOCKS):
        for code_point in range(first, last + 1):
            picture = None if code_point in COMPONENTS else draw(font, code_point)
            if picture is not None:
                pictures.append(picture)
                rows.append((code_point, name_of(code_point), label))
    sheet = Image.new("RGB", (COLUMNS * RESOLUTION, -(-len(pictures) // COLUMNS) * RESOLUTION), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % COLUMNS * RESOLUTION, i // COLUMNS * RESOLUTION))
    return sheet, rows


def as_json(rows: list[tuple[int, str, int]]) -> str:
    """The sheet's index, one picture a line so that a change reads well in a diff."""
    head = {"resolution": RESOLUTION, "columns": COLUMNS, "classes": [name for _, _, name in BLOCKS]}
    lines = ",\n".join(json.dumps(row) for row in rows)
    return json.dumps(head, indent=1)[:-2] + f',\n "pictures": [\n{lines}\n]}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the embedded data set emoji.")
    parser.add_argument("--font", type=Path, default=FONT)
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    sheet, rows = render(load_font(arguments.font))
    arguments.out.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.out / "emoji.webp", lossless=True, quality=100, method=6)
    (arguments.out / "emoji.json").write_text(as_json(rows), encoding="utf-8")
    print(f"{len(rows)} pictures, {(arguments.out / 'emoji.webp').stat().st_size} bytes")


if __name__ == "__main__":
    main()
