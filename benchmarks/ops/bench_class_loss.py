"""class_loss against the sequences that it replaces: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import class_loss

CASES = list(class_loss.cases())


@pytest.mark.parametrize("variant", ["eager sequence", "fastgan"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_loss_backward_means(benchmark, case: class_loss.ClassLossCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first
