"""The comments beside the options of a system, as `fastgan systems NAME` shows them."""

from dataclasses import dataclass

import pytest

from fastgan.systems import names
from fastgan.systems.options import options
from fastgan.systems.registry import find


@dataclass(frozen=True)
class Base:
    """A string # that is no comment."""

    size: int = 1  # of it
    color: str = "#ff0000"  # as in HTML
    silent: bool = False
    # on a line of its own
    # and another
    long: float = 0.5
    several: int = (  # fmt: skip
        2  # inside
    )  # behind

    def method(self):  # no option
        return 1


@dataclass(frozen=True)
class Derived(Base):
    size: int = 3
    color: str = "red"  # by name


def test_stand_behind_or_before():
    found = {name: (default, meaning) for name, default, meaning in options(Base)}
    assert found == {
        "size": (1, "of it"),
        "color": ("#ff0000", "as in HTML"),
        "silent": (False, ""),
        "long": (0.5, "on a line of its own and another"),
        "several": (2, "fmt: skip inside behind"),
    }


def test_are_inherited():
    found = {name: (default, meaning) for name, default, meaning in options(Derived)}
    assert found["size"] == (3, "of it")
    assert found["color"] == ("red", "by name")


def test_without_a_source():
    space = {"dataclass": dataclass, "__name__": "nowhere"}
    exec("@dataclass(frozen=True)\nclass Made:\n    size: int = 1  # of it", space)
    assert options(space["Made"]) == [("size", 1, "")]


@pytest.mark.parametrize("name", names())
def test_every_option_has_one(name):
    assert not [option.name for option in options(find(name).Config) if not option.meaning]
