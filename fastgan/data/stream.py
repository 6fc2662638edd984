"""Batches of a data set that can only be read from its beginning: shuffled in blocks, read ahead, resumed exactly."""

import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from fastgan.data.decode import Unusable, quiet
from fastgan.data.items import Row, notes_on, row_of, unreadable
from fastgan.data.lazy import IN_A_ROW, Pictures, as_item, unusable
from fastgan.data.loading import Loading, default_workers
from fastgan.data.order import Order
from fastgan.data.problems import Ledger, Note, printable
from fastgan.data.readers import Checks, Drawn
from fastgan.data.samples import Read, checked, chosen_of, seeded, stacked
from fastgan.data.windows import MIDDLE, Windows, cut, windows_of

BLOCK = 4096  # images that are shuffled among each other, about
THREADS = 8  # that decode, at most


class StreamPictures(Pictures):
    """A stream of pictures that are decoded after they were shuffled."""

    def items(self, epoch: int, skip: int, rank: int, ranks: int) -> Iterator[Any]:
        """This process's share of an epoch, from its item `skip` on."""
        raise NotImplementedError

    def read(self, item: Any) -> tuple[Row, list[Note]]:
        """The values by field, and notes. Raises Unusable."""
        raise NotImplementedError

    def item_name(self, item: Any) -> str:
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[Tensor, int | None]]:
        """The pictures that can be used, (uint8 (C, H, W), label or None)."""
        for item in self.items(0, 0, 0, 1):
            try:
                with quiet():
                    row, _ = self.read(item)
                    row = cut(row, windows_of(self.name, self.fields, self.groups[0]))
            except Unusable:
                continue
            yield as_item(row)


class _Block(NamedTuple):
    epoch: int
    number: int  # within the epoch
    items: Sequence[Any]  # this process's share, in the order of the stream


class _Header(NamedTuple):
    """What a block has for this process, told before its batches."""

    epoch: int
    block: int
    batches: int


