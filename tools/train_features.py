"""Trains the package's own features and writes fastgan/pretrained/small.pt: python tools/train_features.py

A few minutes on one core. The same bits on one machine with one version of PyTorch; another processor rounds
otherwise, and the checksum in fastgan/pretrained/small.py then has to be replaced by the one printed.

The network (`fastgan.networks.small_features`, 172,000 parameters) learns from pictures without labels: the emoji, the
digits, and the two photographs that come with scikit-learn, cut at random sizes.

* A picture is told from 95 others in a second view (Chen et al. 2020, temperature 0.2, a projection that is thrown
  away): another part of it, mirrored or not, blurred, in other colors, gray, or as a drawing of its edges. So shapes
  count more than colors and style.
* From the last maps a small decoder restores the undisturbed picture, of a noisy, blurred or patched one (Vincent et
  al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008), L1. So maps know where what is.
* How a picture was distorted is told (`fastgan.metrics.pretext`). So it sees what is no picture any more.

Adam, 2e-3 in one cycle, 130 batches of 48 pictures in two views of 40x40 pixels, and 2 of each distortion. At the end
batch normalisation is folded into the weights, and each channel divided by its root mean square over the data, so that
every channel counts alike (ReLU is homogeneous, the next layer multiplies by it). Weights are stored in half precision.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fastgan.data import load
from fastgan.metrics.pretext import DISTORTIONS, distorted
from fastgan.networks.small_features import WIDTHS, small_features

OUT = Path(__file__).parents[1] / "fastgan/pretrained/small.pt"
STEPS, BATCH, SIDE, EACH = 130, 48, 40, 2
RATE, TEMPERATURE, EMBEDDING = 2e-3, 0.2, 64
SHARES = {"emoji": 0.45, "digits": 0.05, "photos": 0.5}  # of a batch
PHOTO_SIDES = (64, 256)  # of the windows cut from photographs, in pixels


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    draw = sources(random)
    trunk = small_features(norm=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = nn.ModuleDict(
        {
            "project": nn.Sequential(nn.Linear(WIDTHS[-1], 128), nn.ReLU(), nn.Linear(128, EMBEDDING)),
            "distortion": nn.Linear(WIDTHS[-1], len(DISTORTIONS)),
            "decode": nn.Sequential(
                *(nn.Conv2d(WIDTHS[-1], 256, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()),
                *(nn.Conv2d(64, 192, 3, padding=1), nn.PixelShuffle(4), nn.Conv2d(12, 3, 3, padding=1)),
            ),
        }
    )
    optimizer = torch.optim.AdamW([*trunk.parameters(), *heads.parameters()], lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        losses = loss(trunk, heads, draw, random)
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 9:
            print(step + 1, {name: round(value.item(), 3) for name, value in losses.items()}, flush=True)
    folded = fold(trunk.eval())
    level(folded, draw(1024))
    state = {name: value.half().contiguous() for name, value in folded.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(buffer.getvalue())
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB, SHA-256 {hashlib.sha256(buffer.getvalue()).hexdigest()}")


def loss(
    trunk: nn.Module, heads: nn.ModuleDict, draw: Callable[[int], Tensor], random: torch.Generator
) -> dict[str, Tensor]:
    images = draw(BATCH)
    views = [restyled(part(images, random), random) for _ in range(2)]
    disturbed = spoiled(images, random)
    kinds = distorted(lambda: draw(EACH), random)
    batch = torch.cat([*views, disturbed, kinds]).contiguous(memory_format=torch.channels_last)
    maps = trunk(batch)
    pooled = maps.mean((2, 3))
    embedded = F.normalize(heads["project"](pooled[: 2 * BATCH]), dim=1)
    likeness = embedded @ embedded.t() / TEMPERATURE
    own = torch.arange(2 * BATCH)
    likeness = likeness.index_put((own, own), torch.tensor(-torch.inf))
    restored = heads["decode"](maps[2 * BATCH : 3 * BATCH])
    told = heads["distortion"](pooled[3 * BATCH :])
    return {
        "instances": F.cross_entropy(likeness, own.roll(BATCH)),
        "restored": 4 * F.l1_loss(restored, images),
        "told": F.cross_entropy(told, torch.arange(len(DISTORTIONS)).repeat_interleave(EACH)),
    }


def sources(random: torch.Generator) -> Callable[[int], Tensor]:
    """A function of a count that draws as many pictures (N, 3, SIDE, SIDE) in [-1, 1]."""
    emoji, digits = load("emoji").images, load("digits", SIDE, 3).images
    photos = [torch.tensor(photo).permute(2, 0, 1) for photo in load_sample_images().images]

    def chosen(most: int) -> int:
        return int(torch.randint(most, (), generator=random))

    def photo() -> Tensor:
        image = photos[chosen(len(photos))]
        side = min(PHOTO_SIDES[0] + chosen(PHOTO_SIDES[1] - PHOTO_SIDES[0]), *image.shape[1:])
        top, left = (chosen(length - side + 1) for length in image.shape[1:])
        return sized(image[None, :, top : top + side, left : left + side])

    def draw(count: int) -> Tensor:
        drawn = round(count * SHARES["emoji"]), round(count * SHARES["digits"])
        made = [sized(emoji[torch.randint(len(emoji), drawn[:1], generator=random)])]
        made.append(sized(digits[torch.randint(len(digits), drawn[1:], generator=random)]))
        made += [photo() for _ in range(count - sum(drawn))]
        return torch.cat(made)

    return draw


def sized(images: Tensor) -> Tensor:
    values = F.interpolate(images.float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return values / 127.5 - 1


def part(images: Tensor, random: torch.Generator) -> Tensor:
    """Turned, mirrored, a part of it, of half the side at least."""
    turn, zoom, right, down = torch.rand(4, len(images), generator=random).unbind()
    turn, zoom = 0.25 * (2 * turn - 1), 1.05 - 0.5 * zoom
    mirror = torch.where(torch.rand(len(images), generator=random) < 0.3, -1.0, 1.0)
    places = torch.stack(
        [
            torch.stack([mirror * zoom * turn.cos(), -zoom * turn.sin(), (1 - zoom) * (2 * right - 1)], dim=1),
            torch.stack([mirror * zoom * turn.sin(), zoom * turn.cos(), (1 - zoom) * (2 * down - 1)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def restyled(images: Tensor, random: torch.Generator) -> Tensor:
    """In another light, mixed colors, gray, blurred, or its edges alone, each picture in a way of its own."""
    count = len(images)

    def some(share: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=random) < share

    light = 2 * torch.rand(2, count, 3, 1, 1, generator=random) - 1
    images = images * (1 + 0.4 * light[0, :, :1]) + 0.3 * light[1]
    mix = torch.eye(3) + 0.5 * torch.randn(count, 3, 3, generator=random) / 3
    mixed = torch.einsum("nij,njhw->nihw", mix / mix.sum(2, keepdim=True).clamp(min=0.3), images)
    images = torch.where(some(0.6), mixed, images).clamp(-1, 1)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.where(some(0.3), blurred, images)
    gray = images.mean(1, keepdim=True).expand_as(images)
    smooth = F.avg_pool2d(F.pad(gray, (2, 2, 2, 2), mode="replicate"), 5, 1)
    edges = (1 - 6 * (gray - smooth).abs()).clamp(-1, 1)
    images = torch.where(some(0.25), gray, images)
    images = torch.where(some(0.15), edges, images)
    return torch.where(some(0.1), -images, images)


def spoiled(images: Tensor, random: torch.Generator) -> Tensor:
    """Noisy, blurred, or with gray patches."""
    count = len(images)
    noise = 0.5 * torch.rand(count, 1, 1, 1, generator=random) * torch.randn(images.shape, generator=random)
    blurred = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, 1)
    holes = F.interpolate((torch.rand(count, 1, 6, 6, generator=random) < 0.2).float(), images.shape[2:])
    way = torch.rand(count, 1, 1, 1, generator=random)
    return torch.where(way < 0.4, images + noise, torch.where(way < 0.7, blurred, images * (1 - holes)))


def fold(trunk: nn.Sequential) -> nn.Sequential:
    """The same network without batch normalisation."""
    folded = small_features()
    for stage, made in zip(trunk, folded):
        assert isinstance(stage, nn.Sequential)
        assert isinstance(made, nn.Sequential)
        pairs = zip(stage[0::3], stage[1::3])
        for place, (conv, norm) in enumerate(pairs):
            made[2 * place] = fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]
    return folded


@torch.no_grad()
def level(network: nn.Sequential, images: Tensor) -> None:
    """Every channel of every layer to a root mean square of 1 over these images."""
    x, scale = images, torch.ones(3)
    for layer in [layer for stage in network for layer in stage if isinstance(layer, nn.Conv2d)]:  # type: ignore[union-attr]
        layer.weight *= scale.view(1, -1, 1, 1)
        x = F.relu(layer(x))
        scale = x.square().mean((0, 2, 3)).sqrt().clamp(min=1e-3)
        layer.weight /= scale.view(-1, 1, 1, 1)
        assert layer.bias is not None
        layer.bias /= scale
        x = x / scale.view(1, -1, 1, 1)


if __name__ == "__main__":
    main()
