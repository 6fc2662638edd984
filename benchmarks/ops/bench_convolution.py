"""The products of convolutions against PyTorch's: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import convolution

CASES = list(convolution.cases())


@pytest.mark.parametrize("variant", ["convolution", "fastgan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_product(benchmark, case: convolution.ConvolutionCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first
