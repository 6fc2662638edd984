"""The generator of a run as a file to give away.

run.safetensors     the tensors of the submodules that samples come from, by their names in the system, and under
                    "fastgan" in its metadata what they are: format, system, options (all of them), averaged, step,
                    image_shape, latent_shape, classes (how many), data (name, number of images, names of classes,
                    digest), versions, and the SHA-256 of all that and of the tensors. (Of format 1 the
                    description was a .json file beside it.)
run.pt2, run.onnx   from latents to images without FastGAN (recorded.py), with the same description inside
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan import strict_json
from fastgan.files import check_file, replace_file
from fastgan.random import private
from fastgan.runs import recorded
from fastgan.runs.restore import config_of, remade, system_of
from fastgan.runs.run import Run, quoted, versions
from fastgan.systems import Generative, System, Translator

FORMAT = 2
SUFFIX = ".safetensors"
SUFFIXES = (SUFFIX, ".pt2", ".onnx")
KNOWN = ("name", "images", "classes", "digest", "vocabulary")  # of the data
INSIDE = "fastgan"  # the description's name in the metadata
_RECORD = {"system": str, "options": dict, "sha256": str}


def export(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    averaged: bool = True,
    which: str = "last",
    system: str | type[System] | None = None,
) -> dict[str, Any]:
    """Write the generator of the run in directory `run` to `path`, and return its description.

    path: .safetensors, weights that `fastgan.load` takes; .pt2 of torch.export or .onnx, which make images where
    FastGAN is not, of latents or of images that are to be translated.
    averaged: the moving average of the weights, where the run kept one.   which: "last", "best" or "previous".
    system: as `fastgan.load` takes it.

    The file is written wholly or not at all. Errors as `fastgan.load`; ValueError for another suffix, OSError if it
    cannot be written, ImportError without the package safetensors, or onnx and onnxscript.
    """
    path = check_file(path, *SUFFIXES, what="an exported generator")
    write = {SUFFIX: _weights, ".pt2": recorded.pt2, ".onnx": recorded.onnx}[path.suffix.lower()]
    source = Run(run)
    state = source.read(which)
    made = system_of(state, config_of(state, source), system)
    averages = state["ema"]["averages"] if averaged and state["ema"] is not None else {}
    source.restore(made, {**state["system"], **averages})
    record: dict[str, Any] = {
        "format": FORMAT,
        "system": made.name,
        "options": dataclasses.asdict(made.config),
        "averaged": bool(averages),
        "step": state["step"],
        **_shapes(made),
        "classes": made.classes,
        "data": {name: state["data"].get(name) for name in KNOWN if name in state["data"]},
        "versions": versions(),
    }
    replace_file(path, write(made, record))
    return record


def _shapes(system: System) -> dict[str, list[int]]:
    """Of what it makes, and of what it makes it of."""
    shapes = {"image_shape": list(system.image_shape)} if isinstance(system, Generative | Translator) else {}
    if isinstance(system, Generative):
        shapes["latent_shape"] = list(system.latent(1, torch.Generator()).shape[1:])
    return shapes


def _weights(system: System, record: dict[str, Any]) -> bytes:
    tensors = {name: tensor.clone() for name, tensor in _generating(system).items()}
    save = _safetensors().save
    return save(tensors, {INSIDE: strict_json.dumps({**record, "sha256": _digest(record, save(tensors))})})


def read_export(path: str | os.PathLike[str], kind: str | type[System] | None = None) -> System:
    """The system of an exported .safetensors file on the CPU, in eval mode. Only its generator is trained.

    kind: as `fastgan.load` takes `system`.

    FileNotFoundError where there is no file, ValueError if it is damaged or not an exported generator, ImportError
    without the safetensors package.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise ValueError(f"the weights of an exported generator are in a file that ends in {SUFFIX}; {path} does not")
    safetensors = _safetensors()
    try:
        weights = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no file {path}; `fastgan export RUN --out {quoted(path)}` makes one"
        ) from None
    try:
        tensors = safetensors.load(weights)
    except Exception as error:  # SafetensorError derives from Exception alone
        raise ValueError(f"{path} is damaged, or not a safetensors file: {error}") from error
    record, what = _description(path, weights)
    try:
        with private():  # weights that are replaced by those of the file
            system = remade(record["system"], record["options"], kind, str(path))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} describes no system of this version: {error}") from error
    _check(tensors, _generating(system), path)
    floating = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), system.dtype)
    system.to(floating).load_state_dict(tensors, strict=False)
    system.told_of(record.get("data") or {})
    return system.eval()


def _description(path: Path, weights: bytes) -> tuple[dict[str, Any], str]:
    """What the weights are, and where that is written."""
    header = json.loads(_split(weights)[0])
    if text := header.get("__metadata__", {}).get(INSIDE):
        what, formats = str(path), (FORMAT,)
    else:
        beside = path.with_suffix(".json")
        if not beside.is_file():
            raise ValueError(f"{path} is damaged, or `fastgan export` did not write it: it does not say what it holds")
        text, what, formats = beside.read_bytes(), str(beside), (1,)
    record = _read(text, what, formats)
    digest = record.pop("sha256")
    if digest != (_digest(record, weights) if FORMAT in formats else hashlib.sha256(weights).hexdigest()):
        raise ValueError(f"{path} is damaged, or not what {what} describes: its SHA-256 is another. Export it again")
    return record, what


def _digest(record: dict[str, Any], weights: bytes) -> str:
    """SHA-256 of a description and of the tensors in a safetensors file."""
    return hashlib.sha256(strict_json.dumps(record).encode() + _split(weights)[1]).hexdigest()


def _split(weights: bytes) -> tuple[bytes, bytes]:
    """The header and the tensors of a safetensors file, whose first 8 bytes are the length of the header."""
    end = 8 + int.from_bytes(weights[:8], "little")
    return weights[8:end], weights[end:]


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
            raise ValueError(f"{path} {what} {some}: these are not the weights of the system described")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{name} in {path} has shape {tuple(tensor.shape)}, in the system described "
                f"{tuple(expected[name].shape)}"
            )


def _read(text: str | bytes, what: str, formats: tuple[int, ...]) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{what} is damaged: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{what} is damaged: its description must be an object")
    if record.get("format") not in formats:
        raise ValueError(f"{what} has format {record.get('format')!r}; this version reads format {FORMAT}")
    for key, kind in _RECORD.items():
        if not isinstance(record.get(key), kind):
            raise ValueError(f"{what} is damaged: {key} must be of type {kind.__name__}, not {record.get(key)!r}")
    return record


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            f".safetensors files need a package that is missing ({error}): pip install safetensors"
        ) from error
    return safetensors.torch
