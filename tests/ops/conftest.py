"""The tests of ops run on the CPU and, where there is a GPU, once more on it: what they make is then made there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fastgan import backend

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if len(DEVICES) > 1 and "_on_device" in metafunc.fixturenames:
        metafunc.parametrize("_on_device", DEVICES, indirect=True)


@pytest.fixture(autouse=True)
def _on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    device = getattr(request, "param", "cpu")
    if device == "cpu":
        yield
        return
    if request.node.get_closest_marker("cpu_kernels"):
        pytest.skip("of instruction sets and threads of a CPU")
    if not (status := backend.library("cuda")).usable:
        pytest.fail(f"there is a GPU, but the compiled ops for it are missing: {status.reason}")
    torch.set_default_device(device)
    yield
    torch.set_default_device(None)
