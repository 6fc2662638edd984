"""to_uint8, grid, scatter and save_png."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import enlarged, grid, save_png, scatter, to_uint8
from fastgan.data.panel import by_class


def cells(count, channels=3, height=4, width=5):
    """Image i is filled with i + 1."""
    values = torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1)
    return values.expand(-1, channels, height, width)


class TestToUint8:
    def test_undoes_the_normalisation_of_every_value(self):
        values = torch.arange(256)
        assert torch.equal(to_uint8(values.float().div(127.5).sub(1)), values.to(torch.uint8))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_other_precisions_are_within_their_rounding(self, dtype):
        values = torch.linspace(-1, 1, 500)
        allowed = 1 if dtype != torch.float64 else 0
        difference = to_uint8(values.to(dtype)).int() - to_uint8(values).int()
        assert difference.abs().max() <= allowed

    def test_clamps_what_overshoots_a_little(self):
        assert to_uint8(torch.tensor([-1.01, -1.001, 1.001, 1.01])).tolist() == [0, 0, 255, 255]

    def test_uint8_stays(self):
        assert to_uint8(torch.tensor([3], dtype=torch.uint8)).tolist() == [3]

    def test_takes_images_with_gradients(self):
        assert to_uint8(torch.zeros(2, requires_grad=True)).tolist() == [128, 128]

    def test_says_what_is_wrong(self):
        with pytest.raises(TypeError, match=r"floating point in \[-1, 1\], not int64"):
            to_uint8(torch.zeros(3, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"outside \[-1, 1\].*clamp\(-1, 1\)"):
            to_uint8(torch.tensor([-3.0, 2.0]))
        with pytest.raises(ValueError, match="hold NaN"):
            to_uint8(torch.tensor([0.0, float("nan")]))


class TestGrid:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("columns", "padding"), [(None, 2), (2, 0), (3, 1), (7, 2), (100, 3)])
    def test_every_image_is_in_its_place(self, channels, columns, padding):
        images = cells(7, channels)
        picture = grid(images, columns, padding)
        across = {None: 3}.get(columns, min(columns or 0, 7))
        down = -(-7 // across)
        assert picture.dtype == torch.uint8
        assert picture.shape == (channels, down * (4 + padding) + padding, across * (5 + padding) + padding)
        rest = picture.clone()
        for i, image in enumerate(images):
            top, left = padding + i // across * (4 + padding), padding + i % across * (5 + padding)
            window = (slice(None), slice(top, top + 4), slice(left, left + 5))
            assert torch.equal(picture[window], image)
            rest[window] = 0
        assert (rest == 0).all()

    def test_floats_are_converted(self):
        images = torch.empty(5, 3, 6, 6).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        assert torch.equal(grid(images), grid(to_uint8(images)))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((cells(4)[0],), r"shape \(3, 4, 5\)"),
            ((cells(4, channels=4),), r"shape \(4, 4, 4, 5\)"),
            ((cells(4)[:0],), "N >= 1"),
            ((cells(4), 0), "columns must be a positive integer, not 0"),
            ((cells(4), 2.0), "columns must be a positive integer, not 2.0"),
            ((cells(4), 2, -1), "padding must be an integer >= 0, not -1"),
        ],
    )
    def test_says_what_is_wrong(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            grid(*arguments)


class TestScatter:
    def test_every_point_is_in_its_place(self):
        """The first coordinate to the right, the second upwards, the corners of [-1, 1] within the picture."""
        for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0), (0.5, -0.25)):
            picture = scatter(torch.tensor([[x, y]], dtype=torch.float64), side=101).int()
            dark = (picture.sum(0) < 3 * 255).nonzero()
            assert len(dark) == 9
            row, column = dark.float().mean(0).tolist()
            assert column == pytest.approx(50 + 46 * x, abs=0.51)
            assert row == pytest.approx(50 - 46 * y, abs=0.51)

    def test_none_and_other_sizes(self):
        points = torch.rand(20, 2) * 2 - 1
        assert scatter(points).shape == (3, 400, 400)
        assert scatter(points, side=50).shape == (3, 50, 50)
        assert (scatter(points[:0]) == 255).all()

    def test_many_are_darker_than_one(self):
        one, two = (scatter(torch.zeros(count, 2)).sum(0).min() for count in (1, 2))
        assert two < one

    def test_beyond_the_square_is_its_edge(self):
        far, edge = torch.tensor([[9.0, -float("inf")]]), torch.tensor([[1.0, -1.0]])
        assert torch.equal(scatter(far), scatter(edge))

    def test_what_is_behind_is_grey(self):
        points, behind = torch.tensor([[0.5, 0.5]]), torch.tensor([[-0.5, -0.5], [0.5, 0.5]])
        both, alone = scatter(points, behind), scatter(points)
        half = both.shape[1] // 2
        lower_left = both[:, half:, :half]
        assert (lower_left == lower_left[:1]).all()
        assert lower_left.min() < 255
        assert both[:, :half, half:].sum() < alone[:, :half, half:].sum()

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((torch.zeros(3, 3),), ValueError, "points must be floating point"),
            ((torch.zeros(3, 2, 2, 2),), ValueError, r"\(3, 2, 2, 2\)"),
            ((torch.zeros(3, 2, dtype=torch.int64),), ValueError, "not torch.int64"),
            ((torch.tensor([[0.0, float("nan")]]),), ValueError, "points hold NaN"),
            ((torch.zeros(3, 2), torch.zeros(3, 1)), ValueError, "behind must be"),
            ((torch.zeros(3, 2), None, 31), ValueError, "at least 32 pixels, not 31"),
            ((torch.zeros(3, 2), None, 40.5), ValueError, "side must be a positive integer"),
        ],
    )
    def test_says_what_is_wrong(self, arguments, error, message):
        with pytest.raises(error, match=message):
            scatter(*arguments)


class TestSavePng:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_reads_back_the_same(self, tmp_path, channels):
        image = torch.randint(256, (channels, 9, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        save_png(tmp_path / "picture.png", image)
        with Image.open(tmp_path / "picture.png") as written:
            assert (written.format, written.mode) == ("PNG", "L" if channels == 1 else "RGB")
            pixels = np.array(written).reshape(9, 14, channels)
        assert np.array_equal(pixels, image.permute(1, 2, 0).numpy())
        assert os.listdir(tmp_path) == ["picture.png"]

    def test_a_failed_write_leaves_the_old_picture(self, tmp_path, monkeypatch):
        path = tmp_path / "picture.png"
        save_png(str(path), cells(1)[0])
        before = path.read_bytes()

        def breaks_off(self, file, *_, **__):
            file.write(b"half a picture")
            raise OSError("disk full")

        monkeypatch.setattr(Image.Image, "save", breaks_off)
        with pytest.raises(OSError, match="disk full"):
            save_png(path, cells(2)[1])
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["picture.png"]

    @pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
    def test_others_may_read_it_as_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        save_png(tmp_path / "picture.png", cells(1)[0])
        assert (tmp_path / "picture.png").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_says_what_is_wrong(self, tmp_path):
        path = tmp_path / "picture.png"
        with pytest.raises(TypeError, match=r"a tensor \(after the path\), not str"):
            save_png(torch.zeros(3, 4, 5, dtype=torch.uint8), str(tmp_path / "x.png"))
        with pytest.raises(TypeError, match=r"must be uint8, not torch.float32: fastgan.data.to_uint8"):
            save_png(path, torch.zeros(3, 4, 4))
        for shape in ((4, 4), (2, 4, 4), (3, 0, 4)):
            with pytest.raises(ValueError, match="not shape"):
                save_png(path, torch.zeros(shape, dtype=torch.uint8))
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*absent, create it first"):
            save_png(tmp_path / "absent" / "picture.png", cells(1)[0])
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("size", "times"), [((16, 16), 32), ((274, 20), 2), ((512, 8), 1), ((3, 600), 1)])
def test_enlarged_by_a_whole_factor(size, times):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    large = enlarged(image)
    assert large.shape == (3, size[0] * times, size[1] * times)
    assert all(torch.equal(large[:, y::times, x::times], image) for y in range(times) for x in range(times))


def test_rows_of_classes_are_whole():
    assert by_class(64, 10) == (60, 10)
    assert by_class(64, 8) == (64, 8)
    assert [by_class(9, classes) for classes in (0, 1, 10)] == [(9, None)] * 3
