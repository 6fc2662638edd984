"""class_loss against the sequences that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import ops
from fastgan.bench.timing import check_accuracy


@dataclass(frozen=True)
class ClassLossCase:
    """Value, gradients and logged means of the discriminator's loss over K classes: loss, backward, means."""

    form: str  # "auxiliary classifier": cross entropies of real and fake rows; "K + 1": Salimans et al. 2016
    rows: int  # of each kind
    classes: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __str__(self) -> str:
        return f"class_loss {self.form} {self.rows} rows of {self.classes} {str(self.dtype)[6:]}"

    @property
    def facts(self) -> dict[str, Any]:
        shape = [self.rows, self.classes]
        return {"op": "class_loss", "form": self.form, "shape": shape, "dtype": str(self.dtype)[6:]}

    def variants(self) -> dict[str, Callable[[], list[Tensor]]]:
        generator = torch.Generator().manual_seed(0)
        count = 2 if self.form == "auxiliary classifier" else 3
        leaves = [
            torch.randn(self.rows, self.classes, generator=generator).to(self.device, self.dtype).requires_grad_()
            for _ in range(count)
        ]
        labels = [torch.randint(self.classes, (self.rows,), generator=generator).to(self.device) for _ in range(2)]

        def eager() -> list[Tensor]:
            loss, means = self._plain([x.float() for x in leaves], labels)
            return [*self._backward(loss, leaves), *means]

        def fused() -> list[Tensor]:
            if count == 2:
                loss, means = ops.class_loss(leaves[0], labels[0], fake_logits=leaves[1], fake_labels=labels[1])
                logged = [means[0], means[1]]
            else:
                loss, means = ops.class_loss(leaves[0], labels[0], unlabelled_logits=leaves[1], fake_logits=leaves[2])
                logged = [means[0], means[2], means[3]]
            return [*self._backward(loss, leaves), *logged]

        exact_leaves = [x.detach().double().requires_grad_() for x in leaves]
        loss, means = self._plain(exact_leaves, labels)
        exact = [loss, *torch.autograd.grad(loss, exact_leaves), *means]
        names = ("loss", *(f"gradient {i}" for i in range(count)), *(f"mean {i}" for i in range(count)))
        check_accuracy(str(self), fused(), eager(), exact, names)
        return {"eager sequence": eager, "fastgan": fused}

    @staticmethod
    def _plain(logits: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The loss and what one logs, as PyTorch loops have them."""
        real, *others = logits

        def accuracy(x: Tensor, y: Tensor) -> Tensor:
            return (x.argmax(1) == y).to(x.dtype).mean()

        if len(others) == 1:
            loss = F.cross_entropy(real, labels[0]) + F.cross_entropy(others[0], labels[1])
            with torch.no_grad():
                return loss, [accuracy(real, labels[0]), accuracy(others[0], labels[1])]
        z_unlabelled, z_fake = (x.logsumexp(1) for x in others)
        unsupervised = F.softplus(-z_unlabelled).mean() + F.softplus(z_fake).mean()
        with torch.no_grad():
            means = [accuracy(real, labels[0]), z_unlabelled.sigmoid().mean(), z_fake.sigmoid().mean()]
        return F.cross_entropy(real, labels[0]) + 0.5 * unsupervised, means

    @staticmethod
    def _backward(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        loss.backward()
        return [loss, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def cuda_cases() -> Iterator[ClassLossCase]:
    yield ClassLossCase("auxiliary classifier", 512, 10, device="cuda")


def cases() -> Iterator[ClassLossCase]:
    for form in ("auxiliary classifier", "K + 1"):
        for rows, classes in ((64, 10), (512, 10), (256, 1000)):
            yield ClassLossCase(form, rows, classes)
    yield ClassLossCase("K + 1", 64, 10, torch.bfloat16)
