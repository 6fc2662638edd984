"""DCGAN 64x64 training steps: pytest benchmarks/bench_step.py --benchmark-only

The variants are those of `fastgan bench step`, which interleaves them; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench.cases import step

BATCH = 64


@pytest.fixture(scope="module", autouse=True)
def _checked() -> None:
    step.check()


@pytest.mark.parametrize("name", step.names("all"))
def test_step(benchmark, name: str) -> None:
    benchmark.group = f"DCGAN 64x64, batch {BATCH}"
    benchmark.pedantic(step.variant(name, BATCH), rounds=5, warmup_rounds=1)
