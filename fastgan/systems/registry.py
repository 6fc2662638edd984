"""Systems by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastgan.fusion import fused
from fastgan.systems.base import System
from fastgan.systems.config import build, nearest

_CLASSES = {
    "gan": "fastgan.systems.gan:GAN",
    "dcgan": "fastgan.systems.dcgan:DCGAN",
    "lsgan": "fastgan.systems.lsgan:LSGAN",
    "wgan": "fastgan.systems.wgan:WGAN",
    "wgan-gp": "fastgan.systems.wgan_gp:WGANGP",
    "sngan": "fastgan.systems.sngan:SNGAN",
    "sgan": "fastgan.systems.sgan:SGAN",
    "acgan": "fastgan.systems.acgan:ACGAN",
    "began": "fastgan.systems.began:BEGAN",
    "wngan": "fastgan.systems.wngan:WNGAN",
    "autoencoder": "fastgan.systems.autoencoder:Autoencoder",
}


def names() -> tuple[str, ...]:
    """Every system `create` knows."""
    return tuple(_CLASSES)


def find(name: str) -> type[System]:
    """The class of a system. ValueError with the nearest names where there is none."""
    if name not in _CLASSES:
        raise ValueError(f"no system {name!r}{nearest(name, names())}. Systems: {', '.join(names())}")
    module, attribute = _CLASSES[name].split(":")
    return getattr(import_module(module), attribute)


def create(name: str, **config: Any) -> System:
    """A new system with randomly initialised networks, fused: `create("dcgan", resolution=32, channels=1)`.

    Options that are not given keep the defaults of its paper. ValueError or TypeError for an unknown name, an unknown
    option (the nearest are suggested) or a bad value.
    """
    cls = find(name)
    return fused(cls(build(cls.Config, config, f"system {name}")))
