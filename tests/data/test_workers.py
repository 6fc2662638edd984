"""Processes that read ahead: they end with the main process, leave signals to it, and their death is told."""

import faulthandler
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch

from fastgan.data import Batches, load, loading
from tests.data.picture_files import folder

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc"),
]

# PyTorch looks every five seconds whether a process has ended. Here it does every minute, so that what takes less, on a
# machine that is busy too, was told of it.
PATIENT = """
from torch.utils.data import _utils, dataloader
_utils.MP_STATUS_CHECK_INTERVAL = _utils.worker.MP_STATUS_CHECK_INTERVAL = {0}
dataloader._MultiProcessingDataLoaderIter._try_get_data.__defaults__ = ({0},)
"""
AT_ONCE = 30  # seconds

READS = """
import signal, sys
from fastgan.data import Batches, load

batches = Batches(load(sys.argv[1], 16, 3), 8, workers=2, memory=0)
asked = []
if sys.argv[2] == "TERM":
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
next(batches)
workers = [worker.pid for worker in batches._readers[0].loaded.workers]
try:
    print(*workers, flush=True)
    while not asked:
        next(batches)
    for _ in range(20):
        next(batches)
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture(autouse=True)
def _patient():
    exec(PATIENT.format(60.0), {})
    yield
    exec(PATIENT.format(5.0), {})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return str(folder(tmp_path_factory.mktemp("pictures"), 40))


def running(pid):
    """Not so a zombie: whose it becomes when its parent is killed, depends on the machine."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, within):
    end = time.monotonic() + within
    while time.monotonic() < end and any(map(running, pids)):
        time.sleep(0.05)
    return not any(map(running, pids))


@pytest.mark.parametrize(("name", "expected"), [("INT", "interrupted\n"), ("TERM", "went on\n"), ("KILL", "")])
def test_a_signal_to_all_is_the_main_processes_to_answer(pictures, name, expected):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PATIENT.format(60.0) + READS, pictures, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    number = getattr(signal, f"SIG{name}")
    if name == "KILL":
        os.kill(process.pid, number)
    else:
        os.killpg(process.pid, number)
    start = time.monotonic()
    out, err = process.communicate(timeout=2 * AT_ONCE)
    assert out == expected
    # What hangs on a pipe to a process that was killed may say so.
    assert name == "KILL" or err == ""
    assert gone(workers, within=AT_ONCE)
    assert time.monotonic() - start < AT_ONCE


def compare(batches, others, count):
    for _ in range(count):
        assert torch.equal(next(batches).image, next(others).image)


def test_a_worker_that_was_killed_is_told_and_replaced(pictures):
    batches, others = (Batches(load(pictures, 16, 3), 8, workers=2, memory=0) for _ in range(2))
    next(batches), next(others)
    os.kill(batches._readers[0].loaded.workers[0].pid, signal.SIGKILL)
    start = time.monotonic()
    message = r"was ended from outside .*: it was killed, .* where memory runs out: choose fewer workers \(--workers N"
    with pytest.raises(RuntimeError, match=message):
        compare(batches, others, 20)
    assert time.monotonic() - start < AT_ONCE
    compare(batches, others, 5)


def test_a_worker_that_met_the_end_of_shared_memory(pictures):
    batches = Batches(load(pictures, 16, 3), 8, workers=1, memory=0)
    next(batches)
    os.kill(batches._readers[0].loaded.workers[0].pid, signal.SIGBUS)
    with pytest.raises(RuntimeError, match=r"/dev/shm \(\d+ MB, \d+ MB free\) is full: .*docker run --shm-size=1g"):
        list(islice(batches, 20))


def dies_slowly():
    faulthandler.disable()
    time.sleep(1.5)
    os.kill(os.getpid(), signal.SIGBUS)


def test_a_worker_that_takes_time_to_die_is_waited_for():
    """Its pipes are closed before it has a code: on a busy machine seconds before."""
    worker = multiprocessing.get_context("fork").Process(target=dies_slowly)
    worker.start()
    assert "is full: give it more room" in loading._death([worker], EOFError())


