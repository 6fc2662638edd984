"""The losses of BEGAN, whose discriminator is an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.losses.checks import alike, at_least_float32, floating, number


class BoundaryEquilibrium(nn.Module):
    """The losses of BEGAN and the controller of their balance: Berthelot, Schumm, Metz 2017 (arXiv:1703.10717).

        L(v) = mean |v - D(v)|                       error(images, reconstructions)
        L_D  = L(x) - k L(G(z))                      discriminator(real_error, fake_error)
        L_G  = L(G(z))                               generator(fake_error)
        k   <- clip(k + lambda_k (gamma L(x) - L(G(z))), 0, 1)
        M    = L(x) + |gamma L(x) - L(G(z))|         update(real_error, fake_error), once a step, moves k and returns M

    gamma = E L(G(z)) / E L(x), the diversity ratio, in [0, 1]: a lower one gives better and more uniform images.
    k is a buffer, saved with the state_dict and at least float32 whatever dtype the module is cast to: a step of
    lambda_k is lost in bfloat16. It has no gradient, and no call waits for the device.

    Each process of a distributed run moves its own k: give `update` the errors averaged over the processes.

    Errors are 0-dimensional floating-point tensors. TypeError for other types, ValueError for other shapes and for
    numbers out of range.
    """

    k: Tensor

    def __init__(self, gamma: float = 0.5, lambda_k: float = 1e-3, k: float = 0.0) -> None:
        super().__init__()
        self.gamma = number(gamma, "gamma", high=1)
        self.lambda_k = number(lambda_k, "lambda_k")
        self.register_buffer("k", torch.tensor(number(k, "k", high=1), dtype=torch.float32))

    @staticmethod
    def error(images: Tensor, reconstructions: Tensor) -> Tensor:
        """mean |v - D(v)| of two tensors of one shape   ->   scalar, float32 (float64 for float64)."""
        alike(images, "images", reconstructions, "reconstructions")
        return (at_least_float32(images) - at_least_float32(reconstructions)).abs().mean()

    def discriminator(self, real_error: Tensor, fake_error: Tensor) -> Tensor:
        """L(x) - k L(G(z))   ->   scalar"""
        real, fake = _scalar(real_error, "real_error"), _scalar(fake_error, "fake_error")
        # A copy: `update` writes into k, and may be called before the backward pass.
        return real - self.k.to(fake.dtype, copy=True) * fake

    def generator(self, fake_error: Tensor) -> Tensor:
        """L(G(z))   ->   scalar"""
        return _scalar(fake_error, "fake_error")

    @torch.no_grad()
    def update(self, real_error: Tensor, fake_error: Tensor) -> Tensor:
        """Moves k; returns the measure of convergence M, a scalar without a graph."""
        real = _scalar(real_error, "real_error")
        balance = self.gamma * real - _scalar(fake_error, "fake_error")
        self.k.add_(self.lambda_k * balance).clamp_(0, 1)
        return real + balance.abs()

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}, lambda_k={self.lambda_k:g}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BoundaryEquilibrium:
        before = self.k
        super()._apply(fn, recurse)
        if self.k.dtype in (torch.float16, torch.bfloat16):
            self.k = before.to(self.k.device)
        return self


def _scalar(error: Any, name: str) -> Tensor:
    if floating(error, name).dim():
        raise ValueError(f"{name} must be a scalar, as error() returns it, not of shape {tuple(error.shape)}")
    return at_least_float32(error)
