"""Processes that read ahead: how many, and what they do with signals."""

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from fastgan import backend

MOST_WORKERS = 16


def default_workers() -> int:
    """One process a core that this process may use, divided among the processes that torchrun started here."""
    return max(1, min(MOST_WORKERS, backend.cores() // local_ranks()))


def local_ranks() -> int:
    """The processes of this run on this machine."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(text)) if text.isdecimal() else 1


class Loading(Iterator[Any]):
    """What a DataLoader gives of whole batches, in order, read ahead by `workers` processes, which end with this.

    The iterator of torch 2.13 waits five seconds a worker where the garbage collector finds it in a cycle: the queue by
    which it would end them is closed before.
    """

    def __init__(self, dataset: Any, sampler: Any, workers: int, device: torch.device) -> None:
        loader: DataLoader = DataLoader(
            dataset,
            batch_size=None,  # what the sampler gives is a whole batch
            sampler=sampler,
            num_workers=workers,
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
            return next(self._iterator)
        except (OSError, EOFError, RuntimeError) as error:
            if not self.workers:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RuntimeError(
                f"a process that reads the data was ended from outside ({reason}): where memory ran out, choose fewer "
                f"workers"
            ) from error


def _end(owner: int, workers: list[Any]) -> None:
    if os.getpid() == owner:  # a forked worker holds a copy
        for worker in workers:
            worker.terminate()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Workers start with the signals of terminals and schedulers blocked, so that none is met unprepared.

    PyTorch's handler of SIGCHLD is not left behind: it raises wherever the main process happens to be, such as in the
    middle of a checkpoint. That a worker is dead, the next batch tells too, within five seconds.
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
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        threading.Thread(target=_wait_for_sigterm, args=(os.getppid(),), daemon=True).start()


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
