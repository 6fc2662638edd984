"""The file in which choices outlive a process: one for each machine and set of versions, in the user's cache directory.

$FASTGAN_CACHE, else $XDG_CACHE_HOME/fastgan, else ~/.cache/fastgan, holds `tuning-<hash>.json`. What cannot be read, or
belongs to another machine, is ignored: the only harm is that ops choose by their own rules.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import fastgan
from fastgan import strict_json
from fastgan.files import replacing

FORMAT = 1  # of the file; another one is stale
PATIENCE = 30.0  # seconds to wait for other writers

Question = tuple[str, Any, int]  # op, key, threads
Entry = dict[str, Any]  # {"choice": name, "milliseconds": {name: median}}


def folder() -> Path:
    """Where the caches lie; it need not exist."""
    if chosen := os.environ.get("FASTGAN_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgan"


@functools.cache
def machine() -> dict[str, Any]:
    """What a measurement holds for, but for the number of threads."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "format": FORMAT,
        "processor": _processor(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "features": sorted(name for name, there in capabilities.items() if there is True),
        "torch": torch.__version__,
        "fastgan": fastgan.__version__,
    }


def path() -> Path:
    """The file of this machine and these versions."""
    name = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:16]
    return folder() / f"tuning-{name}.json"


def read() -> dict[Question, Entry]:
    """All that was measured here before; nothing where that cannot be read, with a warning unless it is not there."""
    file = None
    try:
        file = path()
        return _parse(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _warn(
            f"the tuning cache {file or ''} cannot be read and is ignored ({_short(error)}); `fastgan.tune` rewrites it"
        )
        return {}


def write(found: Mapping[Question, Entry]) -> Path | None:
    """Adds to the file of this machine, whole or not at all, beside whatever other processes add meanwhile.

    Returns:
        The file, or None where it cannot be written, with a warning.
    """
    from filelock import FileLock

    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=PATIENCE):
            try:
                entries = _parse(file.read_bytes())
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                entries = {}
            with replacing(file, durable=True) as stream:
                stream.write(_text({**entries, **found}).encode())
    except OSError as error:  # Timeout is one
        _warn(
            f"the tuning cache {file} cannot be written, what was measured serves this process only ({_short(error)})"
        )
        return None
    return file


def _text(entries: Mapping[Question, Entry]) -> str:
    rows = [{"op": op, "key": _plain(key), "threads": threads, **entry}
            for (op, key, threads), entry in entries.items()]  # fmt: skip
    lines = ",\n  ".join(strict_json.dumps(row) for row in rows)
    return f'{{"machine": {strict_json.dumps(machine())},\n "choices": [\n  {lines}\n]}}\n'


def _parse(text: bytes) -> dict[Question, Entry]:
    content = json.loads(text)
    if content["machine"] != machine():  # a copy from another machine under this one's name
        return {}
    entries: dict[Question, Entry] = {}
    for row in content["choices"]:
        if not isinstance(row["choice"], str) or not isinstance(row["threads"], int):
            raise ValueError("not a choice")
        entries[row["op"], _meant(row["key"]), row["threads"]] = {k: row[k] for k in ("choice", "milliseconds")}
    return entries


def _plain(part: Any) -> Any:
    """A part of a key as JSON has it."""
    if isinstance(part, tuple):
        return [_plain(p) for p in part]
    return str(part) if isinstance(part, torch.dtype) else part


def _meant(part: Any) -> Any:
    """A part of a key as it was."""
    if isinstance(part, list):
        return tuple(_meant(p) for p in part)
    if isinstance(part, str) and part.startswith("torch."):
        dtype = getattr(torch, part.removeprefix("torch."))
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{part} is not a dtype")
        return dtype
    return part


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU part")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            fields.setdefault(name.strip(), value.strip())
    return ", ".join([*fields.values(), platform.machine()])


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=2)
