"""Windows cut from pictures: full resolution, one place a row, the same whatever reads them."""

import pytest
import torch
from PIL import Image

from fastgan.data import Batches, ImageData, Images, Together, load, take
from fastgan.data.order import Order
from fastgan.data.source import Tensors
from fastgan.data.windows import BITS, Wholes, cut_all

WINDOW = {"image": Images(3, 8, 8, fit="cut")}


def coordinates(height, width):
    """(3, H, W): the row, the column, and a sum of both, so that a window tells where it was cut."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x, y + x]).to(torch.uint8)


def place(window):
    return window[:2, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        Image.fromarray(coordinates(30 + i, 40).permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    return load(str(tmp_path))


def whole(batch):
    return ((batch + 1) * 127.5).round().to(torch.uint8)


def windows(source, count=4, **arguments):
    batches = Batches(source, 3, channels_last=False, **arguments)
    return [whole(next(batches).image) for _ in range(count)]


class TestFolder:
    def test_are_parts_of_the_picture_at_full_resolution(self, folder):
        for batch in windows(folder.adapted(WINDOW), workers=0):
            for window in batch:
                y, x = place(window)
                assert window.equal(coordinates(40, 40)[:, y : y + 8, x : x + 8])

    def test_reach_every_corner_and_change_each_epoch(self, folder):
        places = [place(window) for batch in windows(folder.adapted(WINDOW), 200, workers=0) for window in batch]
        ys, xs = zip(*places)
        assert min(ys) == min(xs) == 0
        assert max(xs) == 32
        assert max(ys) >= 26
        assert len({*map(tuple, places)}) > 300

    def test_of_few_pictures_a_batch_may_have_any_size(self, folder):
        """And the same place is reached whatever the batches were: a run may resume with smaller ones."""
        batches = Batches(folder.adapted(WINDOW), 100, channels_last=False, workers=0, seed=1)
        tall = [next(batches).image for _ in range(10)]
        assert len({place(window)[0] for window in whole(torch.cat(tall))}) > 20
        state = batches.state_dict()
        assert state == {"epoch": 0, "position": 1000}
        resumed = Batches(folder.adapted(WINDOW), 2, channels_last=False, workers=0, seed=1)
        resumed.load_state_dict(state)
        assert len(next(resumed).image) == 2
        assert next(batches).image.shape[0] == 100
        assert batches.state_dict() == {"epoch": 1, "position": 100}
        with pytest.raises(ValueError, match="batch_size 2000 is larger than the data set, which has 1026 images"):
            Batches(folder.adapted(WINDOW), 2000, workers=0)

    @pytest.mark.processes
    def test_same_whatever_the_workers(self, folder):
        one, two = (windows(folder.adapted(WINDOW), 5, workers=workers, seed=3) for workers in (0, 2))
        assert all(map(torch.equal, one, two))
        assert not torch.equal(one[0], windows(folder.adapted(WINDOW), 1, workers=0, seed=4)[0])

    def test_same_whatever_the_ranks(self, folder):
        wide = [next(Batches(folder.adapted(WINDOW), 6, workers=0)).image]
        ranks = [next(Batches(folder.adapted(WINDOW), 6, workers=0, rank=r, ranks=2)).image for r in (0, 1)]
        assert torch.cat(ranks).equal(wide[0])

    @pytest.mark.parametrize("memory", [0, None])
    def test_resume(self, folder, memory):
        source = folder.adapted(WINDOW)
        batches = Batches(source, 3, workers=0, memory=memory)
        for _ in range(3):
            next(batches)
        state = batches.state_dict()
        following = next(batches).image
        resumed = Batches(source, 3, workers=0, memory=memory)
        resumed.load_state_dict(state)
        assert next(resumed).image.equal(following)

    def test_small_pictures_are_enlarged(self, folder):
        batch = next(Batches(folder.adapted({"image": Images(3, 60, 50, fit="cut")}), 2, workers=0)).image
        assert batch.shape == (2, 3, 60, 50)
        assert whole(batch)[:, 0].amax() <= 36

    def test_item_is_the_middle_and_take_is_fixed(self, folder):
        source = folder.adapted(WINDOW)
        assert place(source[0][0]) == [11, 16]
        assert take(source, 4).image.equal(take(source, 4).image)

    def test_gray_and_color_are_not_mixed_up(self, folder):
        colored = folder.adapted(WINDOW)
        colored.read(0)
        assert colored.with_channels(1).read(0)[0]["image"].shape == (1, 8, 8)
        assert colored.take([3]).read(0)[0]["image"].shape == (3, 8, 8)
        assert place(colored.take([5]).read(0)[0]["image"]) == [14, 16]

    def test_decodes_each_picture_once(self, folder, monkeypatch):
        source = folder.adapted(WINDOW)
        decoded, own = [], type(source).picture
        monkeypatch.setattr(
            type(source), "picture", lambda self, name, file: decoded.append(name) or own(self, name, file)
        )
        windows(source, 8, workers=0)
        assert sorted(decoded) == [f"{i}.png" for i in range(6)]

    def test_says_so(self, tmp_path, folder):
        source = load(str(tmp_path)).adapted(WINDOW)
        source.survey  # noqa: B018
        assert any("windows of 8x8 are cut" in line for line in source.said())


class TestMemory:
    def test_of_images_and_tensors(self):
        images = coordinates(20, 30)[None].repeat(6, 1, 1, 1)
        for source in (ImageData(images), Tensors("t", {"image": images})):
            source = source.adapted(WINDOW)
            assert source.fields["image"].shape == (3, 8, 8)
            got = windows(source, 40)
            for window in torch.cat(got):
                y, x = place(window)
                assert window.equal(images[0, :, y : y + 8, x : x + 8])
            assert len({tuple(place(window)) for window in torch.cat(got)}) > 60

    def test_smaller_are_enlarged_and_a_tensor_of_yours_refused(self):
        images = coordinates(6, 20)[None].repeat(3, 1, 1, 1)
        assert next(Batches(ImageData(images).adapted(WINDOW), 3)).image.shape == (3, 3, 8, 8)
        with pytest.raises(ValueError, match="must be images of 8x8"):
            Tensors("t", {"image": images}).adapted(WINDOW)

    def test_crop_after_cut(self):
        data = ImageData(coordinates(20, 30)[None]).resize(8, "cut")
        assert data.resize(10).images.shape == (1, 3, 10, 10)
        assert data.resize(10).window is None

    def test_nothing_else_draws_otherwise(self, monkeypatch):
        """Where an epoch has one window of each picture, order and flips of a seed are those without windows."""
        monkeypatch.setattr("fastgan.data.order.WINDOWS", 1)
        left = torch.zeros(6, 1, 20, 20, dtype=torch.uint8)
        left[..., :10] = 255  # of a window as of the whole: one side is brighter
        data = ImageData(left, labels=torch.arange(6), classes=tuple("abcdef"))
        plain, cut = (next(Batches(data.resize(size, fit), 6, flip=True)) for size, fit in ((8, "crop"), (19, "cut")))
        assert plain.label.equal(cut.label)
        flips = [batch.image[..., 0].mean((1, 2)) < 0 for batch in (plain, cut)]
        assert 0 < flips[0].sum() < 6
        assert flips[0].equal(flips[1])


class TestPairs:
    def test_are_cut_at_one_place(self, folder):
        both = {"source": Images(3, 8, 8, fit="cut"), "target": Images(3, 8, 8, fit="cut")}
        images = coordinates(20, 30)[None].repeat(6, 1, 1, 1)
        for source in (folder, ImageData(images)):
            pairs = Together("pairs", {"source": (source, "image"), "target": (source, "image")}).adapted(both)
            batch = next(Batches(pairs, 4, workers=0, flip=True))
            assert batch.source.equal(batch.target)

    def test_of_other_windows_are_refused(self):
        data = ImageData(coordinates(32, 32)[None])
        pairs = Together("pairs", {"source": (data, "image"), "target": (data, "image")})
        for target in (Images(3, 16, 16, fit="cut"), Images(3, 8, 8)):
            wanted = {"source": Images(3, 8, 8, fit="cut"), "target": target}
            with pytest.raises(ValueError, match="all of a row must be of one size, not source 8x8 by cut, target"):
                Batches(pairs.adapted(wanted), 1)

    def test_of_other_sizes_are_refused(self, tmp_path):
        one, four = ImageData(coordinates(16, 16)[None]), ImageData(coordinates(64, 64)[None])
        wanted = {name: Images(3, 8, 8, fit="cut") for name in ("source", "target")}
        with pytest.raises(ValueError, match="need pictures of one size, not 16x16 of source, 64x64 of target"):
            next(Batches(Together("pairs", {"source": (one, "image"), "target": (four, "image")}).adapted(wanted), 1))
        for side, data in (("A", one), ("B", four)):
            (tmp_path / side).mkdir()
            Image.fromarray(data.images[0].permute(1, 2, 0).numpy()).save(tmp_path / side / "x.png")
        with pytest.raises(RuntimeError, match="windows of one place need pictures of one size, not 16x16 and 64x64"):
            next(Batches(load(str(tmp_path)).adapted(wanted), 1, workers=0))


def test_an_epoch_has_as_many_windows_of_each_picture():
    order = Order(9, seed=0, drop_last=False, windows=True)
    assert order.length(6) == 1026
    chosen = order.choose(6, 0, 0, torch.device("cpu"))
    indices = torch.cat([next(chosen).indices for _ in range(1026 // 9)])
    assert torch.bincount(indices).tolist() == [171] * 6
    assert not torch.equal(indices[:9], next(chosen).indices)  # of the next epoch
    assert [order.length(count) for count in (1, 1024, 5000)] == [1024, 1024, 5000]
    assert Order(9, seed=0, drop_last=False).length(6) == 6


def test_places_are_integers_and_the_last_is_reached():
    images = coordinates(20, 30)[None]
    last = torch.tensor([[(1 << BITS) - 1] * 2])
    assert place(cut_all(images, (8, 8), last)[0]) == [12, 22]
    assert cut_all(images.repeat(2, 1, 1, 1), (8, 8), last.repeat(2, 1))[1].equal(cut_all(images, (8, 8), last)[0])


def test_wholes_forget_the_oldest():
    kept = Wholes(most=250)
    for index in range(3):
        kept.put(index, torch.zeros(100, dtype=torch.uint8), [])
    assert [kept.get(index) is None for index in range(3)] == [True, False, False]
    assert kept.bytes == 200


def test_several_windows_of_few_pictures_are_taken():
    """What is measured on photographs is measured on more than one window of each."""
    pictures = ImageData(torch.randint(256, (3, 3, 40, 40), dtype=torch.uint8))
    taken = take(pictures.adapted(WINDOW), 30).image
    assert taken.shape == (30, 3, 8, 8)
    assert len({bytes(picture.numpy()) for picture in taken}) > 25
    assert take(pictures, 30).image.shape == (3, 3, 40, 40)
