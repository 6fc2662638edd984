"""Processes that train one system together, started by torchrun: who this one is, and what they tell each other.

Gradients are averaged here after each backward pass, not by DistributedDataParallel: a phase runs a network several
times and freezes the others, and penalties differentiate twice, which its hooks on single backward passes do not serve.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's number, and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average_(self, tensors: list[Tensor]) -> None:
        """Each tensor becomes its mean over the processes."""
        if self.count == 1:
            return
        for dtype in {tensor.dtype for tensor in tensors}:
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            dist.all_reduce(flat)
            flat.div_(self.count)
            parts = flat.split([tensor.numel() for tensor in alike])
            torch._foreach_copy_(alike, [part.view(tensor.shape) for part, tensor in zip(parts, alike)])

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of the processes."""
        return flag if self.count == 1 else any(self.gather(flag))

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, which alone calls it; what it raises, every process raises."""
        if self.count == 1:
            return make()
        made: list[Any] = [None, None]
        if self.first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        dist.broadcast_object_list(made)
        if made[1] is not None:
            raise made[1]
        return made[0]


def join(device: str) -> Ranks:
    """Join the other processes, if torchrun started this one: on GPUs, if that is what `device` means.

    A process group that exists already is used as it is.
    """
    if not dist.is_available() or (int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized()):
        return Ranks()
    cuda = own_device(device) != device
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", **_meeting())
        atexit.register(_leave)
    return Ranks(dist.get_rank(), dist.get_world_size())


def own_device(device: str) -> str:
    """This process's: of several that were started by torchrun, each has a GPU, where `device` asks for GPUs."""
    started = "LOCAL_RANK" in os.environ or (dist.is_available() and dist.is_initialized())
    if not started or not (device == "cuda" or (device == "auto" and torch.cuda.is_available())):
        return device
    own = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    torch.cuda.set_device(own)
    return own


def _meeting() -> dict[str, Any]:
    """Where the processes find each other. On one machine torchrun keeps its store when it restarts them, with the
    addresses of those that have died (pytorch/pytorch#135712): there, each start has keys of its own."""
    environment = os.environ
    restarted = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    if restarted == "0" or environment.get("LOCAL_WORLD_SIZE") != environment["WORLD_SIZE"]:
        return {}
    rank, count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun
    store = dist.TCPStore(
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), count, is_master=not hosted and rank == 0
    )
    return {"store": dist.PrefixStore(f"restart {restarted}", store), "rank": rank, "world_size": count}


def mean_of_processes(values: Tensor) -> Tensor:
    """The mean over the processes of a distributed run, the same in all of them; elsewhere the values themselves."""
    if dist.is_available() and dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
        values /= dist.get_world_size()
    return values


def leave(code: int) -> NoReturn:
    """End this process. Threads of the process group that are still at work may abort an interpreter that ends as
    usual."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave() -> None:
    with suppress(Exception):
        dist.destroy_process_group()
