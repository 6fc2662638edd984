"""GANs that read like their papers, one a file."""

from fastgan.systems.base import Phase, System
from fastgan.systems.presets import Preset, preset
from fastgan.systems.registry import create, names

__all__ = ["Phase", "Preset", "System", "create", "names", "preset"]
