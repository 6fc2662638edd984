"""Two processes with gloo: DDP as for an unfused network, SyncBatchNorm as one process with the whole batch."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import rank_launcher
from tests.fusion.comparing import assert_equal
from tests.fusion.rank_cases import CASES, SIZES, SYNCHRONISED, synchronised, synchronised_steps

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

WRAPPED = [case for case in CASES if not case.endswith(tuple(SIZES))]


@pytest.mark.parametrize("case", WRAPPED)
def test_wrapped_networks(case):
    """DistributedDataParallel: outputs, gradients and states of three steps, on both ranks."""
    found = rank_launcher.run()[case]
    for rank in found:
        assert_equal(rank["fused"], rank["plain"], rtol=1e-7, atol=1e-9)
    last = [rank["fused"][-1] if isinstance(rank["fused"], list) else rank["fused"] for rank in found]
    parameters = [{key: result["state"][key] for key in result["gradients"]} for result in last]
    assert_equal(*parameters, rtol=1e-12, atol=1e-14)  # the gradients are shared, and not each rank's own


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("how", SYNCHRONISED)
def test_synchronised_statistics(how, sizes):
    """Statistics over both ranks: what one process computes of the whole batch, also of gradients of gradients."""
    ranks = rank_launcher.run()[f"{how} {sizes}"]
    expected = synchronised_steps(synchronised(), torch.Tensor.clone)
    for step, whole in enumerate(expected):
        mine = [rank[step] for rank in ranks]
        outputs = [torch.cat(parts) for parts in zip(*(result["outputs"] for result in mine))]
        assert_equal(outputs, whole["outputs"], rtol=1e-7, atol=1e-9)
        for result in mine:
            names = renamed(whole["state"]) if how in ("native", "wrapped") else whole["state"]
            assert_equal({key: result["state"][key] for key in names}, names, rtol=1e-7, atol=1e-9)
            names = renamed(whole["gradients"]) if how in ("native", "wrapped") else whole["gradients"]
            assert_equal({key: result["gradients"][key] for key in names}, names, rtol=1e-7, atol=1e-9)


def renamed(values):
    """The weight of prelu is the slope of NormAct2d."""
    return {("second.1.slope" if key == "second.2.weight" else key): value for key, value in values.items()}
