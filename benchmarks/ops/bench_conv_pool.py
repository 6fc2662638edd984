"""conv_pool against a convolution and average pooling: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import conv_pool
from fastgan.bench.resize_conv import ResamplingCase

CASES = list(conv_pool.cases())


@pytest.mark.parametrize("variant", ["convolution + avg_pool2d", "fastgan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_backward(benchmark, case: ResamplingCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first
