"""Two processes that find each other through a file and run all distributed cases; they are started once a session.

Each is `python -m tests.fusion.rank_launcher RANK FOLDER`.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

RANKS = 2
MODULES = ("tests.fusion.rank_cases", "tests.fusion.shard_cases")


class Found:
    """What the cases returned, on both ranks."""

    def __init__(self, folder: tempfile.TemporaryDirectory[str], problem: str) -> None:
        self.folder, self.problem = folder, problem  # the folder is removed with this object

    def __getitem__(self, case: str) -> list[Any]:
        """The results of a case, one a rank. AssertionError with what the processes said if it did not end."""
        files = [Path(self.folder.name, f"{case}.{rank}") for rank in range(RANKS)]
        # After one that failed none is run: its rank may have left the other one waiting.
        assert all(file.exists() for file in files), f"{case!r} did not end. {self.problem}"
        return [torch.load(file, weights_only=False) for file in files]


@functools.cache
def run(timeout: float = 180) -> Found:
    """Runs CASES, functions of a rank by name, of all modules on both ranks."""
    temporary = tempfile.TemporaryDirectory()
    folder = Path(temporary.name)
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    ranks = []
    for rank in range(RANKS):
        command = [sys.executable, "-W", "ignore", "-m", __name__, str(rank), str(folder)]
        with (folder / f"errors.{rank}").open("w") as errors:
            ranks.append(subprocess.Popen(command, env=environment, stderr=errors))
    deadline = time.monotonic() + timeout
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        if any(rank.poll() for rank in ranks):
            break  # the other one would wait for it
        time.sleep(0.05)
    for rank in ranks:
        rank.kill()
        rank.wait()
    said = [(folder / f"errors.{rank}").read_text() for rank in range(RANKS)]
    return Found(temporary, next(filter(None, said), "The time is over."))


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    wait = datetime.timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS, timeout=wait)
    for name, case in ((n, c) for module in MODULES for n, c in importlib.import_module(module).CASES.items()):
        try:
            torch.manual_seed(0)
            torch.save(case(rank), f"{folder}/{name}.{rank}")
        except Exception:
            print(f"Rank {rank}, {name!r}: {traceback.format_exc(-3)}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # without waiting for the other rank
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
