"""A system's steps against those of a loop in plain PyTorch, written out in the test from the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fastgan.data import Batch
from fastgan.training import Step

N = 4  # images a batch


def images(system, seed, count=N):
    values = torch.rand(count, *system.image_shape, generator=torch.Generator().manual_seed(seed), dtype=system.dtype)
    return (values.flatten(1) if field(system) == "vector" else values) * 2 - 1


def field(system):
    """Of a batch, that it trains on."""
    return getattr(system, "makes", "image")


def weights(network):
    """Copies of the parameters and buffers by name, the parameters as leaves."""
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    return {
        name: value.detach().clone().requires_grad_(name in trained) for name, value in network.state_dict().items()
    }


def leaves(weights):
    return [value for value in weights.values() if value.requires_grad]


def same_after_three_steps(system, plain, names=("generator", "discriminator"), labels=None):
    """`plain(g, d)` gets copies of the weights of both networks and returns the function of one step of them. With
    other names it gets the weights of those submodules. labels: of the images of every batch."""
    system.double()
    networks = [system.get_submodule(name) for name in names]
    copies = [weights(network) for network in networks]
    before = [{name: value.detach().clone() for name, value in copy.items()} for copy in copies]
    theirs = plain(*copies)
    ours = Step(system, precision="float32", channels_last=False)
    for seed in range(3):
        batch = images(system, seed, N * system.batches)
        torch.manual_seed(seed)
        ours(Batch(**{field(system): batch}, **({} if labels is None else {"label": labels})))
        torch.manual_seed(seed)
        theirs(batch)
    for network, copy, first in zip(networks, copies, before):
        for name, value in network.state_dict().items():
            if "running_" in name or "num_batches" in name:  # which no value of a step in train mode depends on
                continue
            assert (value - copy[name]).abs().max() <= 1e-8, name
        moved = [name for name, value in network.named_parameters() if (value - first[name]).abs().max() > 1e-6]
        assert len(moved) > len(first) / 8  # the steps did something


def batch_norm(x, p, name):
    return F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)


def conv(x, p, name, stride=1):
    """Of an odd kernel, with zeros around it."""
    weight = p[f"{name}.weight"]
    return F.conv2d(x, weight, p.get(f"{name}.bias"), stride, weight.shape[-1] // 2)


def linear(x, p, name):
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
