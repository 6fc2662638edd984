"""Processes that train, each forked from one that has imported everything: they start at once.

    with Forks(SCRIPT) as forks:
        process = forks.start(out, 20, STAYS="1")
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.error()

As a script, `forks.py SCRIPT`, it is the process that forks; it computes nothing itself, and has a single thread.
"""

import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any


class Forks:
    """Runs `main()` of a script, with arguments and environment of its own, in each process that is started."""

    def __init__(self, script: Path) -> None:
        self.server = subprocess.Popen(
            [sys.executable, __file__, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.folder = tempfile.TemporaryDirectory()
        self.started = 0

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.communicate()
        self.folder.cleanup()

    def start(self, *arguments: object, **environment: str) -> "Fork":
        """In the directory that this process is in."""
        self.started += 1
        files = [f"{self.folder.name}/{self.started}.{name}" for name in ("out", "error")]
        words = [str(each) for each in arguments]
        pid = self.ask(start=words, environment=environment, files=files, folder=os.getcwd())
        return Fork(self, pid, *files)

    def ask(self, **request: Any) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps(request), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())


class Fork:
    def __init__(self, forks: Forks, pid: int, out: str, error: str) -> None:
        self.forks, self.pid, self.files = forks, pid, (out, error)

    def wait(self) -> int:
        """Its code, which is negative where a signal ended it."""
        return self.forks.ask(wait=self.pid)

    def running(self) -> bool:
        return not self.forks.ask(look=self.pid)

    def output(self) -> str:
        """What it wrote to stdout."""
        return Path(self.files[0]).read_text()

    def error(self) -> str:
        """What it wrote to stderr."""
        return Path(self.files[1]).read_text()


def killed_after(seconds: float, process: Fork, out: Path) -> None:
    """Kill it so long after its run in `out` has begun, or goes on."""
    began = time.monotonic()
    while not (out / "config.yaml").exists() and process.running():
        assert time.monotonic() - began < 60
        time.sleep(0.002)
    end = time.monotonic() + seconds
    while process.running() and time.monotonic() < end:
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.error()


def two_ranks() -> list[dict[str, str]]:
    """The environments of two processes that train together, as torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def serve(script: str) -> None:
    sys.path[0] = str(Path(__file__).parents[1])  # not the folder of this file, whose modules would go first
    for name in (
        "torch._dynamo",
        "tensorboard.summary.writer.event_file_writer",
        "fastgan.training",
        "fastgan.metrics",
    ):
        with suppress(ImportError):
            importlib.import_module(name)  # by what trains, the first one by PyTorch's optimizers
    spec = importlib.util.spec_from_file_location("script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            answer = os.fork() or become(module.main, script, request)
        elif "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:  # ended, and still to be waited for
            answer = os.waitid(os.P_PID, request["look"], os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        print(int(answer), flush=True)


def become(main: Any, script: str, request: dict[str, Any]) -> int:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(request["files"], 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = [script, *request["start"]]
        code = main() or 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
