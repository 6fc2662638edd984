"""What the tests of every floor share."""

from __future__ import annotations

import ast
import hashlib
import importlib
import os
import secrets
import signal
from pathlib import Path

import pytest

# Before torch is imported; child processes take it over. Networks of this size gain nothing from a second thread, and
# two processes of two threads each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from fastgan import backend

# A shell lets its background jobs ignore Ctrl-C, and they their children: tests of Ctrl-C would wait for its answer.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Tests whose packages are not installed are skipped: a machine to measure on may have torch and little else."""
    missing = _missing(module_path)
    if missing is None:
        return None

    class Skipped(pytest.Module):
        def collect(self):
            raise pytest.skip.Exception(f"{missing} is not installed", allow_module_level=True)

    return Skipped.from_parent(parent, path=module_path)


def _missing(path: Path) -> str | None:
    """The first package, other than those of this repository, that importing the file does not find."""
    own = {"fastgan", "tests", *(file.stem for file in path.parent.iterdir())}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        for module in modules:
            try:
                if not module or module.partition(".")[0] in own - {"fastgan"}:
                    continue
                imported = importlib.import_module(module)
                for name in names if isinstance(node, ast.ImportFrom) else ():
                    getattr(imported, name, None)  # some are imported when they are asked for
            except ModuleNotFoundError as error:
                if error.name and error.name.partition(".")[0] not in own:
                    return error.name
    return None


@pytest.hookimpl(trylast=True)  # after marks have left some out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """FASTGAN_TEST_CASES=N: of the cases of each parametrized test N, the same ones in each run."""
    if most := int(os.environ.get("FASTGAN_TEST_CASES", "0")):
        cases: dict[str, list[pytest.Item]] = {}
        for item in sorted(items, key=lambda item: hashlib.sha256(item.nodeid.encode()).digest()):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        left_out = {item for same_test in cases.values() for item in same_test[most:]}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _alike():
    """Every test begins with the same random numbers and on one thread, whatever the one before it has left."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def seed() -> int:
    """Another one in each run; pytest shows it where the test fails, and the environment variable repeats it."""
    number = int(os.environ.get("FASTGAN_TEST_SEED") or secrets.randbits(31))
    print(f"FASTGAN_TEST_SEED={number}")
    return number


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
