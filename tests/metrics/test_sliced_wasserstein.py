"""SlicedWasserstein against SciPy, and that it orders what it must order."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from fastgan.data import load
from fastgan.metrics import SlicedWasserstein

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def images(count, channels=3, size=32, seed=0):
    """Smooth noise, uint8."""
    pixels = np.random.default_rng(seed).normal(size=(count, channels, size, size))
    smooth = ndimage.gaussian_filter(pixels, (0, 0, 1.5, 1.5)) * 3
    return torch.from_numpy((smooth.clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8))


def noisy(pixels, amount, seed=1):
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return (pixels.float() / 127.5 - 1 + amount * noise).clamp(-1, 1)


def pyramid(image):
    """Of one channel, as in the paper's own code."""
    levels = []
    while min(image.shape) >= 2 * 16 - 1:
        smaller = ndimage.convolve(image, KERNEL, mode="mirror")[::2, ::2]
        doubled = np.zeros_like(image)
        doubled[::2, ::2] = smaller
        levels.append(image - ndimage.convolve(doubled, 4 * KERNEL, mode="mirror"))
        image = smaller
    return [*levels, image]


def described(metric, pixels):
    """Every patch of every level in float64, at the places that the metric takes."""
    values = pixels.double() / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels.double()
    levels = [[pyramid(channel.numpy()) for channel in image] for image in values]
    generator = torch.Generator().manual_seed(metric._seed)
    for level in range(len(levels[0][0])):
        maps = np.array([[channel[level] for channel in image] for image in levels])
        room = torch.tensor([side - 6 for side in maps.shape[2:]])
        places = (torch.rand(len(maps), metric._patches, 2, generator=generator) * room).long()
        yield np.array([maps[i, :, y : y + 7, x : x + 7] for i, at in enumerate(places) for y, x in at.tolist()])


def expected(metric, real, fake):
    distances = []
    for a, b in zip(described(metric, real), described(metric, fake)):
        mean, deviation = a.mean((0, 2, 3), keepdims=True), a.std((0, 2, 3), keepdims=True)
        a, b = (((patches - mean) / deviation).reshape(len(patches), -1) for patches in (a, b))
        distances.append(
            np.mean([stats.wasserstein_distance(a @ d, b @ d) for d in metric._directions.double().numpy()])
        )
    return distances


class TestAgainstSciPy:
    @pytest.mark.parametrize(
        ("shape", "counts", "levels"),
        [
            ((1, 8, 8), (20, 20), [8]),
            ((3, 32, 32), (12, 12), [32, 16]),
            ((2, 40, 32), (10, 13), [40, 20]),  # not square, other numbers of images
            ((1, 63, 35), (9, 5), [63, 32]),  # odd sizes
        ],
    )
    def test_levels(self, shape, counts, levels):
        channels, height, width = shape
        real = images(counts[0], channels, 64, seed=0)[:, :, :height, :width]
        fake = noisy(images(counts[1], channels, 64, seed=2)[:, :, :height, :width], 0.2)
        metric = SlicedWasserstein(real, projections=16, patches=8, seed=3)
        got = metric.levels(fake)
        assert list(got) == levels
        assert list(got.values()) == pytest.approx(expected(metric, real, fake), rel=1e-4)
        assert metric.distance(fake) == pytest.approx(np.mean(list(got.values())))

    def test_in_chunks(self, monkeypatch):
        real, fake = images(30), noisy(images(20, seed=2), 0.1)
        whole = SlicedWasserstein(real).levels(fake)
        monkeypatch.setattr("fastgan.metrics.sliced_wasserstein.CHUNK_VALUES", 3 * 32 * 32 * 7)
        assert SlicedWasserstein(real).levels(fake) == pytest.approx(whole, rel=1e-5)

    def test_directions_have_unit_length(self):
        norms = SlicedWasserstein(images(2))._directions.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(128))

    @pytest.mark.parametrize("count", [1, 3, 6, 7])
    def test_wasserstein_of_any_counts(self, count):
        from fastgan.metrics.sliced_wasserstein import _wasserstein

        random = torch.Generator().manual_seed(0)
        a, b = torch.rand(4, 6, generator=random), torch.rand(4, count, generator=random)
        got = _wasserstein(a.sort().values, b.sort().values)
        assert got.tolist() == pytest.approx([stats.wasserstein_distance(x, y) for x, y in zip(a, b)], rel=1e-5)


@pytest.fixture(scope="module")
def emoji():
    data = load("emoji", 32)
    return data.images[torch.randperm(len(data), generator=torch.Generator().manual_seed(0))]


