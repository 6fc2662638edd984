"""Steps of published networks: pytest benchmarks/bench_networks.py --benchmark-only

The cases and variants are those of `fastgan bench networks`, which interleaves them; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench.cases import networks

CASES = [(case, dtype) for case in networks.cases() for dtype in networks.DTYPES]


@pytest.fixture(scope="module", params=CASES, ids=lambda p: f"{p[0].name}-{p[1]}")
def checked(request: pytest.FixtureRequest) -> tuple[networks.NetworkCase, str]:
    networks.check(*request.param)
    return request.param


@pytest.mark.parametrize("how", list(networks.HOWS))
def test_step(benchmark, checked: tuple[networks.NetworkCase, str], how: str) -> None:
    case, dtype = checked
    if how not in case.hows(compiled=True):
        pytest.skip("the other variants are in channels_last")
    benchmark.group = f"{case.title}, batch {case.batch}, {dtype}"
    benchmark.pedantic(networks.variant(case.name, dtype, how), rounds=5, warmup_rounds=1)
