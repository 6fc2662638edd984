"""What a step asks of a CUDA device and of the host: kernels, launches, and waits of the host for the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

CALLS = 3


def count(call: Callable[[], Any]) -> dict[str, float]:
    """Of a call: "kernels" on the device, "launches" by the host (a graph is one) and "syncs"."""
    return {**_profiled(call), "syncs": _waits(call) / CALLS}


def _profiled(call: Callable[[], Any]) -> dict[str, float]:
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
    kernels = launches = 0
    for event in profiled.events() or ():
        if getattr(event, "is_user_annotation", False):  # the name of a stretch of time, such as an optimizer's step
            continue
        if event.device_type is DeviceType.CUDA:
            kernels += not event.name.startswith(("Memcpy", "Memset"))
        elif event.name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")):
            launches += 1
    return {"kernels": kernels / CALLS, "launches": launches / CALLS}


def _waits(call: Callable[[], Any]) -> int:
    """PyTorch warns of each, where it is asked to; its own wait below is not among them."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(CALLS):
                call()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in said)
