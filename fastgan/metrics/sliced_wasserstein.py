"""The sliced Wasserstein distance between two sets of images: Karras, Aila, Laine, Lehtinen, "Progressive Growing of
GANs for Improved Quality, Stability, and Variation", 2018, section 5."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.data.checks import check_centred, check_shape, checked_images
from fastgan.data.pictures import to_float
from fastgan.metrics.checks import positive
from fastgan.metrics.comparison import Comparison
from fastgan.metrics.samples import are_points, as_images

SAMPLES = 512  # of each kind, in a comparison, as while training
PATCH = 7  # pixels a side; images that are smaller are one patch
SMALLEST = 16  # pixels a side of the last level
CHUNK_VALUES = 1 << 21  # of images or projections in work at once
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


class SlicedWasserstein:
    """Distances of sets of images from `real`, over patches of 7x7 pixels at every level of a Laplacian pyramid.

        metric = SlicedWasserstein(real)
        metric.distance(fake)      the mean over the levels
        metric.levels(fake)        {64: fine detail, 32: ..., 16: the whole image}

    real: (N, C, H, W), uint8 or floating point in [-1, 1], or points (N, D). Its device does the work, in float32.
    seed: of the directions and of the places of patches; torch's global generators are left alone.
    projections: random unit directions.   patches: an image, at random places.

    At each level the patches, their channels scaled to standard deviation 1, are projected onto each direction; the
    two sets of numbers are a Wasserstein distance of order 1 apart, and the mean over the directions is the level's.
    It is 0 for equal sets. Differences from the paper: mean and deviation are those of `real` for both sets, so that a
    wrong contrast or colour counts (and the mean cancels out); half as many patches, to bound memory; and nothing is
    multiplied by 1000. Values depend on the number of images (the paper has 16384): compare those of one object only.

    Raises TypeError or ValueError for other images.
    """

    def __init__(self, real: Tensor, *, seed: int = 0, projections: int = 128, patches: int = 64) -> None:
        positive(projections=projections, patches=patches)
        real = _checked(real, "real")
        self._seed = seed
        self._shape = real.shape[1:]
        self._patch = min(PATCH, *self._shape[1:])  # pixels a side
        self._patches = patches if max(self._shape[1:]) > self._patch else 1  # of one place one is enough
        self._device = real.device
        directions = torch.randn(
            projections, self._shape[0] * self._patch**2, generator=torch.Generator().manual_seed(seed)
        )
        self._directions = (directions / directions.norm(dim=1, keepdim=True)).to(real.device)
        self._real = []  # of each level: the deviation of its channels, and its sorted projections
        for _, patches_of_level in self._describe(real):
            deviation = torch.std(patches_of_level, dim=(0, 2), correction=0)[:, None]
            deviation = torch.where(deviation > 1e-6, deviation, 1)
            self._real.append((deviation, self._projected(patches_of_level, deviation, 0, projections)))

    def distance(self, fake: Tensor) -> float:
        """The mean over the levels of the distance of `fake`, (M, C, H, W), from the real images."""
        levels = self.levels(fake).values()
        return sum(levels) / len(levels)

    def levels(self, fake: Tensor) -> dict[int, float]:
        """The distance at each level, by its height in pixels, the finest first."""
        fake = _checked(fake, "fake")
        check_shape(fake.shape[1:], self._shape, "a fake image", "a real one")
        distances = {}
        for (size, patches), (deviation, real) in zip(self._describe(fake), self._real):
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            step = max(1, CHUNK_VALUES // len(patches))
            for start in range(0, len(real), step):
                stop = min(start + step, len(real))
                ours = self._projected(patches, deviation, start, stop)
                total += _wasserstein(real[start:stop], ours).sum(dtype=torch.float64)
            distances[size] = (total / len(real)).item()
        return distances

    @torch.no_grad()
    def _describe(self, images: Tensor) -> list[tuple[int, Tensor]]:
        """Of each level its height and its patches, (images * patches, C, values)."""
        generator = torch.Generator().manual_seed(self._seed)
        channels, height, width = self._shape
        levels: list[tuple[int, Tensor, Tensor]] = []
        while not levels or min(height, width) >= SMALLEST:
            count = len(images) * self._patches
            room = torch.tensor([height - self._patch + 1, width - self._patch + 1])
            places = (torch.rand(len(images), self._patches, 2, generator=generator) * room).long().to(self._device)
            levels.append((height, places, torch.empty(count, channels, self._patch**2, device=self._device)))
            height, width = (height + 1) // 2, (width + 1) // 2
        step = max(1, CHUNK_VALUES // images[0].numel())
        for start in range(0, len(images), step):
            chunk = to_float(images[start : start + step].to(self._device))
            pyramid = _laplacian(chunk, len(levels))
            for (_, places, patches), level in zip(levels, pyramid):
                found = _patches_at(level, places[start : start + step], self._patch)
                patches[start * self._patches : start * self._patches + len(found)] = found
        return [(size, patches) for size, _, patches in levels]

    def _projected(self, patches: Tensor, deviation: Tensor, start: int, stop: int) -> Tensor:
        """(stop - start, N) sorted projections of the patches divided by the deviation: it is the directions that are
        divided."""
        directions = self._directions[start:stop].view(stop - start, -1, self._patch**2) / deviation
        return _sorted(directions.flatten(1) @ patches.flatten(1).t())


def compare(compared: Comparison) -> float:
    real, fake = (_some(samples, compared.seed) for samples in (compared.real, compared.fake))
    return SlicedWasserstein(real, seed=compared.seed).distance(fake)


def _some(samples: Tensor, seed: int) -> Tensor:
    """Data sets have their order, often that of the classes."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
    return samples[order[:SAMPLES].to(samples.device)]


