"""What the tests of every floor share."""

from __future__ import annotations

import os

import pytest
import torch

from fastgan import backend


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `tune` found on this machine before must not change what tests see."""
    os.environ["FASTGAN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["native", "torch"])
def path(request: pytest.FixtureRequest) -> str:
    """Each backend of this machine in turn. The compiled one is not skipped in silence where it should be there."""
    if request.param == "native" and not (status := backend.library("cpu")).usable:
        if os.environ.get("FASTGAN_BUILD_CPU") == "0":
            pytest.skip("FASTGAN_BUILD_CPU=0: the compiled ops are left out on purpose")
        pytest.fail(f"the compiled ops are missing: {status.reason}")
    return request.param


@pytest.fixture
def poisoned():
    """Fresh tensors start as NaN, so that an output element that no kernel wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