@pytest.fixture(scope="module")
def metric(emoji):
    return SlicedWasserstein(emoji[:300])


class TestOrders:
    def test_the_same_images_are_at_zero(self, emoji, metric):
        assert metric.distance(emoji[:300]) == pytest.approx(0, abs=1e-6)

    def test_more_noise_is_further(self, emoji, metric):
        distances = [metric.distance(noisy(emoji[300:600], amount)) for amount in (0, 0.05, 0.1, 0.2, 0.5, 1)]
        assert distances == sorted(distances)
        assert 0 < distances[0] < distances[1] / 1.2

    def test_what_is_wrong_is_far(self, emoji, metric):
        fine = metric.distance(emoji[300:600])
        others = noisy(emoji[300:600], 0)
        wrong = {
            "contrast": others * 0.6,
            "brightness": (others - 0.3).clamp(-1, 1),
            "blur": torch.nn.functional.avg_pool2d(others, 3, 1, 1),
            "colour": others.flip(1),
            "one image": others[:1].expand(300, -1, -1, -1),
            "one colour": torch.full_like(others, -0.5),
        }
        for name, fake in wrong.items():
            assert metric.distance(fake) > 1.5 * fine, name

    def test_detail_shows_in_the_fine_level(self, emoji, metric):
        before, after = metric.levels(emoji[300:600]), metric.levels(noisy(emoji[300:600], 0.1))
        assert after[32] - before[32] > 2 * (after[16] - before[16])


class TestDeterministic:
    def test_seed(self):
        real, fake = images(10), noisy(images(10, seed=2), 0.1)
        assert SlicedWasserstein(real).distance(fake) == SlicedWasserstein(real).distance(fake)
        assert SlicedWasserstein(real, seed=1).distance(fake) != SlicedWasserstein(real).distance(fake)

    def test_global_generators_and_images_are_left_alone(self):
        real, fake = images(10), noisy(images(10, seed=2), 0.1)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        kept = real.clone(), fake.clone()
        metric = SlicedWasserstein(real)
        first = metric.distance(fake)
        assert torch.equal(state, torch.get_rng_state())
        assert numpy_state == np.random.get_state()[1].tolist()  # noqa: NPY002
        assert torch.equal(real, kept[0])
        assert torch.equal(fake, kept[1])
        assert metric.distance(fake) == first

    def test_number_formats(self):
        real, fake = images(10), images(10, seed=2)
        distance = SlicedWasserstein(real).distance(fake)
        for dtype in torch.float32, torch.float64:
            a, b = (pixels.to(dtype) / 127.5 - 1 for pixels in (real, fake))
            assert SlicedWasserstein(a).distance(b) == pytest.approx(distance, rel=1e-4)
        b = noisy(fake, 0).to(memory_format=torch.channels_last).requires_grad_()
        assert SlicedWasserstein(real).distance(b) == pytest.approx(distance, rel=1e-4)

    def test_constant_data(self):
        """A channel without any variation is not divided by its deviation."""
        real = torch.full((4, 1, 16, 16), 128, dtype=torch.uint8)
        assert 0 < SlicedWasserstein(real).distance(real + 10) < 1


class TestSaysWhatIsWrong:
    @pytest.mark.parametrize(
        ("real", "error", "message"),
        [
            (torch.zeros(3, 8, 8), ValueError, r"real must be \(N, C, H, W\).*not shape \(3, 8, 8\)"),
            (torch.zeros(0, 1, 8, 8), ValueError, "real must have at least one image"),
            (torch.zeros(2, 1, 8, 8, dtype=torch.int64), TypeError, r"uint8 or floating point in \[-1, 1\]"),
            ([1], TypeError, "not list"),
        ],
    )
    def test_real(self, real, error, message):
        with pytest.raises(error, match=message):
            SlicedWasserstein(real)

    def test_fake(self):
        metric = SlicedWasserstein(images(2))
        with pytest.raises(ValueError, match=r"a fake image has shape \(1, 32, 32\) .*, a real one \(3, 32, 32\)"):
            metric.distance(images(2, 1))
        with pytest.raises(ValueError, match="fake hold NaN or infinity"):
            metric.distance(torch.full((2, 3, 32, 32), float("nan")))

    @pytest.mark.parametrize("option", ["projections", "patches"])
    def test_options(self, option):
        with pytest.raises(ValueError, match=f"{option} must be a positive integer, not 0"):
            SlicedWasserstein(images(2), **{option: 0})
