"""The package as a whole: quiet to import, honest about what it runs on."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import fastgan
from fastgan import backend


def run(code: str, stderr: str | None = "") -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stderr is None or done.stderr == stderr
    return done.stdout


@pytest.mark.processes
def test_import_loads_nothing() -> None:
    """Not even torch: what `import fastgan` adds to `import torch` is the reading of one file."""
    assert run("import sys, fastgan; print('torch' in sys.modules)").strip() == "False"


@pytest.mark.processes
def test_every_public_name_is_what_it_says() -> None:
    out = run("import fastgan; print(*(getattr(fastgan, n).__name__ for n in fastgan.__all__))")
    assert [name.removeprefix("fastgan.") for name in out.split()] == fastgan.__all__
    assert fastgan.__all__ == sorted({*fastgan._MODULES, *fastgan._NAMES})
    source = ast.parse(Path(fastgan.__file__).read_text())
    (typed,) = (node for node in source.body if isinstance(node, ast.If))  # what an editor completes
    assert sorted(alias.name for node in typed.body for alias in node.names) == fastgan.__all__


@pytest.mark.processes
def test_fuse_stays_a_function_whatever_is_imported_first() -> None:
    run("import fastgan.fusion.rewrite, fastgan; assert callable(fastgan.fuse)")


@pytest.mark.processes
def test_unknown_name() -> None:
    out = run("import fastgan\ntry: fastgan.fues\nexcept AttributeError as e: print(e)")
    assert out.strip() == "module 'fastgan' has no attribute 'fues'"


def test_version_is_said_once() -> None:
    config = backend.build_config()
    if config:
        assert config["version"] == fastgan.__version__
    assert f'version = "{fastgan.__version__}"' in (Path(__file__).parents[1] / "pyproject.toml").read_text()


def test_info_names_every_op() -> None:
    text = backend.info()
    for op in backend.KERNELS:
        assert f"{op} on cpu" in text


def test_another_backend_is_a_name_in_the_table_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_chosen", {})
    monkeypatch.setattr(backend, "BACKENDS", (*backend.BACKENDS, "warp"))
    monkeypatch.setitem(backend.KERNELS, "conv_pool", ("warp", "torch"))
    monkeypatch.setitem(backend._WHY_NOT, "warp", lambda op, device: "" if device == "cuda" else f"not on a {device}")
    assert [backend.choose("conv_pool", device) for device in ("cuda", "cpu")] == ["warp", "torch"]
    assert backend.choose("conv_pool", "cuda", "warp") == "warp"
    assert re.search(r"conv_pool on cpu +torch \(not on a cpu\)", backend.info())
    with pytest.raises(RuntimeError, match="backend='warp' is not usable for conv_pool on cpu: not on a cpu"):
        backend.choose("conv_pool", "cpu", "warp")
    with pytest.raises(RuntimeError, match="not usable for norm_act on cuda: norm_act has no warp kernel"):
        backend.choose("norm_act", "cuda", "warp")


WITHOUT = """
import warnings, torch, fastgan
from fastgan import backend
backend._LIBRARIES = {"cpu": "libabsent.so", "cuda": "libabsent_cuda.so"}
"""


@pytest.mark.processes
def test_fuse_without_kernels_says_so_once() -> None:
    said = run(
        WITHOUT
        + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    fastgan.systems.create("gan", resolution=16)  # whose trainer says it in the log
    print(len(caught))
    for _ in range(2):
        fastgan.fuse(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU()))
    print(len(caught), caught[0].filename)
    print(caught[0].message)
"""
    ).splitlines()
    assert said[:2] == ["0", "1 <string>"]
    assert said[2].startswith(
        "fuse: no compiled kernels, so that little is faster than plain PyTorch: libabsent.so was"
    )
    assert said[2].endswith("`fastgan doctor` shows what runs")


@pytest.mark.processes
def test_fuse_is_quiet_where_kernels_are_not_wanted() -> None:
    run("import os\nos.environ['FASTGAN_BACKEND'] = 'torch'" + WITHOUT + "fastgan.fuse(torch.nn.ReLU())")
    run(WITHOUT + "fastgan.fuse(torch.nn.ReLU(), backend='torch')")


@pytest.mark.processes
def test_training_without_kernels_is_in_the_log(tmp_path: Path) -> None:
    run(
        WITHOUT
        + f"""
system = fastgan.systems.create("gan", resolution=16, channels=1, width=8)
fastgan.Trainer(system, "digits", out={str(tmp_path / "run")!r}, batch_size=8, sample_every=0).fit(1)
""",
        stderr=None,
    )
    assert (tmp_path / "run/log.txt").read_text().count("no compiled kernels, so that little is faster") == 1


@pytest.mark.processes
def test_the_remedy_can_be_followed() -> None:
    """fastgan is in no package index: what is advised names the sources."""
    root = Path(__file__).parents[1]
    reason = run(WITHOUT + "print(backend.library('cpu').reason)").strip()
    command = reason[reason.index("`") + 1 : reason.rindex("`")]
    assert shlex.split(command)[:4] == ["pip", "install", "--force-reinstall", "--no-deps"]
    assert (Path(shlex.split(command)[4]) / "setup.py").is_file()
    files = [*(root / "fastgan").rglob("*.py"), *(root / "docs").glob("*.md"), root / "README.md"]
    for file in files:
        advice = re.findall(r"pip install [^`\n]*?\bfastgan\b(?!/)", file.read_text())
        assert not advice, f"{file}: {advice}"


def test_pages_quote_the_committed_results() -> None:
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools/figures.py"))
    for page, figures in tool["pages"]().items():
        assert figures in page.read_text(), f"{page.name}: run python tools/figures.py"
