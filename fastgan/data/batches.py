"""Training batches: shuffled, endless, on the device, and the same every time."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

from fastgan.data.fields import Batch
from fastgan.data.gaussians import Points
from fastgan.data.hub import is_hugging_face, wrapped
from fastgan.data.images import ImageData, check_positive_int
from fastgan.data.lazy import LazyPictures, Pictures
from fastgan.data.loading import default_workers
from fastgan.data.order import Order
from fastgan.data.pictures import to_float
from fastgan.data.problems import Ledger
from fastgan.data.readers import Loaded, Memory, Store, default_memory
from fastgan.data.stream import Stream


class Batches(Iterator[Batch]):
    """Endless training batches of `source`, a function of the seed and of the place reached.

    source: what `fastgan.data.load` gives; a tensor (N, C, H, W), uint8 or floating point in [-1, 1]; or anything with
        `__len__` and `__getitem__`, such as a torchvision data set, or with `__iter__`, whose items are images or
        tuples (image, integer label, ...): tensors (C, H, W), NumPy arrays (H, W[, C]), each uint8 or in [-1, 1], or
        Pillow images (alpha is dropped); or a data set of Hugging Face. An `ImageData` or a tensor is held on the
        device, as uint8 or float32; other sources are read batch by batch.
    batch_size: images a batch of all ranks together, at most as many as the source has.
    seed: integer >= 0. Every epoch has an order of its own, drawn from (seed, epoch); no global generator is touched.
        What can only be iterated is shuffled in blocks of about 4096 images.
    flip: mirror each image left to right with probability 1/2.
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
        for name, value in (("workers", workers), ("memory", memory)):
            if value is not None:
                _check_count(name, value)
        if rank >= ranks:
            raise ValueError(f"rank must be less than ranks ({ranks}), got {rank}")
        if batch_size % ranks:
            raise ValueError(f"batch_size {batch_size} cannot be divided among {ranks} processes: choose a multiple")
        if ranks > 1 and not drop_last:
            raise ValueError("drop_last must be True with several ranks: a short batch cannot be divided among them")
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.flip = flip
        self.drop_last = drop_last
        self._epoch = self._position = 0
        self._ledger = Ledger()
        self._reader = self._choose(source, Order(batch_size, seed, drop_last, rank, ranks), workers, memory)
        self.count = self._reader.count
        self.workers: int = getattr(self._reader, "workers", 0)  # processes that read
        self.most_workers = {Loaded: default_workers(), Stream: 1}.get(type(self._reader), 0)  # that are of use here
        if self.count is not None and batch_size > self.count:
            raise ValueError(
                f"batch_size {batch_size} is larger than the data set, which has {self.count} images: "
                f"choose a batch_size of at most {self.count}"
            )
        self._go_to(0, 0)

    def _choose(self, source: Any, order: Order, workers: int | None, memory: int | None) -> Memory | Loaded | Stream:
        if isinstance(source, ImageData | Points):
            return Memory(source.images, source.labels, order, self.device, self.layout)
        if isinstance(source, Tensor):
            return Memory(source, None, order, self.device, self.layout)
        if is_hugging_face(source):
            source = wrapped(source)
        if isinstance(source, Pictures):
            source.shape  # noqa: B018 - a guess where it was not asked for, of which is told, too
            self._ledger.say(source.said())
        indexed = hasattr(source, "__len__") and hasattr(source, "__getitem__")
        if isinstance(source, (str, bytes, Mapping)) or not (indexed or hasattr(source, "__iter__")):
            raise TypeError(
                f"the source must be an ImageData, a tensor (N, C, H, W), or a data set with __len__ and __getitem__ "
                f"or with __iter__, got {type(source).__name__}: fastgan.data.load gives the named data sets"
            )
        if isinstance(source, IterableDataset) or not indexed:
            return Stream(source, order, self.device, workers, self._ledger)
        if workers is None:
            workers = 0 if isinstance(source, (list, tuple, TensorDataset)) else default_workers()
        store = None
        if isinstance(source, LazyPictures):
            size = len(source) * math.prod(source.shape)
            if size <= (default_memory(self.device) if memory is None else memory):
                store = Store(len(source), source.shape, bool(source.classes), self.device, self.layout)
        return Loaded(source, order, self.device, workers, store, self._ledger)

    def __next__(self) -> Batch:
        try:
            images, labels, flips, epoch, position = self._reader.read()
        except BaseException:  # Ctrl-C in a notebook among them
            self._go_to(self._epoch, self._position)
            raise
        self._epoch, self._position = epoch, position
        if self.flip:
            images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
        # to() gives the strides of the layout also where, with one channel, contiguous() sees no difference.
        fields = {"image": to_float(images, self.layout)}
        return Batch(**fields) if labels is None else Batch(**fields, label=labels)

    @property
    def filling(self) -> bool:
        """Whether pictures are still to be read that stay in memory from then on."""
        store = getattr(self._reader, "store", None)
        return store is not None and store.missing > 0

    def problems(self) -> list[str]:
        """What is new since the last call about pictures that were left out or converted, a line each."""
        return self._ledger.lines()

    def counts(self) -> dict[str, int]:
        """How many pictures were left out (`left out`) so far, and converted, by kind."""
        return dict(self._ledger.counts)

    def state_dict(self) -> dict[str, int]:
        """The place reached: the epoch, and how many of its images have been used, by all ranks together."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a place that `state_dict` gave. Raises ValueError for one that this source does not have.

        A stream goes on only with the batch_size that the state was saved with; other sources take any.
        """
        if set(state) != {"epoch", "position"}:
            raise ValueError(f"the state must hold epoch and position, got {', '.join(map(str, state)) or 'nothing'}")
        for key, value in state.items():
            _check_count(key, value)
        if self.count is None and self.drop_last and state["position"] % self.batch_size:
            raise ValueError(
                f"the state is {state['position']} images into an epoch, no multiple of batch_size {self.batch_size}: "
                f"a stream goes on only with the batch_size it was saved with"
            )
        if self.count is not None and state["position"] > self.count:
            raise ValueError(
                f"the state is {state['position']} images into an epoch, but the data set has {self.count}: "
                f"it belongs to another data set"
            )
        self._go_to(state["epoch"], state["position"])

    def _go_to(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._reader.restart(epoch, position)


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
