"""The project's measure of truth: against float64, at most twice PyTorch's own error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def assert_as_accurate(
    ours: Sequence[Tensor | None],
    theirs: Sequence[Tensor | None],  # PyTorch's own result at the same dtype
    exact: Sequence[Tensor | None],  # float64
    names: Sequence[str],
) -> None:
    """max |ours - exact| <= 2 max |theirs - exact| + one unit in the last place of the largest value."""
    assert len(ours) == len(theirs) == len(exact) == len(names)
    for o, t, e, name in zip(ours, theirs, exact, names):
        if e is None:
            assert o is None, f"{name}: a result where there should be none"
            continue
        assert o is not None, f"{name}: no result"
        assert t is not None
        assert o.shape == e.shape, f"{name}: shape {tuple(o.shape)}, expected {tuple(e.shape)}"
        assert o.dtype == t.dtype, f"{name}: {o.dtype}, PyTorch gives {t.dtype}"
        if not e.numel():
            continue
        error, allowed = (o.double() - e).abs().max(), 2 * (t.double() - e).abs().max()
        ulps = 4 if o.dtype == torch.float64 else 1  # the float64 result that it is compared with is rounded as well
        allowed = allowed + ulps * torch.finfo(o.dtype).eps * e.abs().max()
        assert error <= allowed, f"{name}: error {error:.3e}, allowed {allowed:.3e}"  # false for NaN too


def assert_same_bits_for_any_number_of_threads(run: Callable[[], Any]) -> None:
    """All tensors that `run` returns."""
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)  # the next test begins with one again
        results.append(pytree.tree_leaves(run()))
    assert results[0]
    for values in zip(*results, strict=True):
        assert all(torch.equal(values[0], value) for value in values[1:])
