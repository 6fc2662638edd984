"""The package as a whole: quiet to import, honest about what it runs on."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import fastgan
from fastgan import backend


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_import_loads_nothing() -> None:
    """Not even torch: what `import fastgan` adds to `import torch` is the reading of one file."""
    assert run("import sys, fastgan; print('torch' in sys.modules)").strip() == "False"


def test_every_public_name_exists() -> None:
    out = run("import fastgan; print(*(type(getattr(fastgan, n)).__name__ for n in fastgan.__all__))")
    assert "NoneType" not in out
    assert callable(fastgan.fuse)


def test_fuse_stays_a_function_whatever_is_imported_first() -> None:
    run("import fastgan.fusion.rewrite, fastgan; assert callable(fastgan.fuse)")


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
    for op in backend.OPS:
        assert f"{op} on cpu" in text


def test_pages_quote_the_committed_results() -> None:
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools/figures.py"))
    for page, figures in tool["pages"]().items():
        assert figures in page.read_text(), f"{page.name}: run python tools/figures.py"
