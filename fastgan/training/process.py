"""What training on a CPU wants of its process: threads that have a core, and memory that stays."""

from __future__ import annotations

import ctypes
import platform

import torch

from fastgan import backend
from fastgan.messages import log

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


MEMORY = ("fast", "small")


def prepare(memory: str = "fast") -> None:
    """Settings of the whole process, which stay: `Trainer.fit` and the commands that measure ask for them.

    Threads: no more than the cores it may use, which in a container may be fewer than the machine has: with more,
    each waits for the others. Memory: with "fast", freed activations stay with the process, which needs them again in
    the next step, instead of going back to the system, which would hand out zeroed pages again (8,000 to 20,000 page
    faults a step of DCGAN 64x64). With "small" every tensor of 1 MB or more has pages of its own, which go back: no
    holes between tensors that stay, a quarter of the memory of a DCGAN's step."""
    cores = backend.cores()
    if torch.get_num_threads() > cores:
        log.info("%d threads instead of %d: as many as there are cores for", cores, torch.get_num_threads())
        torch.set_num_threads(cores)
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        # Bytes; the first is the most that it takes.
        mmap, trim, pad = (1 << 25, 2**31 - 1, 1 << 26) if memory == "fast" else (1 << 20, 1 << 27, 1 << 17)
        mallopt(_MMAP_THRESHOLD, mmap)
        mallopt(_TRIM_THRESHOLD, trim)
        mallopt(_TOP_PAD, pad)
