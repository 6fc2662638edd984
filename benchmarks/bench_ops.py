"""Single layers: pytest benchmarks/bench_ops.py --benchmark-only [-k norm_act]

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastgan.bench.cases import ops


@pytest.fixture(scope="module", params=ops.cases(), ids=str)
def checked(request: pytest.FixtureRequest) -> tuple[ops.Case, dict[str, Callable[[], Any]]]:
    """A case and its variants, which were compared with float64."""
    return request.param, request.param.variants()


@pytest.mark.parametrize("number", range(3))  # of the variants: what one would run instead, and at last ours
def test_op(benchmark, checked: tuple[ops.Case, dict[str, Callable[[], Any]]], number: int) -> None:
    case, calls = checked
    if number >= len(calls):
        pytest.skip("the case has no more variants")
    name = list(calls)[number]
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts, variant=name)
    benchmark(calls[name])
