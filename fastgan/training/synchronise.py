"""One system in several processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from fastgan.distributed import Ranks
from fastgan.fusion import fused
from fastgan.nn.norm_act import _NormAct


@torch.no_grad()
def synchronise(system: nn.Module, ranks: Ranks) -> None:
    """The first process's weights in all of them, and batch normalization over all of them."""
    if ranks.count == 1:
        return
    for tensor in system.state_dict(keep_vars=True).values():
        held = tensor.detach().contiguous()
        dist.broadcast(held, 0)
        tensor.copy_(held)
    for name, network in system.named_children():
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        if any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules()):
            fused(converted)  # on a CPU, torch's own takes no tensors
        setattr(system, name, converted)
    for module in system.modules():
        if isinstance(module, _NormAct):
            module.process_group = dist.group.WORLD
