"""Small networks as people write them, in float64 so that a wrong formula shows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.3


def sequential() -> nn.Module:
    """A DCGAN discriminator, small."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 6, 4, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(6, 1, 4),
    )


class Generator(nn.Module):
    """The official PyTorch DCGAN example: the forward asks where its input is, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.ngpu = 1
        self.main = nn.Sequential(
            nn.ConvTranspose2d(3, 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(True),
            nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        if input.is_cuda and self.ngpu > 1:
            return nn.parallel.data_parallel(self.main, input, range(self.ngpu))
        return self.main(input)


class Residual(nn.Module):
    def __init__(self, down: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.downsample = nn.Conv2d(3, 3, 1) if down else None

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Functional(nn.Module):
    """Activations as functions and methods, one after every norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(15)])
        self.convs = nn.ModuleList([nn.Conv2d(3, 3, 3, padding=1) for _ in range(15)])
        self.slope = 0.1
        self.weight = nn.Parameter(torch.full((3,), 0.25))

    def forward(self, x):
        activations = (
            lambda h: F.relu(h, inplace=True),
            torch.relu,
            lambda h: h.relu_(),
            lambda h: F.leaky_relu(h, self.slope, True),
            lambda h: F.leaky_relu(h, SLOPE),
            lambda h: F.elu(h, alpha=0.7),
            lambda h: h.tanh(),
            lambda h: torch.sigmoid(h),
            lambda h: F.prelu(h, self.weight),
            F.leaky_relu_,
            F.elu_,
            F.tanh,
            F.sigmoid,
            F.silu,
            torch.relu_,
        )
        for conv, norm, activation in zip(self.convs, self.norms, activations):
            x = activation(norm(conv(x)))
        return x


class Shared(nn.Module):
    """One norm and one activation called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, momentum=0.5)
        self.act = nn.ELU()

    def forward(self, x):
        y = self.act(self.norm(self.conv(x)))
        return y + self.act(self.norm(self.conv(y * 2 + 1)))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(12, 5)
        self.norm = nn.BatchNorm1d(5, momentum=None)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.features(x.flatten(1))

    def features(self, x):
        return self.act(self.norm(self.body(x)))


class Inherited(Base):
    """super().forward, a method, a dictionary as output, and an argument with a default."""

    def forward(self, x, noise=0.0):
        h = super().forward(x)
        return {"features": h, "mean": h.mean(1) + noise}


class Volumes(nn.Module):
    """Every rank and both norms, without affine or with running statistics of instances."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4, affine=False), nn.PReLU(4, init=0.1))
        self.two = nn.Sequential(nn.Conv1d(4, 4, 3), nn.InstanceNorm1d(4, track_running_stats=True), nn.Sigmoid())
        self.three = nn.Sequential(nn.ConvTranspose3d(1, 2, 2), nn.InstanceNorm3d(2, affine=True), nn.PReLU())
        self.four = nn.Sequential(nn.Conv3d(2, 2, 2), nn.BatchNorm3d(2, track_running_stats=False), nn.LeakyReLU(0.2))
        self.five = nn.Sequential(nn.Conv2d(2, 2, 2), nn.InstanceNorm2d(2), nn.Identity(), nn.Tanh())

    def forward(self, x):
        x = self.two(self.one(x))
        x = self.four(self.three(x[:, None, :, :, None].expand(-1, -1, -1, -1, 3)))
        return self.five(x.flatten(3))


def named_sequential() -> nn.Module:
    return nn.Sequential(
        OrderedDict([("conv-1", nn.Conv2d(3, 4, 3)), ("norm", nn.BatchNorm2d(4, eps=0.8)), ("act", nn.ReLU())])
    )


def discriminator(norm: Callable[[nn.Module], nn.Module] = lambda conv: conv) -> nn.Module:
    """As in SNGAN, small: no norm of the maps, but of the weights."""
    return nn.Sequential(
        norm(nn.Conv2d(3, 6, 3, 1, 1)),
        nn.LeakyReLU(0.1),
        norm(nn.Conv2d(6, 6, 4, 2, 1)),
        nn.LeakyReLU(0.1, inplace=True),
        norm(nn.Conv2d(6, 4, 3, 1, 1, padding_mode="reflect")),
        nn.SiLU(),
        norm(nn.Conv2d(4, 1, 4)),
    )


class Convolutions(nn.Module):
    """Every convolution with every activation, as modules and as functions, with and without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(
            nn.Conv1d(2, 4, 3, padding="same"), nn.ReLU(), nn.Conv1d(4, 4, 2, groups=2), nn.PReLU(4)
        )
        self.up = nn.Sequential(nn.ConvTranspose1d(4, 2, 3, 2, output_padding=1), nn.Tanh())
        self.two = nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
            nn.ELU(0.7),
            nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1, dilation=2, bias=False),
            nn.Sigmoid(),
            nn.Conv2d(4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Flatten(2),
            nn.Unflatten(2, (26, 14)),
            nn.Conv2d(2, 2, 3, padding="same", padding_mode="replicate"),
            nn.ReLU(inplace=True),
        )
        self.three = nn.Conv3d(2, 2, (1, 2, 2))
        self.four = nn.ConvTranspose3d(2, 1, 2)
        self.weight = nn.Parameter(torch.full((2,), 0.25))

    def forward(self, x):
        x = self.up(self.one(x))
        x = self.two(x[..., None].expand(-1, -1, -1, 6))
        x = F.prelu(self.three(x[:, :, None]), self.weight)
        return F.leaky_relu(self.four(x), 0.3, inplace=True)


# Name -> (network, shape of an input, norms that are fused, activations with a convolution or alone, matrix products).
NETWORKS = {
    "sequential": (sequential, (4, 3, 16, 16), 1, 0, 1),
    "generator": (Generator, (4, 3, 1, 1), 2, 1, 1),
    "residual": (Residual, (4, 3, 5, 5), 2, 0, 0),
    "residual_down": (lambda: Residual(True), (4, 3, 5, 5), 2, 0, 0),
    "functional": (Functional, (4, 3, 5, 5), 15, 0, 0),
    "shared": (Shared, (4, 3, 5, 5), 2, 0, 0),
    "inherited": (Inherited, (4, 3, 2, 2), 1, 0, 0),
    "volumes": (Volumes, (4, 2, 12), 5, 1, 0),
    "named": (named_sequential, (4, 3, 6, 6), 1, 0, 0),
    "nested": (lambda: nn.Sequential(Residual(), nn.Sequential(Shared(), Residual())), (4, 3, 5, 5), 6, 0, 0),
    "convolutions": (Convolutions, (4, 2, 6), 0, 7, 0),
    "discriminator": (discriminator, (4, 3, 8, 8), 0, 3, 1),
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network and an input for it, the same at each call, in float64."""
    network, shape, *_ = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = network().double()
        for module in made.modules():
            for parameter in (getattr(module, "weight", None), getattr(module, "bias", None)):
                if isinstance(module, nn.modules.batchnorm._NormBase) and parameter is not None:
                    nn.init.uniform_(parameter, 0.5, 1.5)
        return made, torch.randn(shape, dtype=torch.float64)
