"""Two processes with gloo: DDP, and SyncBatchNorm as one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fusion_networks import build
from torch.testing import assert_close

from fastgan import backend

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
    pytest.mark.skipif(backend.choose("norm_act", "cpu") != "native", reason="needs the compiled extension"),
]

SCRIPT = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from fusion_networks import build
from fastgan import fuse
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
found = {}
for sync in (True, False):
    network, x = build("sequential")
    if sync:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    # DDP takes no SyncBatchNorm on CPUs
    model = fuse(network) if sync else DistributedDataParallel(fuse(network))
    real, fake = (t.chunk(2)[rank] for t in (x, x * 3 + 1))
    outputs = model(real), model(fake)  # two passes before one backward, with buffers broadcast between them
    (outputs[0] - outputs[1].square()).sum().backward()
    found[sync] = [t.detach() for t in outputs], [p.grad for p in network.parameters()], network.state_dict()
torch.save(found, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes(tmp_path):
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    ranks = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), str(tmp_path)], env=environment, stderr=-1)
        for rank in (0, 1)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=100)
        assert rank.returncode == 0, errors.decode()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]

    def alone(*halves):
        network, x = build("sequential")
        parts = [(t if halves == (0, 1) else t.chunk(2)[halves[0]]) for t in (x, x * 3 + 1)]
        outputs = [network(part) for part in parts]
        (outputs[0] - outputs[1].square()).sum().backward()
        return outputs, [p.grad for p in network.parameters()], network.state_dict()

    exact = {"rtol": 1e-9, "atol": 1e-11}
    outputs, grads, state = alone(0, 1)
    for i in (0, 1):
        assert_close(torch.cat([found[rank][True][0][i] for rank in (0, 1)]), outputs[i].detach(), **exact)
    for rank in (0, 1):
        assert_close(dict(found[rank][True][2]), dict(state), **exact)

    assert_close([sum(g) for g in zip(*(found[rank][True][1] for rank in (0, 1)))], grads, **exact)
    parts = [alone(rank) for rank in (0, 1)]
    for rank in (0, 1):
        assert_close(found[rank][False][0][0], parts[rank][0][0].detach(), **exact)
        assert_close(found[rank][False][1], [sum(g) / 2 for g in zip(*(part[1] for part in parts))], **exact)
