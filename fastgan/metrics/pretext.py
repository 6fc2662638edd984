"""What a network can learn of images without labels, for its features: to tell images from one another under changes
that leave them what they are (Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", 2020), and from what is no image of the data any more.

Neither alone does: instances alone take mosaics and shuffled pixels for data, distortions alone overlook variety.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PAIRS, EACH = 24, 2  # images of a batch in two views, images of each distortion
EMBEDDING = 64  # numbers that instances are told by
TEMPERATURE = 0.2
TURN, CLOSEST, CONTRAST, BRIGHTNESS = 0.2, 0.5, 0.4, 0.3  # the most that a view is turned, enlarged, changed


def loss(network: Callable[[Tensor], Tensor], images: Callable[[int], Tensor], random: torch.Generator) -> Tensor:
    """network: images -> (N, len(DISTORTIONS) + EMBEDDING).   images: how many -> as many of the data in [-1, 1]."""
    chosen = images(PAIRS)
    views = [view(chosen, random) for _ in range(2)]
    batch = torch.cat([*views, distorted(lambda: view(images(EACH), random, plain=True), random)])
    found = network(batch.contiguous(memory_format=torch.channels_last))
    embedded = F.normalize(found[:, len(DISTORTIONS) :], dim=1)
    likeness = embedded[: 2 * PAIRS] @ embedded.t() / TEMPERATURE
    own = torch.arange(2 * PAIRS, device=likeness.device)
    likeness = likeness.index_put((own, own), likeness.new_tensor(-torch.inf))
    kinds = torch.arange(len(DISTORTIONS), device=found.device).repeat_interleave(EACH)
    told = F.cross_entropy(found[2 * PAIRS :, : len(DISTORTIONS)], kinds)
    return F.cross_entropy(likeness, own.roll(PAIRS)) + told


def distorted(images: Callable[[], Tensor], random: torch.Generator) -> Tensor:
    """Some images in each distortion, one after the other; the first is none."""
    return torch.cat([distort(images(), random) for distort in DISTORTIONS])


def view(images: Tensor, random: torch.Generator, *, plain: bool = False) -> Tensor:
    """Turned, a part of it, in another light; plain: turned a little alone."""
    turn, zoom, right, down = torch.rand(4, len(images), generator=random).to(images.device).unbind()
    turn = TURN * (2 * turn - 1)
    zoom = 1 - (0.1 if plain else 1 - CLOSEST) * zoom
    rows = (
        torch.stack([zoom * turn.cos(), -zoom * turn.sin(), (1 - zoom) * (2 * right - 1)], dim=1),
        torch.stack([zoom * turn.sin(), zoom * turn.cos(), (1 - zoom) * (2 * down - 1)], dim=1),
    )
    places = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    if plain:
        return seen
    light = (2 * torch.rand(2, len(images), images.shape[1], 1, 1, generator=random) - 1).to(images.device)
    return (seen * (1 + CONTRAST * light[0, :, :1]) + BRIGHTNESS * light[1]).clamp(-1, 1)


def _flat(images: Tensor, random: torch.Generator) -> Tensor:
    return _coarse(images, 1)


def _mosaic(images: Tensor, random: torch.Generator) -> Tensor:
    return _coarse(images, _one_of((2, 3, 5, 8), random))


def _shuffled(images: Tensor, random: torch.Generator) -> Tensor:
    return _blocks(images, images.shape[2], random)


def _torn(images: Tensor, random: torch.Generator) -> Tensor:
    return _blocks(images, _one_of((2, 4, 8), random), random)


def _blurred(images: Tensor, random: torch.Generator) -> Tensor:
    side = _one_of((3, 5, 7), random)
    return F.avg_pool2d(F.pad(images, (side // 2,) * 4, mode="replicate"), side, 1)


def _noise(images: Tensor, random: torch.Generator) -> Tensor:
    return (2 * torch.rand(images.shape, generator=random) - 1).to(images.device)


def _noisy(images: Tensor, random: torch.Generator) -> Tensor:
    amount = 0.1 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=random)
    return (images + (amount * torch.randn(images.shape, generator=random)).to(images.device)).clamp(-1, 1)


def _blended(images: Tensor, random: torch.Generator) -> Tensor:
    return (images + images.roll(1, 0)) / 2


DISTORTIONS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (
    lambda images, random: images, _flat, _mosaic, _shuffled, _torn, _blurred, _noise, _noisy, _blended,
)  # fmt: skip


def _one_of(values: tuple[int, ...], random: torch.Generator) -> int:
    return values[int(torch.randint(len(values), (), generator=random))]


def _coarse(images: Tensor, side: int) -> Tensor:
    return F.interpolate(F.adaptive_avg_pool2d(images, side), images.shape[2:])


def _blocks(images: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Cut into side x side blocks, in another order in each image."""
    count, channels, height, _ = images.shape
    size = height // side
    blocks = images.reshape(count, channels, side, size, side, size).permute(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(count, side * side, channels * size * size)
    order = torch.rand(count, side * side, generator=random).argsort(dim=1).to(images.device)
    blocks = blocks.gather(1, order[:, :, None].expand_as(blocks))
    blocks = blocks.view(count, side, side, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(images.shape)
