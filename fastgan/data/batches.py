"""Training batches: shuffled, endless, on the device, and the same every time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fastgan.data.images import ImageData, check_positive_int
from fastgan.data.order import Chosen, choose
from fastgan.data.samples import NORMALISE, Samples, checked_images, kind_of, unlike

# Floating-point images without a negative value among this many lie in [0, 1], not in [-1, 1].
ENOUGH_IMAGES = 64


@dataclass(frozen=True, eq=False)
class Batch:
    """images: (B, C, H, W) float32 in [-1, 1].   labels: (B,) int64 or None."""

    images: Tensor
    labels: Tensor | None


class Batches(Iterator[Batch]):
    """Endless training batches of `source`, a function of the seed and of the place reached.

    source: an `ImageData`; a tensor (N, C, H, W), uint8 or floating point in [-1, 1]; or anything with `__len__` and
        `__getitem__`, such as a torchvision data set, whose items are images or tuples (image, integer label, ...):
        tensors (C, H, W), NumPy arrays (H, W[, C]), each uint8 or in [-1, 1], or Pillow images (alpha is dropped).
        An `ImageData` or a tensor is held on the device, as uint8 or float32; other sources are read batch by batch.
    batch_size: images a batch, at most as many as the source has.
    seed: integer >= 0. Every epoch has an order of its own, drawn from (seed, epoch); no global generator is touched.
    flip: mirror each image left to right with probability 1/2.
    drop_last: leave out an epoch's last batch where it is short.
    workers: processes that read a source which is not in memory; 0 reads in this one. The batches are the same.

    `state_dict` taken after a batch and given to `load_state_dict` of another `Batches` of the same arguments makes
    that one continue with the same batches. Random augmentations inside the source are repeatable too where they draw
    from the global generators of Python, NumPy or PyTorch's CPU.

    Raises TypeError or ValueError for a source or an argument that cannot be used. An item that cannot be used is one
    when it is read, one that cannot be read a RuntimeError; the place reached stays the same.
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        channels_last: bool = True,
        flip: bool = False,
        drop_last: bool = True,
        workers: int = 0,
    ) -> None:
        check_positive_int("batch_size", batch_size)
        _check_count("seed", seed)
        _check_count("workers", workers)
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.flip = flip
        self.drop_last = drop_last
        self._epoch = self._position = 0
        self._plan: Iterator[Chosen]
        self._reader: _Memory | _Stream
        if isinstance(source, ImageData):
            self._reader = _Memory(source.images, source.labels, self.device, self.layout)
        elif isinstance(source, Tensor):
            self._reader = _Memory(source, None, self.device, self.layout)
        else:
            self._reader = _Stream(source, self.device, workers)
        self.count = self._reader.count
        if batch_size > self.count:
            raise ValueError(
                f"batch_size {batch_size} is larger than the data set, which has {self.count} images: "
                f"choose a batch_size of at most {self.count}"
            )
        self._go_to(0, 0)

    def __next__(self) -> Batch:
        chosen: Chosen = next(self._plan)
        try:
            images, labels = self._reader.read(chosen)
        except Exception:
            self._go_to(self._epoch, self._position)
            raise
        self._epoch, self._position = chosen.epoch, chosen.position
        if self.flip:
            images = torch.where(chosen.flips.view(-1, 1, 1, 1), images.flip(3), images)
        # to() gives the strides of the layout also where, with one channel, contiguous() sees no difference.
        values = images.to(torch.float32, memory_format=self.layout)
        if images.dtype == torch.uint8:
            values.div_(127.5).sub_(1)
        return Batch(values, labels)

    def state_dict(self) -> dict[str, int]:
        """The place reached: the epoch, and how many of its images have been used."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a place that `state_dict` gave. Raises ValueError for one that this source does not have."""
        if set(state) != {"epoch", "position"}:
            raise ValueError(f"the state must hold epoch and position, got {', '.join(map(str, state)) or 'nothing'}")
        for key, value in state.items():
            _check_count(key, value)
        if state["position"] > self.count:
            raise ValueError(
                f"the state is {state['position']} images into an epoch, but the data set has {self.count}: "
                f"it belongs to another data set"
            )
        self._go_to(state["epoch"], state["position"])

    def _go_to(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._plan = self._choose(self.device)
        self._reader.restart(self._choose(torch.device("cpu")))

    def _choose(self, device: torch.device) -> Iterator[Chosen]:
        return choose(self.count, self.batch_size, self.seed, self.drop_last, self._epoch, self._position, device)


class _Memory:
    """Images and labels held on the device."""

    def __init__(
        self, images: Tensor, labels: Tensor | None, device: torch.device, layout: torch.memory_format
    ) -> None:
        images = checked_images(images, "the source")
        if images.is_floating_point() and images.numel() and float(images.min()) >= 0:
            raise ValueError(f"the source has no negative value, it seems to lie in [0, 1]: {NORMALISE}")
        self.count = len(images)
        # In the layout of the batches, so that these are copies of whole images.
        self.images = images.to(device).contiguous(memory_format=layout)
        self.labels = None if labels is None else labels.to(device)

    def restart(self, plan: Iterator[Chosen]) -> None:
        """Any image is at hand: there is nothing to read ahead."""

    def read(self, chosen: Chosen) -> tuple[Tensor, Tensor | None]:
        return self.images[chosen.indices], None if self.labels is None else self.labels[chosen.indices]


class _Stream:
    """Batches of a map-style data set, read ahead by worker processes."""

    def __init__(self, source: Any, device: torch.device, workers: int) -> None:
        if isinstance(source, (str, bytes, Mapping)) or not (
            hasattr(source, "__len__") and hasattr(source, "__getitem__")
        ):
            raise TypeError(
                f"the source must be an ImageData, a tensor (N, C, H, W) or a data set with __len__ and __getitem__, "
                f"got {type(source).__name__}: fastgan.data.load gives the named data sets"
            )
        self.count = len(source)
        self.samples = Samples(source)
        self.device = device
        self.workers = workers
        self.kind: str | None = None
        self.without_negative: int | None = 0

    def restart(self, plan: Iterator[Chosen]) -> None:
        # Started at the first batch: a state loaded before it costs no reading ahead.
        self.plan = plan
        self.loaded: Iterator[Any] | None = None

    def read(self, chosen: Chosen) -> tuple[Tensor, Tensor | None]:
        if self.loaded is None:
            loader: DataLoader = DataLoader(
                self.samples,
                batch_size=None,  # what the sampler gives is a whole batch
                sampler=(list(zip(batch.indices.tolist(), batch.seeds.tolist())) for batch in self.plan),
                num_workers=self.workers,
                pin_memory=self.device.type == "cuda",
                generator=torch.Generator(),  # else starting the loader draws from the global generator
            )
            self.loaded = iter(loader)
        loaded = next(self.loaded)
        if isinstance(loaded, Exception):
            try:
                raise loaded
            finally:
                del loaded  # else error and frame hold each other, and with them the frames above and their loaders
        images, labels = loaded
        self._check(images, labels)
        images = images.to(self.device, non_blocking=True)
        return images, None if labels is None else labels.to(self.device, non_blocking=True)

    def _check(self, images: Tensor, labels: Tensor | None) -> None:
        kind = kind_of(images[0], labels)
        if self.kind not in (None, kind):
            raise unlike(f"some are {self.kind}, others {kind}")
        self.kind = kind
        if images.is_floating_point() and self.without_negative is not None:
            if (images < 0).any():
                self.without_negative = None
                return
            self.without_negative += len(images)
            if self.without_negative >= min(ENOUGH_IMAGES, self.count):
                raise ValueError(
                    f"the first {self.without_negative} images have no negative value, they seem to lie in [0, 1]: "
                    f"{NORMALISE}"
                )


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
