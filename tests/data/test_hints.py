"""Hints of colors from points and files."""

import pytest
import torch
from PIL import Image

from fastgan.data.hints import hints_of, read_hints


def test_points():
    hints = hints_of([(2, 3, "#ff0000"), (0, 0, "#0000FF", 2), (2, 3, "#00ff00", 1)], 6, 5)
    assert hints.shape == (1, 4, 6, 5)
    assert hints[0, 3].sum() == 9 + 4
    assert hints[0, :, 3, 2].tolist() == [-1, 1, -1, 1]
    assert hints[0, :, 2, 1].tolist() == [1, -1, -1, 1]
    assert hints[0, :, 1, 1].tolist() == [-1, -1, 1, 1]
    assert hints[0, :, 5, 4].tolist() == [0, 0, 0, 0]
    assert not hints_of([], 2, 2).any()
    assert hints_of([(4, 5, "#ffffff", 3)], 6, 5)[0, 3].sum() == 4  # cut at the border
    assert hints_of([(0, 0, "#ffffff", 3)], 6, 5)[0, 3].sum() == 4


def test_files_of_points(tmp_path):
    expected = hints_of([(2, 3, "#ff8000"), (1, 1, "#001122", 1)], 6, 5)
    for name, text in {
        "hints.txt": "2 3 #ff8000\n\n1 1 #001122 1\n",
        "hints.csv": "2, 3, #ff8000\n1,1,#001122,1\n",
        "hints.json": '[[2, 3, "#ff8000"], [1, 1, "#001122", 1]]',
    }.items():
        (tmp_path / name).write_text(text)
        assert torch.equal(read_hints(tmp_path / name, 6, 5), expected)


def test_a_picture(tmp_path):
    picture = Image.new("RGBA", (5, 6))
    picture.putpixel((2, 3), (255, 0, 0, 255))
    picture.putpixel((1, 1), (255, 0, 0, 20))
    picture.save(tmp_path / "hints.png")
    assert torch.equal(read_hints(tmp_path / "hints.png", 6, 5), hints_of([(2, 3, "#ff0000", 1)], 6, 5))
    with pytest.raises(ValueError, match=r"hints.png: .* the size of the picture, 8x6 pixels, not 5x6"):
        read_hints(tmp_path / "hints.png", 6, 8)
    Image.new("RGB", (5, 6)).save(tmp_path / "opaque.png")
    with pytest.raises(ValueError, match=r"transparent where no hint is, not one without alpha"):
        read_hints(tmp_path / "opaque.png", 6, 5)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((5, 0, "#ffffff"), "must lie in the picture of 5x6 pixels, not at 5, 0"),
        ((0, -1, "#ffffff"), "must lie in the picture of 5x6 pixels, not at 0, -1"),
        ((0, 0, "red"), "a color must be #rrggbb, not 'red'"),
        ((0, 0, "#ffffff", 0), "the size of a hint must be at least 1, not 0"),
        (("a", 0, "#ffffff"), "x of a hint must be a whole number, not 'a'"),
        ((0, 0), r"a hint is x y #rrggbb \[size\], not \(0, 0\)"),
    ],
)
def test_says_what_is_wrong(point, message):
    with pytest.raises(ValueError, match=message):
        hints_of([point], 6, 5)