class Stream:
    """Shuffles a stream in blocks of about 4096 images, each by (seed, epoch, block, rank).

    To resume, the stream is skipped to the beginning of the block, which is then read again.
    """

    count = None

    def __init__(
        self,
        source: Any,
        order: Order,
        device: torch.device,
        workers: int | None,
        ledger: Ledger,
        only: Sequence[str] | None = None,
    ) -> None:
        self.source = source
        self.only = only  # the fields to keep of a user's items; None: all
        self.order = order
        self.device = device
        self.workers = 1 if workers is None else min(workers, 1)
        self.ledger = ledger
        self.checks = Checks(None)
        self.per_block = max(1, round(BLOCK / order.batch_size))  # batches

    def restart(self, epoch: int, position: int) -> None:
        self.epoch, self.position = epoch, position
        self.used = -(-position // self.order.batch_size)  # batches of this epoch
        self.loaded: Iterator[Any] | None = None
        self.left = 0  # batches of the block that is being served
        self.cut = False  # the block ends before this process's share does

    def read(self) -> Drawn:
        while not self.left:
            self._begin_block()
        read, changes = self._load()
        if not isinstance(self.source, StreamPictures):
            self.checks(read.fields)
        self.ledger.add(read.notes)
        self.left -= 1
        self.position += len(changes.flips) * self.order.ranks
        fields = {name: values.to(self.device, non_blocking=True) for name, values in read.fields.items()}
        return Drawn(fields, changes.to(self.device), self.epoch, self.position)

    def _begin_block(self) -> None:
        if self.cut:
            self.restart(self.epoch + 1, 0)
        header = self._load()
        if header.epoch != self.epoch:
            self.checks.end()
            self.epoch, self.position, self.used = header.epoch, 0, 0
        batches = self._agreed(header.batches)
        if not header.block and not batches:
            raise ValueError(
                f"the stream gave less than one batch of {self.order.batch_size} images in epoch {header.epoch}: "
                f"choose a smaller batch_size, or give a longer stream"
            )
        # Of the first block after resuming, the batches used before are not sent.
        self.left = max(0, batches - max(0, self.used - header.block * self.per_block))
        self.cut = batches < header.batches

    def _agreed(self, batches: int) -> int:
        """The batches of this block that every process has: all must leave the epoch at the same step."""
        if self.order.ranks == 1 or not (dist.is_available() and dist.is_initialized()):
            return batches
        least = torch.tensor(batches, device=self.device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return int(least)

    def _load(self) -> Any:
        if self.loaded is None:
            blocks = _Batches(self.source, self.order, self.per_block, self.only, (self.epoch, self.used))
            self.loaded = Loading(blocks, None, self.workers, self.device)
        loaded = next(self.loaded)
        if isinstance(loaded, Exception):
            try:
                raise loaded
            finally:
                del loaded  # else error and frame hold each other, and with them the loader
        return loaded


class _Batches(IterableDataset):
    """Endless: for every block its header, then its batches (Read, Changes), from batch `used` of `epoch` on."""

    def __init__(
        self, source: Any, order: Order, per_block: int, only: Sequence[str] | None, place: tuple[int, int]
    ) -> None:
        self.source = source
        self.order = order
        self.per_block = per_block
        self.only = only
        self.epoch, self.used = place
        self.size = per_block * order.rows  # items of a block in this process

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._generate()
        except Exception as error:
            yield error

    def _generate(self) -> Iterator[Any]:
        first, used = divmod(self.used, self.per_block)
        blocks = self._blocks(self.epoch, first)
        ahead = get_worker_info() is not None
        with ThreadPoolExecutor(min(THREADS, default_workers())) as threads:
            for block in _read_ahead(blocks) if ahead else blocks:
                batches = self._count(block.items)
                yield _Header(block.epoch, block.number, batches)
                order, changes, _ = self.order.draw(block.epoch, block.number, self.order.rank, len(block.items))
                for k in range(used, batches):
                    rows = slice(k * self.order.rows, (k + 1) * self.order.rows)
                    yield self._read(block, order[rows].tolist(), changes.places[rows], threads), changes.of(rows)
                used = 0

    def _count(self, items: Sequence[Any]) -> int:
        whole, rest = divmod(len(items), self.order.rows)
        return whole + bool(rest and not self.order.drop_last)

    def _blocks(self, epoch: int, number: int) -> Iterator[_Block]:
        while True:
            first, stream = number, self._items(epoch, number)
            # What is to be skipped is read under its own seeds, so that the stream draws what it drew before.
            number = first if isinstance(self.source, StreamPictures) else 0
            more = True
            while more:
                block = self._block(stream, epoch, number)
                if number >= first:
                    yield block
                more = self._count(block.items) == self.per_block
                number += 1
            epoch, number = epoch + 1, 0

    def _block(self, stream: Iterator[Any], epoch: int, number: int) -> _Block:
        items: list[Any] = []
        seed = int(self.order.draw(epoch, number, 1)[2])
        # Augmentations inside a stream of the user's draw from the global generators.
        with nullcontext() if isinstance(self.source, StreamPictures) else seeded(seed):
            try:
                items.extend(itertools.islice(stream, self.size))
            except Exception as error:
                raise unreadable(f"item {number * self.size + len(items)} of the stream", error) from None
        return _Block(epoch, number, items)

    def _items(self, epoch: int, number: int) -> Iterator[Any]:
        """This process's share of an epoch: of pictures from block `number` on, else from the beginning."""
        rank, ranks = self.order.rank, self.order.ranks
        if isinstance(self.source, StreamPictures):
            yield from self.source.items(epoch, number * self.size, rank, ranks)
            return
        if hasattr(self.source, "set_epoch"):
            self.source.set_epoch(epoch)
        if ranks == 1:
            yield from self.source
            return
        # Groups that are complete: all processes have as many items.
        for group in zip(*[iter(self.source)] * ranks):
            yield group[rank]

    def _read(self, block: _Block, rows: Sequence[int], places: Tensor, threads: ThreadPoolExecutor) -> Read:
        if isinstance(self.source, StreamPictures):
            with quiet():
                fields = self.source.fields
                windows = windows_of(self.source.name, fields, self.source.groups[0])
                each = places.tolist() if windows else [MIDDLE] * len(rows)
                pictures = list(
                    threads.map(lambda i, at: self._picture(self.source, block.items, i, windows, at), rows, each)
                )
            return stacked([row for row, _ in pictures], [note for _, notes in pictures for note in notes])
        names = [f"item {block.number * self.size + i} of the stream" for i in rows]
        found = []
        notes: list[Note] = []
        for i, name in zip(rows, names):
            notes += notes_on(block.items[i], name)
            row = row_of(block.items[i], name)
            if isinstance(row, Exception):
                raise row
            found.append(chosen_of(row, self.only))
        read = checked(found, names, notes)
        if isinstance(read, Exception):
            raise read
        return read

    @staticmethod
    def _picture(
        source: StreamPictures, items: Sequence[Any], i: int, windows: Windows, place: tuple[int, int]
    ) -> tuple[Row, list[Note]]:
        """Item i of the block, or the next of the block that can be used."""
        notes: list[Note] = []
        for step in range(min(len(items), IN_A_ROW)):
            item = items[(i + step) % len(items)]
            try:
                row, converted = source.read(item)
                row = cut(row, windows, place)
            except Unusable as reason:
                notes.append(Note(printable(source.item_name(item)), str(reason), True))
                continue
            return row, notes + converted
        raise unusable(source.name, [f"{note.picture}: {note.kind}" for note in notes])


def _read_ahead(blocks: Iterator[_Block]) -> Iterator[_Block]:
    """The same blocks; a thread reads the next one meanwhile. A daemon, since no exit should wait for a stream."""
    done: queue.SimpleQueue[_Block | Exception] = queue.SimpleQueue()
    taken = threading.Semaphore(0)

    def work() -> None:
        try:
            for block in blocks:
                done.put(block)
                taken.acquire()
        except Exception as error:
            done.put(error)

    threading.Thread(target=work, daemon=True).start()
    while True:
        block = done.get()
        taken.release()
        if isinstance(block, Exception):
            raise block
        yield block
