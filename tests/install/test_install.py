"""Every way to install the package, each in a fresh environment.

`make test` itself has used the editable install without build isolation; here are the others. An environment gets torch
by links to the one at hand instead of a download.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.compiles

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(sysconfig.get_path("platlib"))
RUN = """
import torch, fastgan
from fastgan import backend, ops
x = torch.randn(4, 3, 5, 5, requires_grad=True)
y = ops.norm_act(x, act="leaky_relu")
y.sum().backward()
torch.testing.assert_close(y, torch.nn.functional.leaky_relu(
    torch.nn.functional.batch_norm(x, None, None, None, None, True), 0.2))
assert "site-packages" in fastgan.__file__, fastgan.__file__
print(backend.choose("norm_act", "cpu"), backend.build_config().get("cpu_capability"))
"""


@pytest.fixture(autouse=True)
def _no_path_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported is what was installed, not what PYTHONPATH names."""
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The sources as git would hand them out, without what was built in this tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: the sources cannot be told from what was built")
    target = tmp_path / "source"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def environment(folder: Path, *, torch: bool = True) -> Path:
    """A new environment with pip and, by links, torch and what it imports. Returns its python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    site = Path(subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"], text=True
    ).strip())  # fmt: skip
    for bundled in [*site.glob("setuptools*"), *site.glob("_distutils_hack")]:  # older than what is asked for
        shutil.rmtree(bundled)
    for entry in SITE.iterdir() if torch else ():
        if not entry.name.startswith(("pip", "fastgan", "__editable__")) and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    return python


def install(python: Path, *what: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "-v", "--no-deps", *what]
    # The CUDA library would take minutes; tests/cuda compiles it.
    environ = {**os.environ, "FASTGAN_BUILD_CUDA": "0", **variables}
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def run(python: Path, code: str = RUN) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_sdist_to_wheel_to_a_working_extension(source: Path, tmp_path: Path) -> None:
    """sdist -> wheel under build isolation, beside an installed torch -> compiled ops in a fresh environment."""
    built = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, source],
        capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = tmp_path.glob("fastgan-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    for needed in ("CMakeLists.txt", "csrc/schema.cpp", "csrc/cpu/norm_act_kernel.cpp", "csrc/include/activation.h",
                   "fastgan/data/assets/emoji.json", "LICENSE"):  # fmt: skip
        assert any(name.endswith(f"/{needed}") for name in names), f"{needed} is not in the sdist"
    python = environment(tmp_path / "environment")
    wheel = subprocess.run(
        [python, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "-w", tmp_path, sdist],
        capture_output=True, text=True,
    )  # fmt: skip
    assert wheel.returncode == 0, wheel.stdout + wheel.stderr
    (file,) = tmp_path.glob("fastgan-*.whl")
    inside = zipfile.ZipFile(file).namelist()
    assert not file.name.endswith("-any.whl")
    assert "fastgan/libfastgan_cpu.so" in inside
    assert "fastgan/py.typed" in inside
    assert not any(name.startswith(("tests/", "benchmarks/", "csrc/")) for name in inside)
    done = install(python, str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(python).split()[0] == "native"


def without_compilers(folder: Path) -> str:
    """A PATH with everything of this machine's but compilers."""
    folder.mkdir()
    for part in os.environ["PATH"].split(os.pathsep):
        for program in Path(part).glob("*") if Path(part).is_dir() else ():
            words = ("c++", "g++", "gcc", "clang", "cc", "x86_64", "nvcc", "icpx")
            if not program.name.startswith(words) and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_no_compiler(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "environment")
    path = without_compilers(tmp_path / "path")
    done = install(python, "--no-build-isolation", str(source), PATH=path, CXX="", CC="")
    assert done.returncode == 0, done.stdout + done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "fastgan: installing without compiled" in line]
    assert len(said) == 1
    assert "everything runs on plain PyTorch: no C++ compiler" in said[0]
    assert run(python).split() == ["torch", "None"]
    refused = install(python, "--no-build-isolation", str(source), PATH=path, CXX="", CC="", FASTGAN_BUILD_CPU="1")
    assert refused.returncode != 0
    assert "the compiled ops could not be built: no C++ compiler" in refused.stdout + refused.stderr


