"""bias_act against the calls that it replaces: pytest benchmarks/ops --benchmark-only

The cases are those of `fastgan bench ops`, which interleaves the variants; a ratio to quote comes from there.
"""

from __future__ import annotations

import pytest

from fastgan.bench import bias_act

ACTIVATIONS = [case for case in bias_act.cases() if isinstance(case, bias_act.ActCase)]
ALONE = [case for case in bias_act.cases() if isinstance(case, bias_act.BiasActCase)]
AFTER_CONVOLUTION = [case for case in bias_act.cases() if isinstance(case, bias_act.ConvBiasActCase)]


def run(benchmark, case: bias_act.BiasActCase | bias_act.ActCase | bias_act.ConvBiasActCase, variant: str) -> None:
    benchmark.group = str(case)
    benchmark.extra_info.update(case.facts)
    benchmark(case.variants()[variant])  # checked against float64 first


@pytest.mark.parametrize("variant", ["bias add + leaky_relu_", "bias add + leaky_relu", "fastgan"])
@pytest.mark.parametrize("case", ALONE, ids=str)
def test_forward_backward(benchmark, case: bias_act.BiasActCase, variant: str) -> None:
    run(benchmark, case, variant)


@pytest.mark.parametrize("fused", [False, True], ids=["eager", "fastgan"])
@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activation(benchmark, case: bias_act.ActCase, fused: bool) -> None:
    run(benchmark, case, "fastgan" if fused else case.act)


@pytest.mark.parametrize("variant", ["leaky_relu", "leaky_relu_", "fastgan"])
@pytest.mark.parametrize("case", AFTER_CONVOLUTION, ids=str)
def test_after_a_convolution(benchmark, case: bias_act.ConvBiasActCase, variant: str) -> None:
    run(benchmark, case, variant)
