"""Training batches: shuffled, endless, on the device, and the same every time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from fastgan.data.changes import changed, enlarged
from fastgan.data.checks import check_positive_int
from fastgan.data.fields import Batch
from fastgan.data.lazy import Pictures
from fastgan.data.loading import default_workers
from fastgan.data.order import Order
from fastgan.data.pictures import to_float
from fastgan.data.problems import Ledger
from fastgan.data.readers import Drawn, Loaded, Memory, Store, default_memory
from fastgan.data.samples import Decoded, Samples
from fastgan.data.source import Brought, BroughtStream, Together, parts_of, source_of
from fastgan.data.stream import Stream, StreamPictures
from fastgan.data.windows import Windows, windows_of


class Batches(Iterator[Batch]):
    """Endless training batches of `source`, a function of the seed and of the place reached.

    source: what `fastgan.data.load` gives; a tensor (N, C, H, W), uint8 or floating point in [-1, 1]; or anything with
        `__len__` and `__getitem__`, such as a torchvision data set, or with `__iter__`, whose items are images or
        tuples (image, integer label, ...): tensors (C, H, W), NumPy arrays (H, W[, C]), each uint8 or in [-1, 1], or
        Pillow images (alpha is dropped); or a data set of Hugging Face. An `ImageData` or a tensor is held on the
        device, as uint8 or float32; other sources are read batch by batch.
    batch_size: images a batch of all ranks together, at most as many as the source has, or 1,024 windows.
    seed: integer >= 0. Every epoch has an order of its own, drawn from (seed, epoch); no global generator is touched.
        What can only be iterated is shuffled in blocks of about 4096 images.
    flip: mirror each image left to right with probability 1/2.
    jitter: pixels. Images are made higher and wider by so many, and a random part of their own size is taken, as
        pix2pix does (286 to 256); images of one row, such as a pair, are shifted and mirrored alike.
    drop_last: leave out an epoch's last batch where it is short.
    workers: processes that read a source which is not in memory, a stream at most one; 0 reads in this one; None takes
        as many as there are cores for. The batches are the same.
    rank, ranks: this process's number among those that share each batch; it yields rows rank * b to (rank + 1) * b,
        b = batch_size / ranks, of the batch that one process would yield. Of a stream it takes every ranks-th item.
    memory: bytes for pictures of `fastgan.data.load`, which stay on the device as uint8 once they are decoded, where
        all of them fit. By default a quarter of what is free there, at most 4 GiB; 0 keeps none.

    `state_dict` taken after a batch and given to `load_state_dict` of another `Batches` of the same arguments makes
    that one continue with the same batches. Random augmentations inside the source are repeatable too where they draw
    from the global generators of Python, NumPy or PyTorch's CPU.

    `count` is the number of images, None for a stream.

    A picture file that cannot be used is replaced by the next one and named by `problems`. Raises TypeError or
    ValueError for a source or an argument that cannot be used. An item of your own data set that cannot be used is one
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
        jitter: int = 0,
        drop_last: bool = True,
        workers: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        memory: int | None = None,
    ) -> None:
        check_positive_int("batch_size", batch_size)
        check_positive_int("ranks", ranks)
        _check_count("seed", seed)
        _check_count("rank", rank)
        _check_count("jitter", jitter)
        for name, value in (("workers", workers), ("memory", memory)):
            if value is not None:
                _check_count(name, value)
        if rank >= ranks:
            raise ValueError(f"rank must be less than ranks ({ranks}), not {rank}")
        if batch_size % ranks:
            raise ValueError(f"batch_size {batch_size} cannot be divided among {ranks} processes: choose a multiple")
        if ranks > 1 and not drop_last:
            raise ValueError("drop_last must be True with several ranks: a short batch cannot be divided among them")
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.flip = flip
        self.jitter = jitter
        self.drop_last = drop_last
        self._ledger = Ledger()
        self.source = source_of(source)
        parts = parts_of(self._larger(self.source) if jitter else self.source)
        if len(parts) > 1 and not drop_last:
            raise ValueError("drop_last must be True with several groups of fields, whose epochs end apart")
        order = Order(batch_size, seed, drop_last, rank, ranks, jitter)
        windows = [cut_of(part) for part in parts]
        memory = default_memory(self.device) if memory is None else memory
        self._readers: list[Memory | Loaded | Stream] = []
        for number, part in enumerate(parts):
            drawn = replace(order.of_group(number), windows=bool(windows[number]))
            reader = self._reader_of(part, drawn, windows[number], _share(workers, len(parts)), memory)
            store = getattr(reader, "store", None)
            memory -= 0 if store is None else store.bytes
            self._readers.append(reader)
        counts = [reader.count for reader in self._readers]
        known = [count for count in counts if count is not None]
        self.count = None if None in counts else max(known)
        self.workers = sum(getattr(reader, "workers", 0) for reader in self._readers)  # processes that read
        self.most_workers = max(_most_workers(reader) for reader in self._readers)  # that are of use here
        for part, reader, count in zip(parts, self._readers, counts):
            if count is not None and batch_size > (length := reader.order.length(count)):
                raise ValueError(_too_large(batch_size, length, part, len(parts)))
        self._places = [(0, 0)] * len(parts)
        self._go_to(self._places)

    def _larger(self, source: Any) -> Any:
        """The same source with images from which those of `jitter` are cut."""
        wanted = enlarged(source.name, source.fields, source.groups, self.jitter)
        try:
            return source.adapted(wanted)
        except ValueError as error:
            raise ValueError(f"jitter {self.jitter} takes images that are larger by so many pixels: {error}") from None

    def _reader_of(
        self, part: Any, order: Order, windows: Windows, workers: int | None, memory: int
    ) -> Memory | Loaded | Stream:
        """What reads a source of one group."""
        if isinstance(part, Pictures | Together):
            dict(part.fields)  # reads headers where no size was asked for, of which is told, too
            self._ledger.say(part.said())
        if hasattr(part, "tensors"):
            return Memory(part.tensors, order, self.device, self.layout, windows)
        if isinstance(part, BroughtStream):
            return Stream(part.data, order, self.device, workers, self._ledger, part.only)
        if isinstance(part, StreamPictures):
            return Stream(part, order, self.device, workers, self._ledger)
        if workers is None:
            held = isinstance(part, Brought) and isinstance(part.data, list | tuple | TensorDataset)
            workers = 0 if held else default_workers()
        if isinstance(part, Brought):
            samples = Samples(part.data, part.only)
            return Loaded(samples, order, self.device, workers, None, self._ledger)
        store = None
        if not windows and Store.size(len(part), part.fields) <= memory:
            store = Store(len(part), part.fields, self.device, self.layout)
        return Loaded(Decoded(part), order, self.device, workers, store, self._ledger)

    def __next__(self) -> Batch:
        try:
            drawn = [reader.read() for reader in self._readers]
        except BaseException:  # Ctrl-C in a notebook among them
            self._go_to(self._places)
            raise
        self._places = [(group.epoch, group.position) for group in drawn]
        return Batch(**{name: self._changed(values, group) for group in drawn for name, values in group.fields.items()})

    def _changed(self, values: Tensor, group: Drawn) -> Tensor:
        """A field as it is in a batch. The random changes are those of its group, so that pairs stay pairs."""
        if values.dim() != 4:
            return values
        values = changed(values, group.changes, self.flip, self.jitter)
        # to() gives the strides of the layout also where, with one channel, contiguous() sees no difference.
        return to_float(values, self.layout)

    @property
    def held(self) -> bool:
        """Whether all data are in memory from the beginning, so that no batch is waited for."""
        return all(isinstance(reader, Memory) for reader in self._readers)

    @property
    def filling(self) -> bool:
        """Whether pictures are still to be read that stay in memory from then on."""
        stores = (getattr(reader, "store", None) for reader in self._readers)
        return any(store is not None and store.missing > 0 for store in stores)

    def problems(self) -> list[str]:
        """What is new since the last call about pictures that were left out or converted, a line each."""
        return self._ledger.lines()

    def counts(self) -> dict[str, int]:
        """How many pictures were left out (`left out`) so far, and converted, by kind."""
        return dict(self._ledger.counts)

    def __repr__(self) -> str:
        rows = "a stream" if self.count is None else f"{self.count} rows"
        groups = "; ".join(", ".join(group) for group in self.source.groups)
        state = ", ".join(f"{key} {value}" for key, value in self.state_dict().items())
        return f"Batches({self.source.name!r}, {rows}, {groups}, batch_size {self.batch_size}, {state})"

    def state_dict(self) -> dict[str, Any]:
        """The place reached: the epoch, and how many of its rows have been used, by all ranks together. Of several
        groups, that of the first, and those of the others under `others`."""
        first, *others = ({"epoch": epoch, "position": position} for epoch, position in self._places)
        return {**first, "others": others} if others else first

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a place that `state_dict` gave. Raises ValueError for one that this source does not have.

        A stream goes on only with the batch_size that the state was saved with; other sources take any.
        """
        keys = {"epoch", "position"} | ({"others"} if len(self._readers) > 1 else set())
        if set(state) != keys:
            given = ", ".join(map(str, state)) or "nothing"
            raise ValueError(f"the state must hold {' and '.join(sorted(keys))}, not {given}")
        others = state.get("others", [])
        if not isinstance(others, list) or len(others) != len(self._readers) - 1:
            raise ValueError(
                f"the state must hold the places of {len(self._readers) - 1} further groups of fields, not "
                f"{len(others) if isinstance(others, list) else others!r}: it belongs to another data set"
            )
        places = [{"epoch": state["epoch"], "position": state["position"]}, *others]
        for place, reader in zip(places, self._readers):
            self._check_place(place, None if reader.count is None else reader.order.length(reader.count))
        self._go_to([(place["epoch"], place["position"]) for place in places])

    def _check_place(self, place: Mapping[str, int], count: int | None) -> None:
        for key in ("epoch", "position"):
            _check_count(key, place[key])
        if count is None and self.drop_last and place["position"] % self.batch_size:
            raise ValueError(
                f"the state is {place['position']} images into an epoch, no multiple of batch_size {self.batch_size}: "
                f"a stream goes on only with the batch_size it was saved with"
            )
        if count is not None and place["position"] > count:
            raise ValueError(
                f"the state is {place['position']} images into an epoch, but the data set has {count}: "
                f"it belongs to another data set"
            )

    def _go_to(self, places: Sequence[tuple[int, int]]) -> None:
        self._places = list(places)
        for reader, place in zip(self._readers, places):
            reader.restart(*place)


def _share(workers: int | None, groups: int) -> int | None:
    """The processes for one of so many groups of fields."""
    if groups == 1:
        return workers
    workers = default_workers() if workers is None else workers
    return max(workers // groups, 1) if workers else 0


def _most_workers(reader: Memory | Loaded | Stream) -> int:
    return {Loaded: default_workers(), Stream: 1}.get(type(reader), 0)


def _too_large(batch_size: int, count: int, part: Any, parts: int) -> str:
    what = "the data set, which has" if parts == 1 else f"a part of the data set, {', '.join(part.fields)}, which has"
    return f"batch_size {batch_size} is larger than {what} {count} images: choose a batch_size of at most {count}"


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, not {value!r}")


def cut_of(part: Any) -> Windows:
    """The windows of a part of a source, by field."""
    return {} if isinstance(part, Brought) else windows_of(part.name, part.fields, part.groups[0])
