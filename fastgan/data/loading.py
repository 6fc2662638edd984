"""Processes that read ahead: how many, how batches come from them, and what they do with signals."""

import multiprocessing.queues
import os
import shutil
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from fastgan import backend
from fastgan.messages import log

MOST_WORKERS = 16
DYING = 10.0  # seconds that a process whose pipes are closed has to end
LOOK = 0.5  # seconds between looks whether workers are alive, while there is no batch; 5 in PyTorch
SHARED = "/dev/shm"  # where the memory lies that processes share


def default_workers() -> int:
    """One process a core that this process may use, divided among the processes that torchrun started here."""
    return max(1, min(MOST_WORKERS, backend.cores() // local_ranks()))


def local_ranks() -> int:
    """The processes of this run on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdecimal() else 1


class Loading(Iterator[Any]):
    """What a DataLoader gives of whole batches, in order, read ahead by `workers` processes, which end with this.

    Batches come in shared memory, and where that is full (a container has 64 MB unless told otherwise) through a pipe.
    Where no process can be started, this one reads.

    The iterator of torch 2.13 waits five seconds a worker where the garbage collector finds it in a cycle: the queue by
    which it would end them is closed before.
    """

    def __init__(self, dataset: Any, sampler: Any, workers: int, device: torch.device) -> None:
        self.workers: list[Any] = []
        self._piped = False  # it was said
        try:
            self._start(dataset, sampler, workers, device)
        except OSError as error:
            if not workers:
                raise
            log.warning("no process can be started to read the data (%s): this one reads them, between steps", error)
            self._start(dataset, sampler, 0, device)

    def _start(self, dataset: Any, sampler: Any, workers: int, device: torch.device) -> None:
        if workers:
            dataset = _SentStream(dataset) if isinstance(dataset, IterableDataset) else _Sent(dataset)
        loader = _Loader(
            dataset,
            batch_size=None,  # what the sampler gives is a whole batch
            sampler=sampler,
            num_workers=workers,
            collate_fn=_itself,  # else arrays become tensors again
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else starting the loader draws from the global generator
            worker_init_fn=_begin if workers else None,
        )
        with _signals_kept():
            self._iterator = iter(loader)
            self.workers = list(getattr(self._iterator, "_workers", []))
            weakref.finalize(self, _end, os.getpid(), self.workers)

    def __next__(self) -> Any:
        """RuntimeError if a worker is dead: what is wrong with the data is returned by it, not raised."""
        try:
            value = next(self._iterator)
        except (OSError, EOFError, RuntimeError) as error:
            if not self.workers:
                raise
            raise RuntimeError(_death(self.workers, error)) from error
        if not isinstance(value, _Piped):
            return value
        if not self._piped:
            self._piped = True
            log.warning(
                "%s has no room for the batches of %d processes that read ahead: they come through pipes, which is "
                "slower. More room: docker run --shm-size=1g; less to hold: fewer workers", _shared_memory(),
                len(self.workers),
            )  # fmt: skip
        return _each(value.value, np.ndarray, torch.from_numpy)


class _Loader(DataLoader[Any]):
    def _get_iterator(self) -> Any:
        return _Iterator(self) if self.num_workers else super()._get_iterator()

    def check_worker_number_rationality(self) -> None:
        """More workers than cores are the user's to choose, and no reason for two warnings."""


class _Iterator(_MultiProcessingDataLoaderIter):
    def __init__(self, loader: Any) -> None:
        self._shutdown = True  # there is nothing to end, as long as not all have started
        try:
            super().__init__(loader)
        except BaseException:
            self._shutdown = True
            _end(os.getpid(), getattr(self, "_workers", []))
            raise

    def _try_get_data(self, timeout: float = LOOK) -> Any:
        return super()._try_get_data(timeout)


class _Sent(Dataset[Any]):
    """What a worker reads, made ready to be sent."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Any:
        return _sendable(self.dataset[index])


class _SentStream(IterableDataset[Any]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return map(_sendable, self.dataset)


class _Piped(NamedTuple):
    """A value whose tensors are NumPy arrays, which are sent as bytes."""

    value: Any


def _sendable(value: Any) -> Any:
    """Moved to shared memory here: the thread that sends would lose what finds no room there, and who waits for it
    would wait for ever."""
    try:
        return _each(value, Tensor, Tensor.share_memory_)
    except (RuntimeError, OSError):
        return _Piped(_each(value, Tensor, _array))


def _itself(value: Any) -> Any:
    return value


def _array(tensor: Tensor) -> Any:
    return tensor.numpy()


def _each(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same tuples and dictionaries, with each value of that kind changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(part, kind, change) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [_each(part, kind, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _death(workers: list[Any], error: Exception) -> str:
    """Why there is no batch, and what to do."""
    # Its pipes close before it has ended: by seconds on a busy machine, or where its memory is written to a file.
    patience = DYING if isinstance(error, EOFError | ConnectionError | FileNotFoundError) else 1
    connection.wait([worker.sentinel for worker in workers], timeout=patience)
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    reason = " ".join(str(error).split()) or type(error).__name__
    if -signal.SIGBUS in codes:
        what = f"{_shared_memory()} is full: give it more room (docker run --shm-size=1g), or choose fewer workers"
    elif -signal.SIGKILL in codes:
        what = "it was killed, as the system does where memory runs out: choose fewer workers"
    else:
        what = "where memory ran out, choose fewer workers"
    return f"a process that reads the data was ended from outside ({reason}): {what} (--workers N; 0 needs none)"


def _shared_memory() -> str:
    try:
        usage = shutil.disk_usage(SHARED)
    except OSError:
        return "the shared memory"
    return f"{SHARED} ({usage.total >> 20} MB, {usage.free >> 20} MB free)"


def _end(owner: int, workers: list[Any]) -> None:
    if os.getpid() == owner:  # a forked worker holds a copy
        for worker in workers:
            worker.terminate()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Workers start with the signals of terminals and schedulers blocked, so that none is met unprepared.

    PyTorch's handler of SIGCHLD is not left behind: it raises wherever the main process happens to be, such as in the
    middle of a checkpoint. That a worker is dead, the next batch tells too, within a second.
    """
    if not hasattr(signal, "sigtimedwait"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group: what follows is the main process's decision.

    It ends its workers by a message, or by a SIGTERM of its own where one is stuck.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _report
    # Called in the thread that sends: what it cannot send is waited for in vain.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_give_up)  # type: ignore[attr-defined]
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        threading.Thread(target=_wait_for_sigterm, args=(os.getppid(),), daemon=True).start()


def _give_up(error: Exception, value: Any) -> None:
    print(f"a batch cannot be sent: {error!r}", file=sys.stderr, flush=True)
    os._exit(1)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # A main process that is interrupted while it takes a batch leaves the thread that hands tensors over alone.
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _wait_for_sigterm(parent: int) -> None:
    """Ends this worker when the main process says so, or a second after that is gone."""
    while True:
        received = signal.sigtimedwait((signal.SIGTERM,), 1)
        if (received and received.si_pid == parent) or os.getppid() != parent:
            os._exit(0)
