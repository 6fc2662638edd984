"""Pictures of any size through a translator: continued, resized, in tiles."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.data.hints import hints_of
from fastgan.data.pictures import to_uint8
from fastgan.runs.resizing import placed
from fastgan.runs.translation import translated
from fastgan.systems import Translator


@dataclass(frozen=True)
class Options:
    resolution: int = 16
    channels: int = 3


class Local(Translator):
    """Halves, doubles and looks eight pixels around itself; `scale` times as large."""

    name = "local"
    Config = Options
    takes: ClassVar = {"mask": "where", "reference": "whose brightness"}
    multiple, least, fixed, halo = 4, 8, None, 12

    def __init__(self, scale=1):
        super().__init__(Options())
        torch.manual_seed(0)
        self.scale = scale
        self.down, self.up = nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.sizes = []

    def phases(self):
        return []

    def forward(self, images, direction=None, **inputs):
        self.sizes.append(tuple(images.shape[2:]))
        made = self.up(torch.relu(self.down(images)))
        if "mask" in inputs:
            made = torch.where(inputs["mask"] > 0, made, images)
        if "reference" in inputs:
            made = made + inputs["reference"].mean()
        return F.interpolate(made, scale_factor=self.scale, mode="nearest")


@pytest.fixture
def image():
    return torch.rand(1, 3, 52, 75, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("tile", [8, 13, 64])
def test_tiles_are_the_whole(image, scale, tile):
    system = Local(scale)
    inputs = {"mask": (image[:, :1] > 0).float(), "reference": torch.full((1, 3, 9, 9), 0.1)}
    whole = translated(system, image, inputs=inputs, tile=0)
    assert whole.shape == (1, 3, 52 * scale, 75 * scale)
    assert system.sizes == [(52, 76)]
    torch.testing.assert_close(translated(system, image, inputs=inputs, tile=tile), whole, rtol=0, atol=1e-6)
    assert len(system.sizes) > 2


@pytest.mark.parametrize("size", [(9, 9), (52, 75), (52, 76)])
@pytest.mark.parametrize("tile", [0, 16])
def test_a_reference_stays_whole_whatever_its_size(image, size, tile):
    system = Local()
    reference = torch.full((1, 3, *size), -0.1)
    reference[..., size[0] // 2 :, -1] = 0.5  # it would count twice if continued, and not in every tile
    made = translated(system, image, inputs={"reference": reference}, tile=tile)
    plain = system.translate(F.pad(image, (0, 1, 0, 0), mode="reflect"))[..., :75]
    torch.testing.assert_close(made, (plain + reference.mean()).clamp(-1, 1), rtol=0, atol=1e-5)


def test_too_small_a_halo_shows(image):
    """Else the test before would pass with tiles that see nothing around them."""
    system = Local()
    whole = translated(system, image, tile=0)
    system.halo = 0
    assert (translated(system, image, tile=16) - whole).abs().max() > 1e-3


def test_large_ones_go_in_tiles_by_themselves(image, monkeypatch):
    monkeypatch.setattr("fastgan.runs.translation.LARGE", 50 * 50)
    monkeypatch.setattr("fastgan.runs.translation.TILE", 32)
    system = Local()
    translated(system, image)
    assert max(width for _, width in system.sizes) == 32 + 2 * 12
    system.halo = None
    system.sizes.clear()
    translated(system, image)
    assert system.sizes == [(52, 76)]


def test_one_size_alone(image):
    system = Local()
    system.fixed, system.halo = (16, 16), None
    made = translated(system, image, inputs={"mask": (image[:, :1] > 0).float()})
    assert made.shape == image.shape
    assert system.sizes == [(16, 16)]


def test_continued_by_reflection():
    image = torch.arange(9.0).view(1, 1, 1, 9).expand(1, 3, 8, 9) / 10
    seen = []
    system = Local()
    system.forward = lambda images, direction=None, **inputs: seen.append(images) or images
    translated(system, image)
    assert torch.allclose(seen[0][0, 0, 0], torch.tensor([*range(9), 7, 6, 5]) / 10)


def test_what_cannot_be_done(image):
    system = Local()
    with pytest.raises(ValueError, match="sides of at least 5 pixels, not 75x4"):
        translated(system, image[:, :, :4])
    system.halo = None
    with pytest.raises(ValueError, match=r"local looks at the whole picture.*leave tile out"):
        translated(system, image, tile=16)


def test_results_lie_in_range(image):
    system = Local()
    with torch.no_grad():
        system.up.bias.fill_(3)
    assert translated(system, image).max() == 1


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("fixed", [None, (16, 16)])
@pytest.mark.parametrize("tile", [0, 16])
def test_pixels_are_the_same(image, scale, fixed, tile):
    system = Local(scale)
    if fixed:
        system.fixed, system.halo, tile = fixed, None, 0
    expected = to_uint8(translated(system, image, tile=tile))
    assert torch.equal(translated(system, image, tile=tile, pixels=True), expected)


class TestPlaced:
    @pytest.mark.parametrize("size", [(5, 6), (13, 40), (25, 75), (52, 75), (80, 100), (40, 100)])
    def test_no_hint_is_lost(self, size):
        """Single points of a color each, some of them beside one another."""
        places = [(0, 0), (1, 0), (0, 1), (40, 30), (74, 51), (73, 51), (74, 50)]
        points = [(x, y, f"#{x:02x}{y:02x}{(x * y) % 251:02x}", 1) for x, y in places]
        hints = hints_of(points, 52, 75)
        made = placed(hints, size, "hints")
        assert made.shape == (1, 4, *size)
        colors = lambda values: {tuple(color) for color in values[0, :3, values[0, 3] > 0].T.tolist()}  # noqa: E731
        assert colors(made) == colors(hints)
        assert not made[0, :3, made[0, 3] == 0].any()
        rows, columns = (made[0, 3] > 0).nonzero().unbind(1)
        assert rows.min() == 0
        assert columns.max() == size[1] - 1
        assert torch.equal(made[0, :3, 0, 0], hints[0, :3, 0, 0])

    def test_a_hint_stays_at_its_place(self):
        made = placed(hints_of([(60, 20, "#ff0000", 9), (10, 40, "#0000ff", 1)], 52, 75), (26, 25), "hints")
        square = [[row, column] for row in range(8, 13) for column in range(18, 22)]
        assert made[0, 3].nonzero().tolist() == [*square, [20, 3]]
        assert made[0, :3, 10, 19].tolist() == [1, -1, -1]

    def test_none(self):
        assert not placed(torch.zeros(1, 4, 52, 75), (16, 16), "hints").any()

    def test_a_painting_is_made_smaller(self):
        """More colors than points could be: each cell has one of its own, none moves."""
        torch.manual_seed(0)
        hints = torch.cat([torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)], 1)
        hints[..., :32] = 0
        made = placed(hints, (16, 16), "hints")
        assert not made[..., :8].any()
        assert made[0, 3, :, 8:].all()

    def test_a_scratch_of_one_pixel_stays_whole(self):
        mask = torch.zeros(1, 1, 52, 75)
        mask[..., 33] = 1
        made = placed(mask, (16, 16), "mask")
        assert made.amax(3).min() == 1
        assert made.sum() <= 2 * 16
