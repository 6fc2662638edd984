"""What was compiled before is not compiled again: CMake puts this before the compiler.

    export CMAKE_CXX_COMPILER_LAUNCHER="python;tools/compile_once.py" FASTGAN_OBJECTS=build/objects

An object file is kept in FASTGAN_OBJECTS by the hash of all that decides it: the compiler, its flags and the source as
preprocessed, wherever the sources and headers lie. The tests of installing and of the emulation compile the same files
as `make install`, in folders that they remove. ccache does the same, where it is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLACES = ("-I", "-isystem", "-iquote", "-o", "-MF", "-MT", "-MQ")  # where things lie: the text has what is read there
DEPENDENCIES = ("-MD", "-MMD")


def parts(command: list[str]) -> tuple[list[str], list[str]]:
    """Of a compiler's command: what preprocesses the source to stdout; the flags that decide what becomes of it."""
    preprocess, flags, i = [], [], 0
    while i < len(command):
        word = command[i]
        pair = command[i : i + 2] if word in PLACES else [word]
        i += len(pair)
        if word == "-c":
            preprocess += ["-E", "-P"]
        elif word != "-o":
            preprocess += pair
        if not word.startswith(PLACES) and word not in DEPENDENCIES:
            flags.append(word)
    return preprocess, flags[:-1]  # the last is the source


def main(command: list[str]) -> int:
    folder = os.environ.get("FASTGAN_OBJECTS")
    if not folder or "-c" not in command or "-o" not in command:
        return subprocess.call(command)
    output = Path(command[command.index("-o") + 1])
    preprocess, flags = parts(command)
    text = subprocess.run(preprocess, capture_output=True)
    if text.returncode:
        return subprocess.call(command)  # says what is wrong
    version = subprocess.run([command[0], "--version"], capture_output=True).stdout
    kept = Path(folder, hashlib.sha256(repr((version, flags)).encode() + text.stdout).hexdigest() + ".o")
    if kept.is_file():
        shutil.copyfile(kept, output)
        return 0
    code = subprocess.call(command)
    if not code:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as new:
            new.write(output.read_bytes())
        os.replace(new.name, kept)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
