"""The initialisations of the GAN papers, each for a whole network: `fastgan.nn.init.dcgan(generator)`.

Each draws the weights of every convolution and linear layer in `network`, zeroes their biases, sets normalisations to
weight 1 (but see dcgan) and bias 0, and returns `network`. Embeddings and all other parameters are left as they are.
Of a spectrally normalised weight the raw one is drawn; a weight-normalised one, which is stored as length and
direction, is set to the drawn value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

N = TypeVar("N", bound=nn.Module)


def dcgan(network: N) -> N:
    """Weights N(0, 0.02), normalisation weights N(1, 0.02): Radford et al. 2016; pix2pix and CycleGAN too."""
    return _initialise(network, lambda w: nn.init.normal_(w, 0.0, 0.02), lambda w: nn.init.normal_(w, 1.0, 0.02))


def xavier(network: N, gain: float = 1.0) -> N:
    """Weights U(-a, a) with a = gain sqrt(6 / (fan_in + fan_out)): Glorot and Bengio 2010. SimGAN; SNGAN has gain
    sqrt(2) in its residual branches and 1 elsewhere."""
    return _initialise(network, lambda w: nn.init.xavier_uniform_(w, gain))


def he(network: N) -> N:
    """Weights U(-a, a) with a = sqrt(6 / fan_in): He et al. 2015. The residual networks of WGAN-GP."""
    return _initialise(network, lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"))


def orthogonal(network: N, gain: float = 1.0) -> N:
    """Weights orthogonal as (out, in * kernel) matrices: Saxe et al. 2014. BigGAN."""
    return _initialise(network, lambda w: nn.init.orthogonal_(w, gain))


def uniform(network: N, bound: float = 0.05) -> N:
    """Weights U(-bound, bound): the first GAN (Goodfellow et al. 2014), 0.05 in G and 0.005 in D."""
    return _initialise(network, lambda w: nn.init.uniform_(w, -bound, bound))


def normal(network: N, deviation: float = 0.05) -> N:
    """Weights N(0, deviation): Salimans et al. 2016."""
    return _initialise(network, lambda w: nn.init.normal_(w, 0.0, deviation))


@torch.no_grad()
def _initialise(network: N, draw: Callable[[Tensor], object], norm: Callable[[Tensor], object] = nn.init.ones_) -> N:
    if not isinstance(network, nn.Module):
        raise TypeError(f"an initialisation takes a torch.nn.Module and returns it, not {type(network).__name__}")
    for module in network.modules():
        if isinstance(module, _ConvNd | nn.Linear):
            _draw(module, "weight", draw)
            _draw(module, "bias", nn.init.zeros_)
        elif isinstance(module, _NormBase):
            _draw(module, "weight", norm)
            _draw(module, "bias", nn.init.zeros_)
    return network


def _draw(module: nn.Module, name: str, draw: Callable[[Tensor], object]) -> None:
    parametrizations = getattr(module, "parametrizations", {})
    if name in parametrizations:
        steps = parametrizations[name]
        if hasattr(steps, "original"):
            draw(steps.original)
        else:  # several originals: the assignment splits the value into them
            value = torch.empty_like(getattr(module, name))
            draw(value)
            setattr(module, name, value)
        return
    raw = getattr(module, f"{name}_orig", None)  # torch.nn.utils.spectral_norm
    parameter = getattr(module, name) if raw is None else raw
    if parameter is None:
        return
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise ValueError(f"{type(module).__name__} has no shape yet: run one forward, then initialise")
    if hasattr(module, f"{name}_g"):  # torch.nn.utils.weight_norm
        direction, length = getattr(module, f"{name}_v"), getattr(module, f"{name}_g")
        draw(direction)
        over = [d for d in range(direction.dim()) if length.shape[d] == 1 and direction.shape[d] != 1]
        length.copy_(torch.linalg.vector_norm(direction, dim=over, keepdim=True))
        return
    draw(parameter)
