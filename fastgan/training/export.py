"""The generator of a run in two files: weights as safetensors, and a JSON file that says what they are.

run.safetensors     the tensors of the submodules that samples come from, by their names in the system
run.json            format, system, options (all of them), averaged, step, image_shape, data (name, number of images,
                    names of classes, digest), versions, and the SHA-256 of the other file
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from torch import Tensor

from fastgan.random import private
from fastgan.systems import System, create
from fastgan.training.run import Run, config_of, name_classes, quoted, system_of, versions

FORMAT = 1
SUFFIX = ".safetensors"
_RECORD = {"system": str, "options": dict, "sha256": str}


def export(
    run: str | os.PathLike[str], path: str | os.PathLike[str], *, averaged: bool = True, which: str = "last"
) -> Path:
    """Write the generator of the run in directory `run` to `path`, which ends in .safetensors, and its description
    beside it, and return where that is.

    averaged: the moving average of the weights, where the run kept one.   which: "last", "best" or "previous".

    Each file is written wholly or not at all. Errors as `fastgan.load`; ValueError for another suffix, OSError if a
    file cannot be written, ImportError without the safetensors package.
    """
    path = _path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {path.parent}, create it first")
    safetensors = _safetensors()
    source = Run(run)
    state = source.read(which)
    system = system_of(state, config_of(state, source))
    averages = state["ema"]["averages"] if averaged and state["ema"] is not None else {}
    source.restore(system, {**state["system"], **averages})
    weights = safetensors.save({name: tensor.clone() for name, tensor in _generating(system).items()})
    record = {
        "format": FORMAT,
        "system": system.name,
        "options": dataclasses.asdict(system.config),
        "averaged": bool(averages),
        "step": state["step"],
        "image_shape": list(system.image_shape),
        "data": {name: state["data"].get(name) for name in ("name", "images", "classes", "digest")},
        "versions": versions(),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    described = path.with_suffix(".json")
    _write(path, weights)
    _write(described, (json.dumps(record, indent=2) + "\n").encode())
    return described


def read_export(path: str | os.PathLike[str]) -> System:
    """The system of an exported file on the CPU, in eval mode. Only its generator is trained.

    FileNotFoundError where one of the two files is missing, ValueError if one is damaged or they do not belong
    together, ImportError without the safetensors package.
    """
    path = _path(path)
    described = path.with_suffix(".json")
    safetensors = _safetensors()
    try:
        weights = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no file {path}; `fastgan export RUN --out {quoted(path)}` makes one"
        ) from None
    record = _read(described)
    if hashlib.sha256(weights).hexdigest() != record["sha256"]:
        raise ValueError(
            f"{path} is damaged, or not what {described} describes: its SHA-256 is another. Export it again"
        )
    try:
        tensors = safetensors.load(weights)
    except Exception as error:  # SafetensorError derives from Exception alone
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    try:
        with private():  # weights that are replaced by those of the file
            system = create(record["system"], **record["options"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{described} describes no system of this version: {error}") from error
    _check(tensors, _generating(system), path)
    floating = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), system.dtype)
    system.to(floating).load_state_dict(tensors, strict=False)
    name_classes(system, record.get("data") or {})
    return system.eval()


def _generating(system: System) -> dict[str, Tensor]:
    """What samples come from, contiguous."""
    return {
        name: tensor.contiguous()
        for name, tensor in system.state_dict().items()
        if name.partition(".")[0] in system.averaged
    }


def _check(tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    for names, what in (expected.keys() - tensors.keys(), "lacks"), (tensors.keys() - expected.keys(), "also holds"):
        if names:
            some = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ValueError(f"{path} {what} {some}: these are not the weights of the system described beside it")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{name} in {path} has shape {tuple(tensor.shape)}, the system described beside it "
                f"{tuple(expected[name].shape)}"
            )


def _read(described: Path) -> dict[str, Any]:
    try:
        record = json.loads(described.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{described}, which says what the weights beside it are, is missing") from None
    except ValueError as error:
        raise ValueError(f"{described} is damaged: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{described} is damaged: it must hold an object")
    if record.get("format") != FORMAT:
        raise ValueError(f"{described} has format {record.get('format')!r}; this version reads format {FORMAT}")
    for key, kind in _RECORD.items():
        if not isinstance(record.get(key), kind):
            raise ValueError(f"{described} is damaged: {key} must be of type {kind.__name__}, not {record.get(key)!r}")
    return record


def _path(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"the file of an exported generator ends in {SUFFIX}; {path} does not")
    return path


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            f'exports need the package safetensors, which is missing ({error}): pip install "fastgan[train]"'
        ) from error
    return safetensors.torch


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"could not write it ({error.strerror})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
