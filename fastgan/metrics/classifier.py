"""Features from a classifier that is trained on the data set itself, once, and kept in the user's cache directory.

Frechet distances in features of a network that knows the data are used wherever Inception, which knows photographs, has
nothing to say (for digits since Binkowski et al., "Demystifying MMD GANs", 2018). They compare runs on one data set.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.data.checks import check_centred, checked_images
from fastgan.data.pictures import to_float, to_uint8
from fastgan.files import replace_file
from fastgan.messages import log
from fastgan.metrics import pretext
from fastgan.metrics.comparison import Described
from fastgan.metrics.pretext import DISTORTIONS, EMBEDDING, distorted
from fastgan.nn import ConvNormAct2d
from fastgan.random import private
from fastgan.tuning.store import folder

FORMAT = 2  # of the cache's files and of what follows: any change makes older files stale
WIDTH = 24  # channels of the largest maps; they double at each halving, down to 4x4
STEPS, BATCH = 200, 64
RATE, DECAY, SMOOTHING = 4e-3, 0.05, 0.1  # AdamW's peak of one cycle, its weight decay, label smoothing
TURN, ZOOM, SHIFT = 0.2, 0.1, 0.06  # the most that an image is turned (radians), enlarged, moved (share of its side)
HELD_OUT = 0.2  # share of the images, to tell the accuracy by
MOST_HELD_OUT = 10_000
CHUNK = 256  # images in work at once
LEAST_SKILL = 0.1  # of the way from chance to perfect that a network must have come to know something of the data


class Classifier:
    """Features of images, and their classes, by a small convolutional network trained on `images`.

        features = Classifier(images, labels, classes=10)
        features(fake).features, features.accuracy

    images: (N, C, H, W), uint8 or floating point in [-1, 1], which is rounded to uint8; N >= 20.
    labels: (N,) integers in 0..classes - 1; without labels the network learns to tell images from one another and from
    distorted ones (`fastgan.metrics.pretext`), and says nothing of classes.
    seed: of the weights, the batches and the split. torch's global generators are left alone.

    Four fifths of the images are trained on, 200 batches of 64 with small turns, shifts and zooms; `accuracy` is that
    on the others, of their classes or distortions, and `chance` what a network reaches that has learned nothing.
    Features are the means over space of its last layer's maps, 96 or 192 numbers. Images are resized to
    32x32 pixels first, 64x64 where theirs are as large (antialiased, bilinear).

    The network is kept in a file of the cache directory ($FASTGAN_CACHE, else ~/.cache/fastgan), named by a hash of all
    this; a damaged file is ignored and written anew. Nothing in it is executed.

    Raises TypeError or ValueError for other images or labels.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, classes: int = 0, *, seed: int = 0) -> None:
        images = _checked(images, labels, classes)
        self.channels = images.shape[1]
        self.side = 64 if min(images.shape[2:]) >= 64 else 32
        self.classes = classes if labels is not None else 0
        self.device = images.device
        images = torch.cat([resized(part, self.side) for part in images.split(CHUNK)])
        with private(seed):
            self._network = _network(images.shape[1], self.side, self.classes or len(DISTORTIONS) + EMBEDDING).to(
                images.device
            )
        file = folder() / f"classifier-{_key(images, labels, self.classes, seed)}.pt"
        self.cached = _read(file, self._network)
        if not self.cached:
            what = f"{self.classes} classes" if self.classes else "images and distorted ones"
            log.info("training a classifier of %s on %d images for its features, kept in %s", what, len(images), file)
            with one_thread():
                _train(self._network, images, labels, seed)
            _write(file, self._network)
        self._network.eval()
        held_out = images[(rows := _split(len(images), seed)[0]).to(images.device)]
        if labels is None:
            self.chance, self.accuracy = 1 / len(DISTORTIONS), self._told(held_out, seed)
        else:
            self.chance = torch.bincount(labels).max().item() / len(labels)
            self.accuracy = self._right(held_out, labels[rows.to(labels.device)].to(self.device))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Described:
        """images: (N, C, H, W), uint8 or floating point in [-1, 1], of the channels trained on."""
        images = checked_images(images, "images")
        if images.shape[1] != self.channels:
            raise ValueError(f"images must have {self.channels} channels, as those trained on, not {images.shape[1]}")
        features, found = [], []
        for part in images.split(CHUNK):
            values = self._network[:-1](scaled(resized(part.to(self.device), self.side)))
            features.append(values)
            if self.classes:
                found.append(self._network[-1](values).argmax(dim=1))
        return Described(torch.cat(features), torch.cat(found) if self.classes else None)

    def describe(self) -> dict[str, Any]:
        """For the protocol of an evaluation."""
        what = f"classifier of {self.classes} classes" if self.classes else "classifier of images and distorted ones"
        return {
            "features": f"{what}, trained on the data",
            "accuracy": round(self.accuracy, 4),
            "chance": round(self.chance, 4),
            "resize": f"{self.side}x{self.side}, antialiased bilinear",
            "range": "uint8, then [-1, 1]",
        }

    @property
    def blind(self) -> bool:
        """Whether it has learned next to nothing of the data, so that its features cannot tell them from others."""
        return self.accuracy < min(2 * self.chance, self.chance + LEAST_SKILL * (1 - self.chance))

    @torch.no_grad()
    def _right(self, images: Tensor, expected: Tensor) -> float:
        found = [self._network(scaled(part)).argmax(dim=1) for part in images.split(CHUNK)]
        return (torch.cat(found) == expected).double().mean().item()

    @torch.no_grad()
    def _told(self, images: Tensor, seed: int) -> float:
        """The share of held-out images, each in every distortion, whose distortion is told."""
        random = torch.Generator().manual_seed(seed)
        right = []
        for part in images.split(CHUNK):
            values = distorted(partial(to_float, part), random).contiguous(memory_format=torch.channels_last)
            for kind, of_kind in enumerate(values.split(len(part))):
                right.append(self._network(of_kind)[:, : len(DISTORTIONS)].argmax(dim=1) == kind)
        return torch.cat(right).double().mean().item()


