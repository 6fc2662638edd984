"""Builds the compiled part of fastgan with CMake, where that is possible; installs pure Python where it is not.

What is needed: a C++17 compiler, CMake and Ninja (both from pyproject.toml) and an installed torch >= 2.10, whose
headers are read but which is never imported or run. Without them the install succeeds, says so in one line, and every
op runs on plain PyTorch; a wheel is then one of pure Python.

FASTGAN_BUILD_CUDA=0|1|auto   the CUDA library: never, or fail where it cannot be built, or (default) where nvcc is and
                              torch has CUDA
FASTGAN_CUDA_ARCHS=80;90      architectures of the CUDA library; default: those of ARCHITECTURES that nvcc knows
FASTGAN_TORCH_DIR=...         the folder of the torch package, where it is not found by itself
FASTGAN_BUILD_CPU=0|1|auto    the compiled part altogether: never, or fail where it cannot be built, or where it can
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
ARCHITECTURES = (80, 86, 89, 90, 100, 120)
OLDEST_TORCH = (2, 10)


def say(line: str) -> None:
    """One line that reaches the person, past pip, which hides the output of a build that succeeds."""
    print(f"fastgan: {line}", file=sys.stderr)
    if not sys.stderr.isatty():
        with contextlib.suppress(OSError), open("/dev/tty", "w") as terminal:
            print(f"fastgan: {line}", file=terminal)


def choice(variable: str) -> str:
    value = os.environ.get(variable, "auto")
    if value not in ("0", "1", "auto"):
        raise SystemExit(f"fastgan: {variable}={value!r}; accepted: 0, 1, auto")
    return value


def find_torch() -> tuple[Path | None, str]:
    """The folder of the torch to compile against, and its version, or why there is none.

    In pip's isolated build torch cannot be imported, but the interpreter is still that of the target environment, and
    so are its site-packages.
    """
    if given := os.environ.get("FASTGAN_TORCH_DIR"):
        candidates = [Path(given)]
    else:
        folders = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), site.getusersitepackages(), *sys.path]
        if environment := os.environ.get("VIRTUAL_ENV"):  # isolated builds of other tools make an environment anew
            python = f"python{sys.version_info.major}.{sys.version_info.minor}"
            folders.append(str(Path(environment) / "lib" / python / "site-packages"))
        candidates = [Path(folder) / "torch" for folder in folders if folder]
    for folder in candidates:
        header, version = folder / "include/torch/csrc/stable/library.h", folder / "version.py"
        if version.exists():
            text = re.search(r"__version__ = '([^']+)'", version.read_text())
            found = text.group(1) if text else "unknown"
            if not header.exists() or tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST_TORCH:
                return None, f"torch {found} in {folder.parent} is older than {'.'.join(map(str, OLDEST_TORCH))}"
            return folder, found
    return None, "no installed torch was found (install torch first, or set FASTGAN_TORCH_DIR)"


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=str(Path(home) / "bin")) if home else shutil.which("nvcc")


def cuda_architectures(torch: Path) -> tuple[str, str]:
    """The architectures to build for, separated by semicolons, or "" and the reason."""
    wanted = choice("FASTGAN_BUILD_CUDA")
    if wanted == "0":
        return "", "FASTGAN_BUILD_CUDA=0"
    nvcc = find_nvcc()
    if nvcc is None:
        if wanted == "1":
            raise SystemExit("fastgan: FASTGAN_BUILD_CUDA=1, but no nvcc: install the CUDA toolkit or set CUDA_HOME")
        return "", "no nvcc on PATH or in CUDA_HOME"
    if wanted != "1" and not re.search(r"^cuda\b.*= '", (torch / "version.py").read_text(), re.MULTILINE):
        return "", "torch was built without CUDA (FASTGAN_BUILD_CUDA=1 compiles the kernels nevertheless)"
    if given := os.environ.get("FASTGAN_CUDA_ARCHS"):
        return given, ""
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    return ";".join(str(a) for a in ARCHITECTURES if f"compute_{a}" in known.split()), ""


class CMakeBuild(build_ext):
    """One extension in setuptools' eyes, `fastgan._C`; CMake builds it and the libraries of ops beside it."""

    def run(self) -> None:
        wanted = choice("FASTGAN_BUILD_CPU")
        if wanted == "0":
            self.leave_out("FASTGAN_BUILD_CPU=0: installing without compiled ops; everything runs on plain PyTorch")
            return
        try:
            self.build()
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            if wanted == "1" or choice("FASTGAN_BUILD_CUDA") == "1":
                raise SystemExit(f"fastgan: the compiled ops could not be built: {error}") from error
            self.leave_out(f"installing without compiled ops, everything runs on plain PyTorch: {error}")

    def leave_out(self, line: str) -> None:
        self.distribution.ext_modules = []  # what is installed, and the name of a wheel, follow from it
        say(line)

    def build(self) -> None:
        torch, version = find_torch()
        if torch is None:
            raise RuntimeError(version)
        if shutil.which("cmake") is None:
            raise RuntimeError("no cmake")
        if not (os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
            raise RuntimeError("no C++ compiler (c++, g++ or clang++ on PATH, or CXX)")
        archs, reason = cuda_architectures(torch)
        try:
            self.cmake(torch, version, archs, reason)
        except RuntimeError as error:
            if not archs or choice("FASTGAN_BUILD_CUDA") == "1":
                raise
            say(f"installing without CUDA kernels: {error}")
            self.cmake(torch, version, "", "they could not be compiled when fastgan was installed")

    def cmake(self, torch: Path, version: str, archs: str, reason: str) -> None:
        target = Path(self.get_ext_fullpath("fastgan._C")).resolve().parent
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(folder), f"-DCMAKE_INSTALL_PREFIX={target}",
            f"-DPython_EXECUTABLE={sys.executable}", f"-DFASTGAN_TORCH_DIR={torch}",
            f"-DFASTGAN_TORCH_VERSION={version}", f"-DFASTGAN_VERSION={self.distribution.get_version()}",
            f"-DFASTGAN_CUDA_ARCHS={archs}", f"-DFASTGAN_CUDA_REASON={reason}",
        ]  # fmt: skip
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        try:
            import pybind11

            configure.append(f"-Dpybind11_DIR={pybind11.get_cmake_dir()}")
        except ImportError:
            say("no pybind11 in the build environment: building without fastgan._C")
        log = []
        for command in (configure, ["cmake", "--build", str(folder)], ["cmake", "--install", str(folder)]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            log.append(done.stdout)
            if done.returncode:
                print("".join(log), file=sys.stderr)
                errors = re.findall(r"^.*\berror\b.*$", done.stdout, re.IGNORECASE | re.MULTILINE)
                raise RuntimeError(f"`{' '.join(command[:2])}` failed" + (f": {errors[0].strip()}" if errors else ""))

    def get_outputs(self) -> list[str]:
        folder = Path(self.get_ext_fullpath("fastgan._C")).parent
        return [str(p) for p in (*folder.glob("_C*.so"), *folder.glob("libfastgan_*.so"))]


class Wheel(bdist_wheel):
    """Builds first: a wheel without compiled ops is one for every platform, py3-none-any."""

    def run(self) -> None:
        if not self.skip_build:
            self.run_command("build")
            self.skip_build = True  # else setuptools compiles again
        if not self.distribution.ext_modules:
            self.root_is_pure = True
            say("the wheel holds Python alone: py3-none-any")
        super().run()


setup(
    ext_modules=[Extension("fastgan._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": Wheel},
)