def _checked(images: Tensor, what: str) -> Tensor:
    """Points may lie anywhere."""
    if isinstance(images, Tensor) and are_points(images) and len(images) and images.isfinite().all():
        return as_images(images.float())
    images = checked_images(images, what)
    if not len(images):
        raise ValueError(f"{what} must have at least one image")
    if images.is_floating_point():
        check_centred(float(images.min()), what)
    return images


def _laplacian(images: Tensor, levels: int) -> list[Tensor]:
    """The finest first; each but the last is what the next, doubled, lacks."""
    pyramid = []
    for _ in range(levels - 1):
        rows, columns = (_blur(size).to(images.device) for size in images.shape[2:])
        smaller = rows[::2] @ images @ columns[::2].t()
        # Doubling puts zeros between pixels and blurs: twice the weight in each direction makes up for the zeros.
        pyramid.append(images - 2 * rows[:, ::2] @ smaller @ (2 * columns[:, ::2]).t())
        images = smaller
    return [*pyramid, images]


def _blur(size: int) -> Tensor:
    """(size, size): the 5-tap binomial filter as a matrix, borders mirrored. At these sizes a product with it is many
    times as fast as a convolution on a CPU."""
    matrix = torch.zeros(size, size)
    pixels = torch.arange(size)
    for offset, weight in enumerate(BINOMIAL, start=-2):
        source = (pixels + offset).abs()
        matrix[pixels, torch.minimum(source, 2 * (size - 1) - source)] += weight
    return matrix


def _patches_at(level: Tensor, places: Tensor, side: int) -> Tensor:
    """level (N, C, H, W), places (N, P, 2) of top left corners -> (N P, C, side^2)"""
    windows = level.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5)
    image = torch.arange(len(level), device=level.device)[:, None]
    return windows[image, places[..., 0], places[..., 1]].flatten(0, 1).flatten(2)


def _sorted(values: Tensor) -> Tensor:
    """Each row in order; may be in place."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    values.numpy().sort(axis=1)  # NumPy sorts several times as fast as torch on CPUs with AVX2 or AVX512
    return values


def _wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """(K, N) and (K, M), sorted -> (K,): the mean distance of their quantiles, exactly, whatever N and M."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return (a - b).abs_().mean(dim=1)
    steps = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique().to(a.device)
    begins, widths = steps[:-1], steps.diff()
    return ((a[:, begins // m] - b[:, begins // n]).abs_() * (widths / (n * m))).sum(dim=1)
