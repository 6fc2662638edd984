"""Files of weights: read without running what is in them, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

BLOCK = 1 << 20  # bytes
N = TypeVar("N", bound=nn.Module)


def check(path: Path, wanted: str, advice: str) -> str:
    """The SHA-256 of a file. ValueError, with the advice, where it does not begin with `wanted`."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    if not found.hexdigest().startswith(wanted):
        raise ValueError(
            f"{path} is damaged, {advice}: its SHA-256 must begin with {wanted[:16]}, not with {found.hexdigest()[:16]}"
        )
    return found.hexdigest()


def read(path: Path) -> Any:
    """What torch.save wrote: tensors and plain containers alone. ValueError for anything else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, such as code, which is not run: give what "
            f"torch.save(network.state_dict(), FILE) wrote"
        ) from error


def filled(build: Callable[[], N], state: Any, path: Path, what: str) -> N:
    """The network with these weights, float32 on the CPU.

    ValueError, which says that `path` must hold `what`, where they are those of another network or not finite.
    """
    with torch.device("meta"):  # no random number is drawn for weights that are replaced
        network = build()
    own = network.state_dict()
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold {what}, not other things than tensors by their names")
    strange = [
        *(f"no {name} {tuple(value.shape)}" for name, value in own.items()
          if name not in state or state[name].shape != value.shape),
        *(f"{name}, which it does not have" for name in state if name not in own),
    ]  # fmt: skip
    if strange:
        raise ValueError(f"{path} must hold {what}, not those of another network: there is {strange[0]}")
    if not all(value.isfinite().all() for value in state.values()):
        raise ValueError(f"{path} must hold {what}, not NaN or infinity")
    network.load_state_dict({name: state[name].to(value.dtype) for name, value in own.items()}, assign=True)
    return network