def full(tensor):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


class TestWithoutSharedMemory:
    """A container has 64 MB of it."""

    def test_batches_come_through_pipes(self, pictures, monkeypatch, caplog):
        monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # in the workers too, which are forks
        batches, others = (Batches(load(pictures, 16, 3), 8, workers=workers, memory=0) for workers in (3, 0))
        compare(batches, others, 10)
        (line,) = [record.getMessage() for record in caplog.records if record.name == "fastgan"]
        assert "has no room for the batches of 3 processes that read ahead: they come through pipes" in line
        assert "docker run --shm-size=1g" in line

    def test_a_stream_too(self, monkeypatch):
        items = torch.arange(48, dtype=torch.uint8).view(48, 1, 1, 1).expand(48, 1, 4, 4)

        class Stream:
            def __iter__(self):
                return iter(items.numpy().transpose(0, 2, 3, 1))

        expected = Batches(Stream(), 8, workers=0)
        monkeypatch.setattr(torch.Tensor, "share_memory_", full)
        compare(Batches(Stream(), 8, workers=1), expected, 12)

    def test_no_process_can_be_started(self, pictures, monkeypatch, caplog):
        start, started = multiprocessing.process.BaseProcess.start, []

        def once(process):
            if started:
                raise OSError(11, "Resource temporarily unavailable")
            start(process)
            started.append(process)

        monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", once)
        batches, others = (Batches(load(pictures, 16, 3), 8, workers=workers, memory=0) for workers in (2, 0))
        compare(batches, others, 3)
        assert gone([process.pid for process in started], within=AT_ONCE)
        assert "no process can be started to read the data (" in caplog.text

    def test_in_a_small_dev_shm(self):
        script = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh"]
        if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
            pytest.skip("a mount of one's own is not permitted here")
        process = subprocess.run(
            [*command, sys.executable, "-W", "ignore", "-c", FULL],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert process.stderr.count("they come through pipes") == 1


FULL = """
import torch
from fastgan.data import Batches

pictures = [torch.full((3, 256, 256), i, dtype=torch.uint8) for i in range(12)]
batches, others = (Batches(pictures, 12, workers=workers) for workers in (4, 0))
for _ in range(6):
    assert torch.equal(next(batches).image, next(others).image)
"""


def test_what_cannot_be_sent_ends_in_one_error(capfd):
    class Error(Exception):
        def __reduce__(self):
            raise TypeError("not for other processes")

    class Samples(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return Error()

    loading_ = loading.Loading(Samples(), iter([0]), 1, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="a process that reads the data was ended"):
        next(loading_)
    assert "a batch cannot be sent: TypeError('not for other processes')" in capfd.readouterr().err


def test_a_worker_that_ends_interrupts_nothing_else(pictures, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils.signal_handling, "_SIGCHLD_handler_set", False)
    before = signal.getsignal(signal.SIGCHLD)
    batches = Batches(load(pictures, 16, 3), 8, workers=1, memory=0)
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) == before


def test_a_dropped_reader_takes_its_workers_along(pictures):
    batches = Batches(load(pictures, 16, 3), 8, workers=2, memory=0)
    next(batches)
    workers = [worker.pid for worker in batches._readers[0].loaded.workers]
    start = time.monotonic()
    cycle = [batches]
    cycle.append(cycle)
    del batches, cycle
    gc.collect()
    assert gone(workers, within=AT_ONCE)
    assert time.monotonic() - start < AT_ONCE, "it waited for a worker"


def test_as_many_workers_as_there_are_cores_for(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    for ranks, expected in (("1", 12), ("4", 3), ("64", 1), ("nonsense", 12)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert loading.default_workers() == expected
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(100)))
    assert loading.default_workers() == loading.MOST_WORKERS


def test_what_is_in_memory_needs_no_workers(pictures):
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    batches = Batches([image] * 4, 2)
    next(batches)
    assert batches._readers[0].workers == 0
    assert Batches(load(pictures, 8, 3), 2)._readers[0].workers == loading.default_workers()
