"""The shipped emoji are what tools/render_emoji.py makes of the font."""

import hashlib
import importlib.util
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastgan.data import load
from fastgan.data.emoji import ASSETS

SCRIPT = Path(__file__).parents[2] / "tools" / "render_emoji.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("render_emoji", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(script):
    if not script.FONT.is_file():
        pytest.skip(f"no font at {script.FONT} (Debian package fonts-noto-color-emoji)")
    if hashlib.sha256(script.FONT.read_bytes()).hexdigest() != script.FONT_SHA256:
        pytest.skip(f"{script.FONT} is not the version of the shipped pictures")
    if unicodedata.unidata_version < "14":
        pytest.skip("the names of Unicode 14 come with Python 3.11")
    return script.render(script.load_font(script.FONT))


def test_renders_the_shipped_pixels(rendered):
    sheet, _ = rendered
    with Image.open(ASSETS / "emoji.webp") as shipped:
        assert np.array_equal(np.array(shipped.convert("RGB")), np.array(sheet))


def test_writes_the_shipped_index(script, rendered):
    _, rows = rendered
    assert script.as_json(rows) == (ASSETS / "emoji.json").read_text(encoding="utf-8")


def test_every_image_is_its_own_code_points_glyph(script, rendered):
    data = load("emoji")
    font = script.load_font(script.FONT)
    for i, (code_point, name, label) in list(enumerate(rendered[1]))[::97]:
        assert np.array_equal(data.images[i].permute(1, 2, 0).numpy(), np.array(script.draw(font, code_point)))
        assert (data.captions[i], data.labels[i]) == (name, label)


def test_index_is_ordered_and_named_by_unicode(script):
    rows = json.loads((ASSETS / "emoji.json").read_text(encoding="utf-8"))["pictures"]
    code_points = [code_point for code_point, _, _ in rows]
    assert code_points == sorted(set(code_points))
    for code_point, name, label in rows:
        first, last, _ = script.BLOCKS[label]
        assert first <= code_point <= last
        assert unicodedata.name(chr(code_point), name.upper()) == name.upper()


def test_refuses_another_font(script, tmp_path):
    font = tmp_path / "other.ttf"
    with pytest.raises(SystemExit, match=r"no font at .*other.ttf"):
        script.load_font(font)
    font.write_bytes(b"not the font")
    with pytest.raises(SystemExit, match="SHA-256"):
        script.load_font(font)


def test_ships_with_its_licence_and_is_small():
    assert "SIL OPEN FONT LICENSE Version 1.1" in (ASSETS / "LICENSE-emoji.txt").read_text()
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 14_000_000
