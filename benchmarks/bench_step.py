"""DCGAN 64x64 training steps: pytest benchmarks/bench_step.py --benchmark-only

The variants are those of `fastgan bench step`, which interleaves them; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench.cases import step
from fastgan.bench.variants import Variant

BATCH = 64


@pytest.fixture(scope="module", autouse=True)
def _checked() -> None:
    step.check()


@pytest.mark.parametrize("variant", step.chosen("all"), ids=lambda variant: variant.name)
def test_step(benchmark, variant: Variant) -> None:
    benchmark.group = f"DCGAN 64x64, batch {BATCH}"
    benchmark.pedantic(variant.make(BATCH), rounds=5, warmup_rounds=1)