@pytest.mark.parametrize("variables", [{"FASTGAN_BUILD_CPU": "0"}, {"CXX": "/bin/false"}], ids=str)
def test_a_wheel_without_compiled_ops_is_for_every_platform(
    source: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source],
        env={**os.environ, "FASTGAN_BUILD_CUDA": "0", **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "fastgan: the wheel holds Python alone: py3-none-any" in done.stdout + done.stderr
    names = zipfile.ZipFile(wheel).namelist()
    assert "fastgan/backend.py" in names
    assert "fastgan/data/assets/digits.png" in names
    assert "fastgan/data/assets/photos/train/fig.jpg" in names
    assert not [name for name in names if name.endswith(".so")]


def test_a_compiler_that_fails(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "environment")
    done = install(python, "--no-build-isolation", str(source), CXX="/bin/false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fastgan: installing without compiled ops" in done.stdout + done.stderr
    assert run(python).split() == ["torch", "None"]


CMAKE = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *-DFASTGAN_CUDA_ARCHS=8*) echo "nvcc fatal: error in everything"; exit 1;; esac
"""


@pytest.mark.parametrize(("cuda", "asked", "runs"), [("'13.0'", "auto", 4), ("None", "auto", 3), ("None", "1", 1)])
def test_cuda_kernels_that_do_not_compile(cuda: str, asked: str, runs: int, source: Path, tmp_path: Path) -> None:
    """They are left out, and a line says so, unless they were asked for; a torch without CUDA has none by default."""
    python = environment(tmp_path / "environment")
    torch, programs, log = tmp_path / "torch", tmp_path / "programs", tmp_path / "log"
    (torch / "include/torch/csrc/stable").mkdir(parents=True)
    (torch / "include/torch/csrc/stable/library.h").touch()
    (torch / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\n")
    programs.mkdir()
    for name, text in (("cmake", CMAKE.format(log=log)), ("nvcc", "#!/bin/sh\necho compute_80 compute_90\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = install(python, "--no-build-isolation", str(source), PATH=path, CUDA_HOME="", CUDA_PATH="",
                   FASTGAN_TORCH_DIR=str(torch), FASTGAN_BUILD_CUDA=asked)  # fmt: skip
    said = [line for line in (done.stdout + done.stderr).splitlines() if "fastgan: " in line]
    calls = log.read_text().splitlines()
    assert len(calls) == runs, calls  # configure, and where that fails all of it again
    if asked == "1":
        assert done.returncode != 0
        assert "could not be built: `cmake -S` failed: nvcc fatal: error in everything" in "".join(said)
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("-DFASTGAN_CUDA_ARCHS=80;90" in calls[0]) == (cuda != "None")
    assert "-DFASTGAN_CUDA_ARCHS= " in calls[runs - 3]
    assert any("installing without CUDA kernels: `cmake -S` failed" in line for line in said) == (cuda != "None")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_several_architectures(tmp_path: Path) -> None:
    """What pip passes to CMake where nvcc and a torch with CUDA are; all but the kernels is compiled."""
    import pybind11

    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    configure = [cmake, "-S", ROOT, "-B", tmp_path, f"-DPython_EXECUTABLE={sys.executable}",
                 f"-DFASTGAN_TORCH_DIR={SITE / 'torch'}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                 "-DFASTGAN_CUDA_ARCHS=80;90"]  # fmt: skip
    for command in (configure, [cmake, "--build", tmp_path, "--target", "_C"]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-3000:]
    code = "import _C; print(_C.build_config()['cuda_archs'])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True) == "80, 90\n"


def test_no_torch_at_build_time(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "environment", torch=False)
    done = install(python, str(source))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no installed torch was found (install torch first" in done.stdout + done.stderr
    assert run(python, "import fastgan; print(fastgan.__version__)").strip()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FASTGAN_BUILD_CUDA": "yes"}, "FASTGAN_BUILD_CUDA='yes'; accepted: 0, 1, auto"),
        ({"FASTGAN_BUILD_CUDA": "1", "CUDA_HOME": "/nowhere"}, "no nvcc: install the CUDA toolkit or set CUDA_HOME"),
        ({"FASTGAN_BUILD_CPU": "1", "FASTGAN_TORCH_DIR": "/nowhere"}, "no installed torch was found"),
    ],
)
def test_what_is_asked_for_and_cannot_be_is_an_error(source: Path, variables: dict[str, str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"], cwd=source, env={**os.environ, **variables},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert message in done.stderr
