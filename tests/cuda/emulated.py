"""Builds the CUDA kernels as C++ (csrc/cuda/emulated.h) into a copy of the package, where they are the ops on the CPU.

    python tests/cuda/emulated.py build/emulated [--sanitize]

prints the folder to put on PYTHONPATH. `make emulate` runs the tests of all ops there, tests/cuda some of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, *, sanitize: bool = False) -> Path:
    """The folder that holds the package with the emulated library. Raises CalledProcessError with the log printed."""
    import torch

    tools = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    configure = ["cmake", "-S", ROOT, "-B", folder, f"-DFASTGAN_TORCH_DIR={Path(torch.__file__).parent}",
                 f"-DFASTGAN_SANITIZE={'ON' if sanitize else 'OFF'}"]  # fmt: skip
    if shutil.which("ninja", path=tools["PATH"]):
        configure += ["-G", "Ninja"]
    for command in (configure, ["cmake", "--build", folder, "--target", "fastgan_emulated", "--parallel"]):
        done = subprocess.run(command, env=tools, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            done.check_returncode()
    package = folder / "python/fastgan"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "fastgan", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for compiled in (ROOT / "fastgan").glob("_C*.so"):
        shutil.copy2(compiled, package)
    shutil.copy2(folder / "libfastgan_emulated.so", package / "libfastgan_cpu.so")
    return package.parent


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sanitize", action="store_true")
    arguments = parser.parse_args()
    print(build(arguments.folder.resolve(), sanitize=arguments.sanitize))
