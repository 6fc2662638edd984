"""FSDP on two processes: a network fused before it is sharded, or after, trains as an unfused one."""

from __future__ import annotations

import pytest
import torch

from tests.fusion import rank_launcher
from tests.fusion.comparing import assert_equal

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]


def found(case: str) -> tuple[dict, dict]:
    """What the fused and the unfused network of a case did, after a comparison; if fused too late, with the reason."""
    ranks = rank_launcher.run()[case]
    size, share = (1e-1, 5e-2) if "bfloat16" in case else (1e-8, 0.0)
    for rank in ranks:
        for what in ("outputs", "state"):
            assert_equal(rank["fused"][what], rank["plain"][what], share, rtol=size, atol=size)
        # Too late for what is sharded; the children of the root are not, where the root alone is.
        if case.endswith("after") and case != "nested root after":
            assert any("sharded by FSDP" in row["reason"] for row in rank["fused"]["rows"] if not row["fused"])
    return ranks[0]["fused"], ranks[0]["plain"]


@pytest.mark.parametrize("when", ["before", "after"])
class TestSharding:
    @pytest.mark.parametrize("units", ["root", "children", "every module"])
    @pytest.mark.parametrize("name", ["nested", "sequential"])
    def test_fully_shard(self, name, units, when):
        found(f"{name} {units} {when}")

    def test_mixed_precision(self, when):
        """Instance norms have their parameters in bfloat16 and their running statistics in float32."""
        fused, plain = found(f"bfloat16 {when}")
        assert fused["outputs"][0].dtype == plain["outputs"][0].dtype == torch.bfloat16

    @pytest.mark.parametrize("parameters", ["original", "flat"])
    def test_older_wrapper(self, parameters, when):
        found(f"wrapped, {parameters} parameters {when}")


def test_older_wrapper_in_mixed_precision():
    found("wrapped, bfloat16")
