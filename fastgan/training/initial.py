"""The weights of a trained run as the beginning of another one: what fits is taken, what does not is said."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.runs import checkpoint
from fastgan.runs.run import Run
from fastgan.systems import System
from fastgan.training.nonfinite import below

WRAPPERS = ("params_ema", "state_dict", "model", "params")  # names that a state_dict lies under
NAMED = 3  # tensors of a network that are named, of those that are left


def start_from(system: System, path: str | os.PathLike[str]) -> list[str]:
    """Give the networks of `system` the weights in `path`, and return a line for each of them.

    path: the directory of a run, one of its checkpoints, a .safetensors file such as `fastgan export` writes, or a
        file of torch.save that holds a state_dict, of the system or of its generator alone. Of a run, the networks that
        samples come from are taken with their averaged weights, where it kept some.

    A tensor is taken where one of its name has its shape; a counter or a class embedding of another size stays as it
    was. Nothing is unpickled beyond tensors and plain containers. FileNotFoundError where there is nothing, ValueError
    for a damaged file or where nothing fits, ImportError without the safetensors package.
    """
    path = Path(path)
    found = _read(path)
    own = {name: tensor for name, tensor in system.state_dict(keep_vars=True).items() if "." in name}
    networks = [name for name, network in system.named_children() if any(True for _ in network.parameters())]
    if not any(name.partition(".")[0] in networks for name in found):  # a state_dict of one network
        found = {f"{system.averaged[0]}.{name}": tensor for name, tensor in found.items()}
    taken, lines = 0, []
    for network in networks:
        mine = {name: tensor for name, tensor in own.items() if name.partition(".")[0] == network}
        fitting = [name for name in mine if name in found and found[name].shape == mine[name].shape]
        with torch.no_grad():
            for name in fitting:
                mine[name].copy_(found[name])
        taken += len(fitting)
        lines.append(f"took {len(fitting)} of {len(mine)} tensors of {network} from {path}{_left(mine, found)}")
    if not taken:
        raise ValueError(
            f"nothing in {path} fits the networks of {system.name}: it holds {_some(found)}; wanted are {_some(own)}"
        )
    return lines


def _left(mine: dict[str, Tensor], found: dict[str, Tensor]) -> str:
    left = [
        f"{name.partition('.')[2]} {tuple(tensor.shape)} here, "
        + (f"{tuple(found[name].shape)} there" if name in found else "none there")
        for name, tensor in mine.items()
        if name not in found or found[name].shape != tensor.shape
    ]
    more = f"; and {len(left) - NAMED} more" if len(left) > NAMED else ""
    return f"; left: {'; '.join(left[:NAMED])}{more}" if left else ""


def _some(tensors: dict[str, Tensor]) -> str:
    names = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:NAMED]]
    return ", ".join(names) + (f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else "") or "no tensors"


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return _of_run(Run(path).read())
    if not path.is_file():
        raise FileNotFoundError(f"there is no run and no file {path} to start from")
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path)
    if (checkpoint.identity(path) or b"").startswith(b"sha256:"):
        return _of_run(checkpoint.load(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain containers, which is not read: save "
            "network.state_dict() of it"
        ) from error
    return dict(_tensors(state))


def _of_run(state: dict[str, Any]) -> dict[str, Tensor]:
    averages = state["ema"]["averages"] if state.get("ema") else {}
    return {**state["system"], **averages}


def _tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Those in a state_dict, also where it lies beside others, as many trainings save it."""
    while isinstance(state, dict) and (
        inner := [state[name] for name in WRAPPERS if isinstance(state.get(name), dict)]
    ):
        state = inner[0]
    yield from below(state)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            f"{path} is read with the package safetensors, which is missing ({error}): pip install safetensors"
        ) from error
    try:
        return safetensors.torch.load(path.read_bytes())
    except Exception as error:  # SafetensorError derives from Exception alone
        raise ValueError(f"{path} is damaged, or not a safetensors file: {error}") from error
