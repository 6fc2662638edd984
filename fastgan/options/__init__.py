"""Options are fields of frozen dataclasses, each written once: its type, default, meaning, bounds, and whether a run
that goes on may change it. Checks, errors, YAML, the command line and the tables of the guides follow from them.

    @dataclass(frozen=True)
    class Config(Options):
        width: int = option(64, "channels of the largest maps", least=1)

    build(Config, {"width": 0}, "system dcgan")   # ValueError: system dcgan: width must be at least 1, not 0
"""

from fastgan.options.fields import Option, Options, option, options
from fastgan.options.reading import build, checked, former, from_text, no_option
from fastgan.options.values import text
from fastgan.options.words import known_as, nearest

__all__ = [
    "Option",
    "Options",
    "build",
    "checked",
    "former",
    "from_text",
    "known_as",
    "nearest",
    "no_option",
    "option",
    "options",
    "text",
]
