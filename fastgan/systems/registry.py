"""Systems by name: those of this package, those that other packages register, and those in files of the user's."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fastgan.fusion import fused
from fastgan.options import build, nearest
from fastgan.systems.base import System

GROUP = "fastgan.systems"  # of entry points: name = "package.module:Class"
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
    "pix2pix": "fastgan.systems.pix2pix:Pix2Pix",
    "cyclegan": "fastgan.systems.cyclegan:CycleGAN",
    "colorization": "fastgan.systems.colorization:Colorization",
    "pairedcyclegan": "fastgan.systems.pairedcyclegan:PairedCycleGAN",
    "simgan": "fastgan.systems.simgan:SimGAN",
    "srgan": "fastgan.systems.srgan:SRGAN",
    "context-encoder": "fastgan.systems.context_encoder:ContextEncoder",
}
_registered: dict[str, type[System]] = {}


def names() -> tuple[str, ...]:
    """Every name that `create` knows: of this package, registered, and of installed packages."""
    return tuple(dict.fromkeys([*_CLASSES, *_registered, *(entry.name for entry in entry_points(group=GROUP))]))


def register(cls: type[System]) -> type[System]:
    """A decorator: `create`, `Trainer` and `fastgan.load` know the class by its `name` from then on, in this process.

    An installed package has its systems known everywhere by an entry point of the group "fastgan.systems". ValueError
    for a name that another class has.
    """
    check(cls, cls.__qualname__)
    if cls.name in _CLASSES or _registered.get(cls.name, cls).__qualname__ != cls.__qualname__:
        raise ValueError(f"there is a system {cls.name!r} already: give {cls.__qualname__} another name")
    _registered[cls.name] = cls
    return cls


def find(name: str | type[System]) -> type[System]:
    """The class of a system: by its name, as FILE.py or FILE.py:CLASS, or the class itself.

    ValueError with the nearest names where there is none, or for a file with no or several systems in it.
    """
    if isinstance(name, type):
        return check(name, name.__qualname__)
    if name in _registered:
        return _registered[name]
    if name in _CLASSES:
        module, attribute = _CLASSES[name].split(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group=GROUP, name=name):
        return check(entry.load(), f"{entry.value} of the entry point {name!r}")
    file, attribute = _split(name)
    if file:
        return _in_file(file, attribute)
    raise ValueError(
        f"no system {name!r}{nearest(name, names())}. Systems: {', '.join(names())}; or a file of yours, as my.py:MyGAN"
    )


def create(name: str | type[System], **config: Any) -> System:
    """A new system with randomly initialized networks, fused: `create("dcgan", resolution=32, channels=1)`.

    name: see `find`. Options that are not given keep the defaults of its paper. ValueError or TypeError for an unknown
    name, an unknown option (the nearest are suggested) or a bad value.
    """
    cls = find(name)
    return fused(cls(build(cls.Config, config, f"system {cls.name}")))


def check(cls: Any, what: str) -> type[System]:
    """The class, if it is one of a system that can be made. TypeError, which says what is missing."""
    if not (isinstance(cls, type) and issubclass(cls, System)):
        raise TypeError(f"a system is a subclass of fastgan.systems.System, not {what}")
    if missing := [name for name in ("name", "Config") if not hasattr(cls, name)]:
        raise TypeError(f"{what} has no {' and no '.join(missing)}: a system names itself and the class of its options")
    if inspect.isabstract(cls):
        raise TypeError(f"{what} is not finished: it lacks {', '.join(sorted(cls.__abstractmethods__))}")
    return cls


def _split(name: str) -> tuple[str, str]:
    """FILE.py:CLASS or FILE.py as file and class; two empty ones for what names no file."""
    if name.endswith(".py"):
        return name, ""
    file, _, attribute = name.rpartition(":")
    return (file, attribute) if file.endswith(".py") else ("", "")


def _in_file(path: str, attribute: str) -> type[System]:
    """The system of that name, or the only one, in a file of the user's, which is run once."""
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"there is no file {path}: a system of yours is FILE.py:CLASS")
    module_name = f"fastgan_system_{file.stem}_{abs(hash(str(file)))}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, System) and value.__module__ == module_name
    }
    if attribute:
        if not hasattr(module, attribute):
            raise ValueError(f"{path} has no {attribute!r}{nearest(attribute, own)}. Systems there: {_listed(own)}")
        return check(getattr(module, attribute), f"{attribute} in {path}")
    if len(own) != 1:
        raise ValueError(
            f"{path} has {len(own) or 'no'} systems{f' ({_listed(own)})' if own else ''}: "
            + (f"name one, as {path}:{next(iter(own))}" if own else "a system is a subclass of fastgan.systems.System")
        )
    return check(next(iter(own.values())), f"{next(iter(own))} in {path}")


def _listed(classes: dict[str, type]) -> str:
    return ", ".join(classes) or "none"
