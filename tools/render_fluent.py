"""Render the embedded data set `fluent` from Microsoft's Fluent Emoji, high contrast and flat.

    npm pack @iconify-json/fluent-emoji-high-contrast@1.2.6 @iconify-json/fluent-emoji-flat@1.2.6
    pip install resvg-py==0.5.0
    python tools/render_fluent.py --from .     writes fastgan/data/assets/fluent*

The pixels depend on the drawings and on the version of the renderer; the bytes of the WebP files also on libwebp.
"""

import argparse
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

ASSETS = Path(__file__).resolve().parent.parent / "fastgan" / "data" / "assets"

RESOLUTION = 128
COLUMNS = 40


class Pack(NamedTuple):
    file: str
    sha256: str
    sheet: str


PACKS = (
    Pack(
        "iconify-json-fluent-emoji-high-contrast-1.2.6.tgz",
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        "fluent-drawn.webp",
    ),
    Pack(
        "iconify-json-fluent-emoji-flat-1.2.6.tgz",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        "fluent-flat.webp",
    ),
)

# Letters that the file names have lost.
RENAMED = {"piata": "piñata"}


def read(folder: Path, pack: Pack) -> tuple[dict[str, Any], dict[str, str]]:
    """The drawings of a package and its names by code points, after making sure that it is the version shipped."""
    path = folder / pack.file
    if not path.is_file():
        raise SystemExit(f"no {pack.file} in {folder}: npm pack fetches it, see the first lines of this script")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != pack.sha256:
        raise SystemExit(f"{path} has SHA-256 {digest}, not {pack.sha256}: other versions draw other pictures")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        icons, chars = (
            json.load(member)
            for name in ("icons", "chars")
            if (member := archive.extractfile(f"package/{name}.json")) is not None
        )
    return icons, chars


def draw(icons: dict[str, Any], name: str) -> Image.Image:
    """A drawing on white, RESOLUTION x RESOLUTION; black where it has no color of its own."""
    from resvg_py import svg_to_bytes

    side = icons["width"]  # two drawings say that they are a row higher, which is empty
    body = icons["icons"][name]["body"].replace("currentColor", "#000")
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{body}</svg>'
    png = svg_to_bytes(
        svg_string=svg, width=RESOLUTION, height=RESOLUTION, background="#ffffff", skip_system_fonts=True
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGB")


def index(drawn: dict[str, Any], flat: dict[str, Any], chars: dict[str, str]) -> list[tuple[str, str, str]]:
    """Of each drawing that both packages have the name of its file, its code points and its caption, by names.

    Skin tones are in one package alone."""
    points = {name: code for code, name in chars.items()}
    names = sorted(set(drawn["icons"]) & set(flat["icons"]))
    return [(name, points[name], RENAMED.get(name, name).replace("-", " ")) for name in names]


def sheet(icons: dict[str, Any], names: list[str]) -> Image.Image:
    """All drawings, row by row."""
    whole = Image.new("RGB", (COLUMNS * RESOLUTION, -(-len(names) // COLUMNS) * RESOLUTION), "white")
    for i, name in enumerate(names):
        whole.paste(draw(icons, name), (i % COLUMNS * RESOLUTION, i // COLUMNS * RESOLUTION))
    return whole


def as_json(rows: list[tuple[str, str, str]]) -> str:
    """The sheets' index, one picture a line so that a change reads well in a diff."""
    head = json.dumps({"resolution": RESOLUTION, "columns": COLUMNS}, indent=1)[:-2]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f'{head},\n "pictures": [\n{lines}\n]}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the embedded data set fluent.")
    parser.add_argument("--from", dest="folder", type=Path, default=Path(), help="where the two .tgz files are")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    (drawn, chars), (flat, _) = (read(arguments.folder, pack) for pack in PACKS)
    rows = index(drawn, flat, chars)
    names = [name for name, _, _ in rows]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for pack, icons, mode in zip(PACKS, (drawn, flat), ("L", "RGB")):
        file = arguments.out / pack.sheet
        sheet(icons, names).convert(mode).save(file, lossless=True, quality=100, method=6)
        print(f"{file.name}: {len(rows)} pictures, {file.stat().st_size} bytes")
    (arguments.out / "fluent.json").write_text(as_json(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
