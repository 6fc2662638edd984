"""Steps of published networks: pytest benchmarks/bench_networks.py --benchmark-only

The cases and variants are those of `fastgan bench networks`, which interleaves them; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench.cases import networks
from fastgan.bench.variants import Variant

CASES = [(case, dtype) for case in networks.cases() for dtype in networks.DTYPES]


@pytest.fixture(scope="module", params=CASES, ids=lambda p: f"{p[0].name}-{p[1]}")
def checked(request: pytest.FixtureRequest) -> tuple[networks.NetworkCase, str]:
    networks.check(*request.param)
    return request.param


@pytest.mark.parametrize("variant", networks.SUITE, ids=lambda variant: variant.name)
def test_step(benchmark, checked: tuple[networks.NetworkCase, str], variant: Variant) -> None:
    case, dtype = checked
    if variant not in case.variants(compiled=True):
        pytest.skip("the other variants are in channels_last")
    benchmark.group = f"{case.title}, batch {case.batch}, {dtype}"
    benchmark.pedantic(variant.make(case.name, dtype), rounds=5, warmup_rounds=1)
