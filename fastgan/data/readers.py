"""The next batch of a data set whose length is known: from the device's memory, or read ahead by worker processes."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.data.checks import check_centred, checked_images
from fastgan.data.lazy import LazyPictures
from fastgan.data.loading import Loading, local_ranks
from fastgan.data.order import Chosen, Order
from fastgan.data.problems import Ledger
from fastgan.data.samples import Decoded, Read, Samples, kind_of, unlike

# Floating-point images without a negative value among this many lie in [0, 1], not in [-1, 1].
ENOUGH_IMAGES = 64

MOST_MEMORY = 4 << 30  # bytes of decoded pictures that are kept, unless told otherwise

# Batches that the plan runs ahead of the batch in use while there is nothing to read.
FAR_AHEAD = 256


class Drawn(NamedTuple):
    """A batch as it is stored, and the place reached once it is used."""

    images: Tensor  # (B, C, H, W) uint8 or float32
    labels: Tensor | None
    flips: Tensor  # (B,) bool
    epoch: int
    position: int


class Memory:
    """Images and labels held on the device."""

    def __init__(
        self, images: Tensor, labels: Tensor | None, order: Order, device: torch.device, layout: torch.memory_format
    ) -> None:
        images = checked_images(images, "the source")
        if images.is_floating_point() and images.numel():
            check_centred(float(images.min()), "the source")
        self.count = len(images)
        self.order = order
        self.device = device
        # In the layout of the batches, so that these are copies of whole images.
        self.images = images.to(device).contiguous(memory_format=layout)
        self.labels = None if labels is None else labels.to(device)

    def restart(self, epoch: int, position: int) -> None:
        self.plan = self.order.choose(self.count, epoch, position, self.device)

    def read(self) -> Drawn:
        epoch, position, indices, flips, _ = next(self.plan)
        return Drawn(
            self.images[indices], None if self.labels is None else self.labels[indices], flips, epoch, position
        )


class Store:
    """Decoded pictures of a whole data set on the device, filled as they are read."""

    def __init__(
        self,
        count: int,
        shape: tuple[int, int, int],
        labelled: bool,
        device: torch.device,
        layout: torch.memory_format,
    ) -> None:
        self.images = torch.empty(count, *shape, dtype=torch.uint8, device=device, memory_format=layout)
        self.labels = torch.empty(count, dtype=torch.int64, device=device) if labelled else None
        self.filled = torch.zeros(count, dtype=torch.bool)
        self.missing = count

    def put(self, indices: Tensor, read: Read) -> None:
        device = self.images.device
        rows = indices.to(device, non_blocking=True)
        self.images[rows] = read.images.to(device, non_blocking=True)
        if self.labels is not None and read.labels is not None:
            self.labels[rows] = read.labels.to(device, non_blocking=True)
        self.filled[indices] = True
        self.missing -= len(indices)


class Loaded:
    """A map-style data set, read ahead; where there is a store, every picture is read once."""

    def __init__(
        self,
        source: Any,
        order: Order,
        device: torch.device,
        workers: int,
        store: Store | None,
        ledger: Ledger,
    ) -> None:
        self.count = len(source)
        self.samples = Decoded(source) if isinstance(source, LazyPictures) else Samples(source)
        self.checks = Checks(self.count)
        self.order = order
        self.device = device
        self.workers = workers
        self.store = store
        self.ledger = ledger

    def restart(self, epoch: int, position: int) -> None:
        self.plan = self.order.choose(self.count, epoch, position, self.device)
        self.ahead = self.order.choose(self.count, epoch, position, torch.device("cpu"))
        if self.store is not None:
            self.store.missing = self.count - int(self.store.filled.sum())  # also where `put` was interrupted
        # Started at the first batch: a state loaded before it costs no reading ahead.
        self.loaded: Iterator[Any] | None = None
        self.ready: deque[Any] = deque()
        self.wanted: deque[tuple[Tensor, bool]] = deque()

    def read(self) -> Drawn:
        epoch, position, indices, flips, _ = next(self.plan)
        store = self.store
        if store is None:
            read = self._next()
            images = read.images.to(self.device, non_blocking=True)
            labels = None if read.labels is None else read.labels.to(self.device, non_blocking=True)
        else:
            if store.missing:
                self._fill(store)
            images = store.images[indices]
            labels = None if store.labels is None else store.labels[indices]
        return Drawn(images, labels, flips, epoch, position)

    def _fill(self, store: Store) -> None:
        """Puts those of the next batch into the store that are not yet there."""
        while not self.wanted:  # the loader has not asked for the plan this far
            self.ready.append(self._load())
        missing, sent = self.wanted.popleft()
        if sent:
            read = self._accepted(self.ready.popleft() if self.ready else self._load())
            if len(missing):
                store.put(missing, read)
        if not store.missing:
            self.loaded = None  # and with it the workers

    def _next(self) -> Read:
        return self._accepted(self._load())

    def _load(self) -> Any:
        if self.loaded is None:
            requests = _requests(self.ahead, isinstance(self.samples, Decoded), self.store, self.wanted)
            self.loaded = Loading(self.samples, requests, self.workers, self.device)
        return next(self.loaded)

    def _accepted(self, read: Any) -> Read:
        if isinstance(read, Exception):
            try:
                raise read
            finally:
                del read  # else error and frame hold each other, and with them the frames above and their loaders
        if isinstance(self.samples, Samples):
            self.checks(read.images, read.labels)
        self.ledger.add(read.notes)
        return read


def _requests(
    plan: Iterator[Chosen], decoded: bool, store: Store | None, wanted: deque[tuple[Tensor, bool]]
) -> Iterator[Sequence[Any]]:
    """What to read, batch by batch. The loader asks ahead of `Loaded.read`, which follows by the entries of `wanted`.

    No method: with its reader in the frame, a loader that is dropped would wait for the garbage collector.
    """
    if store is None:
        for chosen in plan:
            indices = chosen.indices.tolist()
            yield indices if decoded else list(zip(indices, chosen.seeds.tolist()))
        return
    asked, left, idle = store.filled.clone(), store.missing, 0
    while left:
        rows = next(plan).indices
        missing = rows[~asked[rows]]
        asked[missing] = True
        left -= len(missing)
        idle = 0 if len(missing) else (idle + 1) % FAR_AHEAD
        sent = bool(len(missing)) or not idle
        wanted.append((missing, sent))
        if sent:
            yield missing.tolist()


class Checks:
    """That the items of a data set are alike and in [-1, 1], as far as one batch after another shows."""

    def __init__(self, count: int | None) -> None:
        self.kind: str | None = None
        self.without_negative: int | None = 0
        self.enough = ENOUGH_IMAGES if count is None else min(ENOUGH_IMAGES, count)

    def __call__(self, images: Tensor, labels: Tensor | None) -> None:
        kind = kind_of(images[0], labels)
        if self.kind not in (None, kind):
            raise unlike(f"some are {self.kind}, others {kind}")
        self.kind = kind
        if images.is_floating_point() and self.without_negative is not None:
            if (images < 0).any():
                self.without_negative = None
                return
            self.without_negative += len(images)
            if self.without_negative >= self.enough:
                self.end()

    def end(self) -> None:
        """Of what can be read once, the end is there before enough images were seen."""
        if self.without_negative:
            check_centred(0, f"the first {self.without_negative} images")


def default_memory(device: torch.device) -> int:
    """Bytes of decoded pictures to keep on the device: a quarter of what is free, at most 4 GiB."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _free_memory() // local_ranks()
    return min(MOST_MEMORY, free // 4)


def _free_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its container."""
    limits = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # not Linux, no container, or "max"
        pass
    if not limits and hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    return max(0, min(limits, default=MOST_MEMORY))
