"""Processes of their own: what hangs, crashes or lies there is reported and does no harm here."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
import torch

from fastgan.bench import isolation

pytestmark = pytest.mark.processes

VARIANTS = """
import os, subprocess, sys, time
import torch

def holding(megabytes):
    return lambda: [torch.ones(megabytes * 2**18).sum() * 0 + 1]

def losses(*values):
    return lambda: list(values)

def hanging(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(file, "w") as out:
        out.write(str(child.pid))
    time.sleep(60)

def threads(expected):
    assert torch.get_num_threads() == expected
    return lambda: None

def failing():
    raise RuntimeError("no compiler\\nfound here")

def crashing():
    return os.abort

from functools import partial
from fastgan.bench.variants import Suite, Variant

SUITE = Suite(__name__, [
    *(Variant(make.__name__, make) for make in (holding, losses, threads, failing, crashing)),
    Variant("hanging", hanging, "compiled", "failing"),
    Variant("eager", partial(losses, 1.0, 2.0), layout="contiguous"),
    Variant("wrong", partial(losses, 1.0, 2.5), "compiled", "eager"),
    Variant("right", partial(losses, 1.01, 2.0), "compiled", "eager"),
    Variant("fastgan", partial(losses, 7.0), "ours"),
    Variant("first", partial(holding, 20)),
    Variant("second", partial(holding, 90)),
])
"""


@pytest.fixture(autouse=True)
def _variants(tmp_path, monkeypatch) -> None:
    (tmp_path / "some_variants.py").write_text(VARIANTS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_variants", raising=False)


def ready(*names: str, arguments: tuple = (), **how) -> isolation.Ready:
    from some_variants import SUITE  # type: ignore[import-not-found]

    return isolation.ready(SUITE, [SUITE[name] for name in names], arguments, **how)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().split()[2] != "Z"
    except OSError:
        return False


def test_memory_is_the_child_s_own() -> None:
    """Also where this process holds much more: a process inherits the maximum of the one that started it."""
    much = torch.ones(150 * 2**20)
    held = isolation.run("some_variants", "holding", (100,), calls=2)
    assert 95 < held["peak MB"] - held["built MB"] < 160
    del much


def test_a_hang_ends_with_all_that_it_started(tmp_path) -> None:
    file = tmp_path / "pid"
    start = time.monotonic()
    with pytest.raises(isolation.Failed, match="not ready after 15 s"):
        isolation.run("some_variants", "hanging", (str(file),), limit=15)
    assert time.monotonic() - start < 40
    pid, until = int(file.read_text()), time.monotonic() + 10  # a killed process takes a moment to go
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("failing", "found here"),
        ("crashing", "ended by signal 6"),
        ("absent", "no variant 'absent'"),
    ],
)
def test_a_failure_has_a_reason(name: str, reason: str) -> None:
    with pytest.raises(isolation.Failed, match=reason):
        isolation.run("some_variants", name, ())


def test_as_many_threads_as_here() -> None:
    torch.set_num_threads(2)
    isolation.run("some_variants", "threads", (2,))


def test_ready_keeps_what_works() -> None:
    names = ["eager", "wrong", "right", "fastgan"]
    made = ready(*names, limit=60)
    assert list(made.calls) == ["eager", "right", "fastgan"]
    assert made.failed["wrong"].startswith("its losses are [1.0, 2.5]")
    rows = made.rows("case", {"batch": 2}, images=2, rounds=1, memory=False)
    assert [row.variant for row in rows] == names
    assert [row.role for row in rows] == ["peer", "compiled", "compiled", "ours"]
    assert rows[0].facts["layout"] == "contiguous"
    assert [bool(row.failed) for row in rows] == [False, True, False, False]


def test_memory_joins_the_rows() -> None:
    first, second = ready("first", "second").rows("case", {}, images=0, rounds=1, memory=True)
    assert 40 < second.facts["step MB"] - first.facts["step MB"] < 100


def test_a_compiled_variant_has_no_memory_of_its_own() -> None:
    """Its process holds the compiler's as well."""
    rows = ready("eager", "right", limit=60).rows("case", {}, images=0, rounds=1, memory=True)
    assert ["step MB" in row.facts for row in rows] == [True, False]


def test_a_failing_eager_variant_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no compiler"):
        ready("failing")


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_what_was_started(tmp_path, number, error) -> None:
    file = tmp_path / "child"

    def interrupt() -> None:
        while not (file.exists() and file.read_text()):
            time.sleep(0.05)
        times.append(time.monotonic())
        os.kill(os.getpid(), number)

    times: list[float] = []
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(error):
        ready("hanging", arguments=(str(file),))
    assert time.monotonic() - times[0] < 2
    end = time.monotonic() + 2
    while alive(int(file.read_text())) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(int(file.read_text()))
