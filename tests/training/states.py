"""What a run has saved, and whether two runs saved the same."""

import torch

from fastgan.runs import checkpoint


def state(out):
    return checkpoint.load(out / "checkpoint.pt")


def best_of(state):
    """The score and the step of the best checkpoint so far."""
    return state["callbacks"]["evaluation"]["best"]


def same(a, b):
    """Equal bit for bit, whatever is nested in what."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b
