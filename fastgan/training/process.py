"""What training on a CPU wants of its process: threads that have a core, and memory that stays."""

from __future__ import annotations

import ctypes
import functools
import logging
import platform

import torch

from fastgan import backend

log = logging.getLogger("fastgan")

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


@functools.cache
def prepare() -> None:
    """Once a process. Threads: no more than the cores it may use, which in a container may be fewer than the machine
    has: with more, each waits for the others. Memory: freed activations stay with the process, which needs them again
    in the next step, instead of going back to the system, which would hand out zeroed pages again (8,000 to 20,000
    page faults a step of DCGAN 64x64)."""
    cores = backend.cores()
    if torch.get_num_threads() > cores:
        log.info("%d threads instead of %d: as many as there are cores for", cores, torch.get_num_threads())
        torch.set_num_threads(cores)
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 25)  # bytes, the most that it takes
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 1 << 26)
