"""The next batch of a data set whose length is known: from the device's memory, or read ahead by worker processes."""

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.data.changes import Changes
from fastgan.data.checks import check_centred
from fastgan.data.fields import Field, Images, Texts, Vectors
from fastgan.data.loading import Loading, local_ranks
from fastgan.data.order import Chosen, Order
from fastgan.data.problems import Ledger
from fastgan.data.samples import Decoded, Read, Samples, kind_of, unlike
from fastgan.data.windows import Windows, cut_all

# Floating-point images without a negative value among this many lie in [0, 1], not in [-1, 1].
ENOUGH_IMAGES = 64

MOST_MEMORY = 4 << 30  # bytes of decoded pictures that are kept, unless told otherwise

# Batches that the plan runs ahead of the batch in use while there is nothing to read.
FAR_AHEAD = 256


class Drawn(NamedTuple):
    """A batch as it is stored, and the place reached once it is used."""

    fields: dict[str, Tensor]  # such as images (B, C, H, W) uint8 or float32
    changes: Changes
    epoch: int
    position: int


class Memory:
    """Fields held on the device."""

    def __init__(
        self,
        fields: Mapping[str, Tensor],
        order: Order,
        device: torch.device,
        layout: torch.memory_format,
        windows: Windows,
    ) -> None:
        self.order = order
        self.device = device
        for name, values in fields.items():
            if values.dim() == 4 and values.is_floating_point() and values.numel():
                check_centred(float(values.min()), "the source" if name == "image" else f"{name} of the source")
        self.fields = {name: _laid_out(values.to(device), layout) for name, values in fields.items()}
        self.count = len(next(iter(self.fields.values())))
        self.windows = windows

    def restart(self, epoch: int, position: int) -> None:
        self.plan = self.order.choose(self.count, epoch, position, self.device)

    def read(self) -> Drawn:
        epoch, position, indices, changes, _ = next(self.plan)
        fields = {name: values[indices] for name, values in self.fields.items()}
        for name, window in self.windows.items():
            fields[name] = cut_all(fields[name], window, changes.places)
        return Drawn(fields, changes, epoch, position)


def _laid_out(values: Tensor, layout: torch.memory_format) -> Tensor:
    """Images in the layout of the batches, so that these are copies of whole images."""
    return values.contiguous(memory_format=layout) if values.dim() == 4 else values.contiguous()


class Store:
    """Decoded rows of a whole data set on the device, filled as they are read."""

    def __init__(
        self, count: int, fields: Mapping[str, Field], device: torch.device, layout: torch.memory_format
    ) -> None:
        self.fields: dict[str, Tensor] = {}
        for name, field in fields.items():
            shape, dtype = stored(field)
            values = torch.empty(count, *shape, dtype=dtype, device=device)
            self.fields[name] = _laid_out(values, layout)
        self.filled = torch.zeros(count, dtype=torch.bool)
        self.missing = count
        self.bytes = self.size(count, fields)

    @staticmethod
    def size(count: int, fields: Mapping[str, Field]) -> int:
        """Bytes of that many rows; a label a row goes without counting."""
        return count * sum(math.prod(shape) * dtype.itemsize for shape, dtype in map(stored, fields.values()) if shape)

    def put(self, indices: Tensor, read: Read) -> None:
        rows: dict[torch.device, Tensor] = {}
        for name, values in self.fields.items():
            if values.device not in rows:
                rows[values.device] = indices.to(values.device, non_blocking=True)
            values[rows[values.device]] = read.fields[name].to(values.device, non_blocking=True)
        self.filled[indices] = True
        self.missing -= len(indices)


def stored(field: Field) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype of one row's value of a field, as it is stored."""
    if isinstance(field, Images):
        return field.shape, torch.uint8
    if isinstance(field, Vectors):
        return (field.size,), torch.float32
    return ((field.length,) if isinstance(field, Texts) else ()), torch.int64


class Loaded:
    """A map-style data set, read ahead; where there is a store, every row is read once."""

    def __init__(
        self,
        samples: Samples | Decoded,
        order: Order,
        device: torch.device,
        workers: int,
        store: Store | None,
        ledger: Ledger,
    ) -> None:
        self.count = len(samples.source)
        self.samples = samples
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
        epoch, position, indices, changes, _ = next(self.plan)
        store = self.store
        if store is None:
            read = self._accepted(self._load())
            fields = {name: values.to(self.device, non_blocking=True) for name, values in read.fields.items()}
        else:
            if store.missing:
                self._fill(store)
            fields = {name: values[indices] for name, values in store.fields.items()}
        return Drawn(fields, changes, epoch, position)

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
            self.checks(read.fields)
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
            if decoded:
                places = map(tuple, chosen.changes.places.tolist()) if chosen.changes.places.numel() else None
                yield list(zip(indices, places)) if places else [(index,) for index in indices]
            else:
                yield list(zip(indices, chosen.seeds.tolist()))
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
            yield [(index,) for index in missing.tolist()]


class Checks:
    """That the items of a data set are alike and in [-1, 1], as far as one batch after another shows."""

    def __init__(self, count: int | None) -> None:
        self.kind: str | None = None
        self.without_negative: dict[str, int | None] = {}  # images so far; None: there was a negative value
        self.enough = ENOUGH_IMAGES if count is None else min(ENOUGH_IMAGES, count)

    def __call__(self, fields: Mapping[str, Tensor]) -> None:
        kind = kind_of({name: values[0] for name, values in fields.items()})
        if self.kind not in (None, kind):
            raise unlike(f"some are {self.kind}, others {kind}")
        self.kind = kind
        for name, values in fields.items():
            before = self.without_negative.get(name, 0)
            if values.dim() != 4 or not values.is_floating_point() or before is None:
                continue
            negative = bool((values < 0).any())
            self.without_negative[name] = None if negative else before + len(values)
            if not negative and before + len(values) >= self.enough:
                self.end()

    def end(self) -> None:
        """Of what can be read once, the end is there before enough images were seen."""
        for name, count in self.without_negative.items():
            if count:
                check_centred(0, f"the first {count} images" + ("" if name == "image" else f" of {name}"))


def default_memory(device: torch.device) -> int:
    """Bytes of decoded pictures to keep on the device: a quarter of what is free, at most 4 GiB."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = free_memory() // local_ranks()
    return min(MOST_MEMORY, free // 4)


def free_memory() -> int:
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
