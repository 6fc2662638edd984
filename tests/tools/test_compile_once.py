"""A file is compiled once, until something that decides its object changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "compile_once.py"
pytestmark = [
    pytest.mark.compiles,
    pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler"),
]


@pytest.fixture
def compiled(tmp_path):
    """Compiles a folder's source.cpp there: the exit code, and how often the compiler has made an object so far."""
    compiler, log = tmp_path / "compiler", tmp_path / "log"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in *-c*) echo >> {log};; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    log.touch()

    def command(folder, *flags):
        places = ["-isystem", folder / "include", "-MD", "-MT", "x.o", "-MF", folder / "x.d", "-o", folder / "x.o"]
        words = [sys.executable, TOOL, compiler, "-O1", *flags, *places, "-c", folder / "source.cpp"]
        environment = {**os.environ, "FASTGAN_OBJECTS": str(tmp_path / "objects")}
        done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True)
        return done.returncode, len(log.read_text().splitlines())

    return command


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a/include").mkdir(parents=True)
    (tmp_path / "a/include/number.h").write_text("inline int number() { return 7; }\n")
    (tmp_path / "a/source.cpp").write_text('#include "number.h"\nint twice() { return 2 * number() + FLAG; }\n')
    return tmp_path / "a"


def test_the_same_elsewhere_is_copied(compiled, folder, tmp_path):
    assert compiled(folder, "-DFLAG=1") == (0, 1)
    other = shutil.copytree(folder, tmp_path / "b", ignore=shutil.ignore_patterns("x.*"))
    assert compiled(other, "-DFLAG=1") == (0, 1)
    assert (other / "x.o").read_bytes() == (folder / "x.o").read_bytes()
    assert "number.h" in (other / "x.d").read_text()  # what ninja looks at


def test_what_decides_it_is_compiled_again(compiled, folder):
    assert compiled(folder, "-DFLAG=1") == (0, 1)
    assert compiled(folder, "-DFLAG=2") == (0, 2)
    assert compiled(folder, "-DFLAG=1", "-fPIC") == (0, 3)
    (folder / "include/number.h").write_text("inline int number() { return 8; }\n")
    assert compiled(folder, "-DFLAG=1") == (0, 4)
    assert compiled(folder, "-DFLAG=1") == (0, 4)


def test_a_failure_is_one_each_time(compiled, folder):
    (folder / "source.cpp").write_text("int broken( { return FLAG; }\n")
    assert compiled(folder, "-DFLAG=1") == (1, 1)
    assert compiled(folder, "-DFLAG=1") == (1, 2)
    (folder / "source.cpp").write_text('#include "absent.h"\n')
    assert compiled(folder, "-DFLAG=1") == (1, 3)
