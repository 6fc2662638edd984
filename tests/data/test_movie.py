"""save_gif: what a reader of the file sees."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data.movie import film, save_gif


def frames(count, channels=3, height=6, width=8):
    random = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (count, channels, 1, 1), dtype=torch.uint8, generator=random)
    cells = torch.randint(0, 2, (count, 1, height, width), dtype=torch.uint8, generator=random)
    return list(colours * cells)


def read(path):
    """(N, H, W, 3) pixels, and the milliseconds of each frame."""
    with Image.open(path) as image:
        pixels, times = [], []
        for index in range(image.n_frames):
            image.seek(index)
            pixels.append(np.array(image.convert("RGB")))
            times.append(image.info["duration"])
        assert image.info["loop"] == 0
    return np.stack(pixels), times


class TestSaveGif:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("count", [1, 2, 9])
    def test_every_frame_in_order(self, tmp_path, channels, count):
        given = frames(count, channels)
        save_gif(tmp_path / "a.gif", given)
        pixels, times = read(tmp_path / "a.gif") if count > 1 else (self.one(tmp_path / "a.gif"), None)
        expected = torch.stack(given).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(pixels, expected)
        assert times is None or times == [100] * (count - 1) + [1000]

    def one(self, path):
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))[None]

    def test_grey_is_exact(self, tmp_path):
        ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
        save_gif(tmp_path / "a.gif", [ramp, ramp.flip(1)])
        pixels, _ = read(tmp_path / "a.gif")
        np.testing.assert_array_equal(pixels[1, :, :, 0], ramp.flip(1)[0])

    def test_many_colours_come_close(self, tmp_path):
        x = torch.linspace(0, 255, 64).round().to(torch.uint8)
        picture = torch.stack([x[None].expand(64, 64), x[:, None].expand(64, 64), x.flip(0)[None].expand(64, 64)])
        save_gif(tmp_path / "a.gif", [picture, picture.flip(1)])
        pixels, _ = read(tmp_path / "a.gif")
        difference = np.abs(pixels[0].astype(int) - picture.permute(1, 2, 0).numpy().astype(int))
        assert difference.mean() < 8

    def test_times(self, tmp_path):
        save_gif(tmp_path / "a.gif", frames(3), seconds=0.25, hold=2.5)
        assert read(tmp_path / "a.gif")[1] == [250, 250, 2500]

    def test_equal_frames_keep_their_time(self, tmp_path):
        one, two = frames(2)
        save_gif(tmp_path / "a.gif", [one, one, two, two])
        assert sum(read(tmp_path / "a.gif")[1]) == 1300

    def test_any_iterable_and_layout(self, tmp_path):
        given = frames(3)
        save_gif(tmp_path / "a.gif", iter(given))
        save_gif(tmp_path / "b.gif", [frame.permute(1, 2, 0).contiguous().permute(2, 0, 1) for frame in given])
        assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()

    def test_whole_or_not_at_all(self, tmp_path, monkeypatch):
        path = tmp_path / "a.gif"
        save_gif(path, frames(2))
        before = path.read_bytes()

        def fails(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", fails)
        with pytest.raises(OSError, match="No space left"):
            save_gif(path, frames(3))
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a.gif"]

    @pytest.mark.parametrize(
        ("given", "options", "error", "message"),
        [
            ([], {}, ValueError, "at least one frame"),
            ([torch.zeros(3, 4, 4)], {}, TypeError, "frames must be uint8, not torch.float32"),
            ([torch.zeros(2, 4, 4, dtype=torch.uint8)], {}, ValueError, r"\(1 or 3, H, W\).*not shape \(2, 4, 4\)"),
            ([*frames(1), *frames(1, width=9)], {}, ValueError, r"one shape, not \(3, 6, 8\) and \(3, 6, 9\)"),
            (frames(1), {"seconds": 0.001}, ValueError, r"seconds must lie between 0\.02 and 600, not 0\.001"),
            (frames(1), {"hold": float("nan")}, ValueError, "hold must lie"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path, given, options, error, message):
        with pytest.raises(error, match=message):
            save_gif(tmp_path / "a.gif", given, **options)
        assert not os.listdir(tmp_path)

    def test_no_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere, create it first"):
            save_gif(tmp_path / "nowhere" / "a.gif", frames(1))


def test_film_of_one_picture(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    film([tmp_path / "a.png"], tmp_path / "a.gif")
    assert Image.open(tmp_path / "a.gif").size == (4, 4)