def resized(images: Tensor, side: int) -> Tensor:
    """uint8 (N, C, side, side); floating point in [-1, 1] is rounded to uint8 first, as a picture's file would be."""
    images = to_uint8(images)
    if images.shape[2:] == (side, side):
        return images
    values = F.interpolate(images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return values.round().clamp(0, 255).to(torch.uint8)


def scaled(images: Tensor) -> Tensor:
    return to_float(images).contiguous(memory_format=torch.channels_last)


@contextmanager
def one_thread() -> Iterator[None]:
    """The network's layers are too small to share: a second thread gains little, and costs much where others are at
    work. And the number of cores does not change the bits.

    Where the process has other threads of Python, as many as there are stay at work, and the last bits follow from
    their number: it is a setting of the process, which threads that begin meanwhile would keep."""
    if threading.active_count() > 1:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _network(channels: int, side: int, classes: int) -> nn.Sequential:
    width, side = WIDTH, side // 2
    layers: list[nn.Module] = [ConvNormAct2d(channels, width, 3, 2, 1, act="relu")]
    while side > 4:
        layers += [ConvNormAct2d(width, 2 * width, 3, 2, 1, act="relu"), ConvNormAct2d(2 * width, 2 * width, 3, 1, 1)]
        width, side = 2 * width, side // 2
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, pool, nn.Linear(width, classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _train(network: nn.Sequential, images: Tensor, labels: Tensor | None, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    chosen = _split(len(images), seed)[1]

    def drawn(count: int) -> Tensor:
        return chosen[torch.randint(len(chosen), (count,), generator=random)].to(images.device)

    def images_of(count: int) -> Tensor:
        return scaled(images[drawn(count)])

    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    network.train()
    with torch.enable_grad():
        for _ in range(STEPS):
            if labels is None:
                loss = pretext.loss(network, images_of, random)
            else:
                rows = drawn(BATCH)
                target = labels[rows.to(labels.device)].to(images.device)
                moved = _moved(scaled(images[rows]), random)
                loss = F.cross_entropy(network(moved), target, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise FloatingPointError("the classifier whose features were wanted has diverged: try another seed")


def _moved(images: Tensor, random: torch.Generator) -> Tensor:
    turn, zoom, right, down = (torch.rand(4, len(images), generator=random) * 2 - 1).to(images.device).unbind()
    turn, zoom = TURN * turn, 1 + ZOOM * zoom
    rows = (
        torch.stack([zoom * turn.cos(), -zoom * turn.sin(), 2 * SHIFT * right], dim=1),
        torch.stack([zoom * turn.sin(), zoom * turn.cos(), 2 * SHIFT * down], dim=1),
    )
    places = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, places, padding_mode="border", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


def _split(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The numbers of the images held out, and of those to train on."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held_out = min(int(count * HELD_OUT), MOST_HELD_OUT)
    return order[:held_out], order[held_out:]


def _checked(images: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """The images in uint8."""
    images = checked_images(images, "images")
    if len(images) < 20:
        raise ValueError(f"a classifier needs at least 20 images to learn from, not {len(images)}")
    if images.is_floating_point():
        check_centred(float(images.min()), "images")
    images = to_uint8(images)
    if labels is None:
        return images
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (len(images),):
        raise ValueError(f"{len(images)} images need int64 labels of shape ({len(images)},)")
    if classes < 2 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels must lie in 0..classes - 1 with at least 2 classes, not {classes} classes")
    return images


def _key(images: Tensor, labels: Tensor | None, classes: int, seed: int) -> str:
    settings = {
        "format": FORMAT,
        "versions": [fastgan.__version__, torch.__version__],
        "shape": list(images.shape),
        "classes": classes,
        "seed": seed,
        "steps": STEPS,
        "device": images.device.type,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in (images, labels):
        if part is not None:
            digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(file: Path, network: nn.Module) -> bool:
    """Whether the file held the network's weights. Of what else lies there, nothing is used."""
    try:
        content = file.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            return False
        network.load_state_dict(torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError,
            zipfile.BadZipFile):  # fmt: skip
        return False
    return True


def _write(file: Path, network: nn.Module) -> None:
    """Wholly or not at all, beside whatever other processes write meanwhile."""
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    content = buffer.getvalue()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, hashlib.sha256(content).digest() + content)
    except OSError as error:
        log.warning("%s: %s; the next evaluation trains it again", file, error.strerror)
