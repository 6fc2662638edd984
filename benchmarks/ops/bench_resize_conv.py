"""resize_conv against nearest upsampling and a convolution: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import resize_conv

CASES = list(resize_conv.cases())


@pytest.mark.parametrize("variant", ["upsample + convolution", "fastgan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_backward(benchmark, case: resize_conv.ResamplingCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first
