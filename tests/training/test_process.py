"""What training on a CPU wants of its process."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest
import torch

from fastgan import backend
from fastgan.training import process

MACHINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

CPU = "sys/fs/cgroup/cpu,cpuacct"


class TestCores:
    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({}, MACHINE),
            ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, MACHINE),
            ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
            ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
            ({"sys/fs/cgroup/cpu.max": "9900000000 100000\n"}, MACHINE),
            ({"sys/fs/cgroup/cpu.max": "what is this\n"}, MACHINE),
            ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "90000 100000\n"}, 1),
            ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/c/cpu.max": "90000 100000\n"}, MACHINE),
            (
                {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
                MACHINE,
            ),
            ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "99\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
            ({"proc/self/cgroup": "nonsense\n"}, MACHINE),
        ],
    )
    def test_in_a_container(self, tmp_path, files, expected):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        assert backend.cores(tmp_path) == expected

    def test_here(self):
        assert 1 <= backend.cores() <= MACHINE


class TestPrepare:
    def test_threads(self, monkeypatch, caplog):
        monkeypatch.setattr(backend, "cores", lambda: 1)
        torch.set_num_threads(2)
        with caplog.at_level("INFO", "fastgan"):
            process.prepare()
        assert torch.get_num_threads() == 1
        assert "1 threads instead of 2" in caplog.text
        monkeypatch.setattr(backend, "cores", lambda: 8)
        process.prepare()
        assert torch.get_num_threads() == 1  # never more

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
    @pytest.mark.parametrize("memory", ["small", "fast"])  # the last is what the other tests run with
    def test_glibc_takes_every_setting(self, monkeypatch, memory):
        mallopt, results = ctypes.CDLL(None).mallopt, []

        class Library:
            def mallopt(self, parameter, value):
                results.append((parameter, mallopt(parameter, value)))

        monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
        process.prepare(memory)
        assert results == [(-3, 1), (-1, 1), (-2, 1)]


SMALL = """
import sys, torch
from fastgan.training import process
process.prepare(sys.argv[1])
tensors = [torch.ones(4, 2**18) for _ in range(32)]  # 4 MB each
keep = tensors[::2]
del tensors
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


@pytest.mark.processes
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_small_gives_memory_back():
    held = {
        memory: int(subprocess.run([sys.executable, "-c", SMALL, memory], capture_output=True, check=True).stdout)
        / 1024
        for memory in process.MEMORY
    }
    assert held["fast"] - held["small"] == pytest.approx(64, abs=8)  # MB
