"""norm_act against batch_norm + leaky_relu: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import norm_act

CASES = list(norm_act.cases())


@pytest.mark.parametrize("variant", ["batch_norm + leaky_relu_", "fastgan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_backward(benchmark, case: norm_act.NormActCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first
