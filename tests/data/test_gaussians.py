"""ring and grid, and images of any source in memory."""

import pytest
import torch
from torch.utils.data import IterableDataset

from fastgan.data import Batches, ImageData, Vectors, load
from fastgan.data.gather import gather


class TestPoints:
    @pytest.mark.parametrize(("name", "modes", "deviation"), [("ring", 8, 0.008), ("grid", 25, 0.01)])
    def test_modes(self, name, modes, deviation):
        data = load(name)
        assert data.points.shape == (10_000, 2)
        assert data.points.abs().max() < 1
        assert data.labels.bincount().tolist() == [10_000 // modes] * modes
        assert data.deviation == deviation
        for mode in range(modes):
            own = data.points[data.labels == mode].double()
            torch.testing.assert_close(own.mean(0), data.centres[mode].double(), rtol=0, atol=5 * deviation / 20)
            torch.testing.assert_close(own.std(0), torch.full((2,), deviation).double(), rtol=0.15, atol=0)

    def test_centres(self):
        ring, grid = load("ring"), load("grid")
        torch.testing.assert_close(ring.centres.norm(dim=1), torch.full((8,), 0.8))
        assert torch.cdist(grid.centres, grid.centres).topk(2, largest=False).values[:, 1].min() == pytest.approx(0.4)
        assert grid.centres.aminmax() == (pytest.approx(-0.8), pytest.approx(0.8))

    def test_the_same_every_time(self):
        state = torch.get_rng_state()
        assert torch.equal(load("ring").points, load("ring").points)
        assert torch.equal(state, torch.get_rng_state())

    def test_batches(self):
        batch = next(Batches(load("ring"), 10))
        assert batch.vector.shape == (10, 2)
        points, centres = batch.vector, load("ring").centres
        assert torch.equal(torch.cdist(points, centres).argmin(1), batch.get("label"))

    def test_as_a_system_asks_for_it(self):
        assert load("ring", 1, 2).adapted({"vector": Vectors(2)}).fields["vector"] == Vectors(2)
        labels = load("ring").adapted({"label": load("ring").fields["label"]})
        assert list(next(Batches(labels, 4))) == ["label"]
        with pytest.raises(ValueError, match="'vector' of ring must be vectors of 3 numbers, not vectors of 2 numbers"):
            load("ring").adapted({"vector": Vectors(3)})
        with pytest.raises(ValueError, match=r"ring is a set of points.*resolution must be 1, not 32"):
            load("ring", 32)
        with pytest.raises(ValueError, match="channels must be 2, not 3"):
            load("ring", channels=3)
        with pytest.raises(ValueError, match=r"channels must be 1 \(grey\) or 3 \(RGB\), not 2"):
            load("digits", channels=2)


class Numbers(IterableDataset):
    def __iter__(self):
        return ((torch.full((1, 8, 8), number, dtype=torch.uint8), number % 3) for number in range(150))


class TestGather:
    def test_what_is_in_memory_stays(self):
        data, points = load("digits"), load("ring")
        assert gather(data, 2000) is data
        assert gather(points, 10) is points

    def test_a_random_part(self):
        data = load("digits")
        part = gather(data, 100, seed=1)
        assert (len(part), part.classes) == (100, data.classes)
        rows = (data.images[None] == part.images[:, None]).flatten(2).all(2)
        assert rows.any(1).all()
        assert rows.float().argmax(1).unique().numel() > 95
        assert torch.equal(data.labels[rows.float().argmax(1)], part.labels)
        assert torch.equal(part.images, gather(data, 100, seed=1).images)
        assert not torch.equal(part.images, gather(data, 100, seed=2).images)

    def test_all_of_it_once(self):
        pixels = torch.arange(150, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
        found = gather(pixels, 1000)
        assert found.labels is None
        assert sorted(found.images[:, 0, 0, 0].tolist()) == list(range(150))
        floating = gather(pixels / 127.5 - 1, 1000)
        assert torch.equal(found.images, floating.images)

    def test_a_data_set_and_a_stream(self):
        items = list(Numbers())
        for source in items, Numbers():
            found = gather(source, 1000, workers=0)
            assert isinstance(found, ImageData)
            assert sorted(found.images[:, 0, 0, 0].tolist()) == list(range(150))
            assert torch.equal(found.labels, found.images[:, 0, 0, 0].long() % 3)
            assert found.classes == ("0", "1", "2")
        assert len(gather(Numbers(), 70, workers=0)) == 70
