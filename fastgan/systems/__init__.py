"""GANs that read like their papers, one a file."""

from fastgan.systems.base import Output, Phase, System
from fastgan.systems.generative import Generative
from fastgan.systems.pool import ImagePool
from fastgan.systems.presets import Preset, preset
from fastgan.systems.registry import create, names, register
from fastgan.systems.remedies import Remedy
from fastgan.systems.sequences import Sequences
from fastgan.systems.text_to_image import TextToImage
from fastgan.systems.translator import Example, Translator

__all__ = [
    "Example", "Generative", "ImagePool", "Output", "Phase", "Preset", "Remedy", "Sequences", "System", "TextToImage",
    "Translator", "create", "names", "preset", "register",
]  # fmt: skip
