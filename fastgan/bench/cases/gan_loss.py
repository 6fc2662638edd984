"""gan_loss against the sequence that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import ops
from fastgan.bench.timing import check_accuracy


def _plain(kind: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The discriminator's loss and the two means that one logs, as PyTorch loops have them."""
    real, fake = real.view(-1).float(), fake.view(-1).float()
    if kind == "non_saturating":
        loss = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        loss = loss + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
        with torch.no_grad():
            return loss, real.sigmoid().mean(), fake.sigmoid().mean()
    if kind == "hinge":
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    else:
        loss = 0.5 * F.mse_loss(real, torch.ones_like(real)) + 0.5 * F.mse_loss(fake, torch.zeros_like(fake))
    with torch.no_grad():
        return loss, real.mean(), fake.mean()


@dataclass(frozen=True)
class GanLossCase:
    """Value, gradients and logged means of the discriminator's loss: loss, backward, means."""

    kind: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __str__(self) -> str:
        return f"gan_loss {self.kind} {self.shape} {str(self.dtype)[6:]}"

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": "gan_loss", "kind": self.kind, "shape": list(self.shape), "dtype": str(self.dtype)[6:]}

    def variants(self) -> dict[str, Callable[[], list[Tensor]]]:
        generator = torch.Generator().manual_seed(0)
        leaves = [
            torch.randn(self.shape, generator=generator).to(self.device, self.dtype).requires_grad_() for _ in range(2)
        ]

        def eager() -> list[Tensor]:
            loss, real, fake = _plain(self.kind, *leaves)
            return [*self._backward(loss, leaves), real, fake]

        def fused() -> list[Tensor]:
            loss, means = ops.gan_loss(*leaves, kind=self.kind)
            return [*self._backward(loss, leaves), means[0], means[1]]

        exact_leaves = [t.detach().double().requires_grad_() for t in leaves]
        loss = _double(self.kind, exact_leaves[0], True) + _double(self.kind, exact_leaves[1], False)
        exact = [loss, *torch.autograd.grad(loss, exact_leaves)]
        exact += [(t.sigmoid() if self.kind == "non_saturating" else t).mean() for t in exact_leaves]
        names = ("loss", "grad real", "grad fake", "mean real", "mean fake")
        check_accuracy(str(self), fused(), eager(), exact, names)
        return {"eager sequence": eager, "fastgan": fused}

    @staticmethod
    def _backward(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        loss.backward()
        return [loss, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _double(kind: str, x: Tensor, real: bool) -> Tensor:
    sign = 1 if real else -1
    if kind == "non_saturating":
        return torch.log1p(torch.exp(-sign * x)).mean()
    return (1 - sign * x).clamp(min=0).mean() if kind == "hinge" else (x - int(real)).square().mean() / 2


def cuda_cases() -> Iterator[GanLossCase]:
    for batch in (128, 1024):
        yield GanLossCase("non_saturating", (batch, 1, 1, 1), device="cuda")


def cases() -> Iterator[GanLossCase]:
    for batch in (64, 256, 1024, 4096):
        yield GanLossCase("non_saturating", (batch, 1, 1, 1))
    yield GanLossCase("non_saturating", (64, 1, 1, 1), torch.bfloat16)
    yield GanLossCase("hinge", (64, 1))
    yield GanLossCase("least_squares", (4, 1, 30, 30))  # a PatchGAN discriminator
