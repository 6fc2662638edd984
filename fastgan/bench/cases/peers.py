"""The DCGAN step as a user of plain PyTorch has it: the recipe of pytorch/examples dcgan/main.py, written anew."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.training.graph import WARM


def generator(latent: int = 100, width: int = 64, channels: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    sizes = [latent, width * 8, width * 4, width * 2, width]
    for index, (before, after) in enumerate(pairwise(sizes)):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU(True)]
    layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(width: int = 64, channels: int = 3, sigmoid: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for factor in (1, 2, 4):
        layers += [nn.Conv2d(width * factor, width * factor * 2, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width * factor * 2), nn.LeakyReLU(0.2, inplace=True)]
    layers += [nn.Conv2d(width * 8, 1, 4, 1, 0, bias=False)]
    return nn.Sequential(*layers, *([nn.Sigmoid()] if sigmoid else []))


def initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class DCGANStep:
    """One iteration of the example's loop: step(images) -> the losses as numbers.

    As published: float32, contiguous. `transform` is applied to both networks (torch.compile, fastgan.fuse).
    bfloat16 needs logits: BCELoss refuses to run under autocast. `optimizer`: more of Adam's options.
    """

    def __init__(
        self,
        *,
        channels_last: bool = False,
        bfloat16: bool = False,
        transform: Callable[[nn.Module], nn.Module] = lambda network: network,
        device: str = "cpu",
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        torch.manual_seed(0)
        networks = generator(), discriminator(sigmoid=not bfloat16)
        for network in networks:
            network.apply(initialise)
            if channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            network.to(device)
        # Optimizers hold the parameters, which no transform replaces.
        self.device = device
        options = dict(optimizer or {})
        self.optimizers = [
            torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), **options) for network in networks
        ]
        self.plain_networks = networks
        with warnings.catch_warnings():  # the published discriminator ends in a Sigmoid, as its BCELoss wants
            warnings.filterwarnings("ignore", "fuse: .*Sigmoid", UserWarning)
            self.netG, self.netD = (transform(network) for network in networks)
        self.criterion: nn.Module = nn.BCEWithLogitsLoss() if bfloat16 else nn.BCELoss()
        self.bfloat16 = bfloat16

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device, torch.bfloat16) if self.bfloat16 else nullcontext()

    def __call__(self, images: Tensor) -> tuple[float, float]:
        loss_d, loss_g = self.losses(images)
        return loss_d.item(), loss_g.item()

    def losses(self, images: Tensor) -> tuple[Tensor, Tensor]:
        optimizer_g, optimizer_d = self.optimizers
        batch = images.shape[0]
        self.netD.zero_grad()
        label = torch.full((batch,), 1.0, device=self.device)
        with self.autocast():
            loss_real = self.criterion(self.netD(images).view(-1).float(), label)
        loss_real.backward()
        noise = torch.randn(batch, 100, 1, 1, device=self.device)
        with self.autocast():
            fake = self.netG(noise)
            label.fill_(0.0)
            loss_fake = self.criterion(self.netD(fake.detach()).view(-1).float(), label)
        loss_fake.backward()
        optimizer_d.step()
        self.netG.zero_grad()
        label.fill_(1.0)
        with self.autocast():
            loss_g = self.criterion(self.netD(fake).view(-1).float(), label)
        loss_g.backward()
        optimizer_g.step()
        return (loss_real + loss_fake).detach(), loss_g.detach()


class CapturedStep:
    """The same step of stock modules, recorded by hand as PyTorch's documentation shows: step(images) -> losses.

    The losses lie where the next call writes them.
    """

    def __init__(self, images: Tensor, **how: Any) -> None:
        step = DCGANStep(device="cuda", optimizer={"fused": True, "capturable": True}, **how)
        self.images = images.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                step.losses(self.images)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = step.losses(self.images)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.images.copy_(images)
        self.graph.replay()
        return self.losses
