"""A field says everything of an option; a wrong value of any option of anything is one clear error."""

import math
import typing
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.nn.augment import _POLICIES
from fastgan.options import Options, build, former, from_text, groups, no_option, option, options, text
from fastgan.runs.settings import Config, Settings
from fastgan.systems import create, names
from fastgan.systems.registry import find

CLASSES = {"a run": Config, **{f"system {name}": find(name).Config for name in names()}}
EACH = [(owner, each) for owner, cls in CLASSES.items() for each in options(cls)]
NUMBERS = st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6)


@dataclass(frozen=True)
class Base(Options):
    size: int = option(1, "of it", least=1, on_resume="differs")
    share: float = option(0.5, "of them", above=0, below=1)
    color: str = option("red", "by name", choices=("red", "blue"))
    rates: tuple[float, float] = option((0.1, 0.2), "of both", least=0)
    side: int | None = option(None, "none: as it is", multiple=4)
    several: tuple[str, ...] = ()


@dataclass(frozen=True)
class Derived(Base):
    size: int = 3
    share: float = option(0.25, "of others")


class TestFields:
    def test_a_subclass_has_of_its_base_what_it_does_not_say(self):
        size, share, *_ = options(Derived)
        assert (size.default, size.help, size.least, size.on_resume) == (3, "of it", 1, "differs")
        assert (share.default, share.help, share.above, share.on_resume) == (0.25, "of others", 0, "never")

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ({"size": 0}, ValueError, "size must be at least 1, not 0"),
            ({"size": 2.0}, TypeError, "size must be a whole number, not 2.0"),
            ({"share": 1}, ValueError, "share must be above 0 and below 1, not 1.0"),
            ({"share": math.nan}, ValueError, "share must be a finite number, not nan"),
            ({"color": "green"}, ValueError, "color must be one of red, blue, not 'green'"),
            ({"rates": (0.5, -1)}, ValueError, "rates must each be at least 0, not -1.0"),
            ({"rates": (0.5,)}, TypeError, r"rates must be 2 values (a number, a number), not (0.5,)"),
            ({"side": 6}, ValueError, "side must be a multiple of 4, not 6"),
            ({"several": [1]}, TypeError, "several must be text, not 1"),
        ],
    )
    def test_says_what_is_wrong(self, values, error, message):
        for make in (lambda: Base(**values), lambda: build(Base, values, "")):
            with pytest.raises(error) as caught:
                make()
            assert str(caught.value) == message
        with pytest.raises(error, match=r"^system x: "):
            build(Base, values, "system x")

    def test_takes_what_yaml_and_the_command_line_have(self):
        assert build(Base, {"rates": [1, 2], "share": 0.5, "several": ["a"]}, "") == Base(
            rates=(1.0, 2.0), several=("a",)
        )
        texts = {"size": "2", "rates": "[1, 2]", "side": "none", "several": "a, b", "color": "blue"}
        assert build(Base, from_text(Base, texts, ""), "") == Base(2, 0.5, "blue", (1.0, 2.0), None, ("a", "b"))


@pytest.mark.parametrize(("owner", "each"), EACH, ids=lambda value: getattr(value, "name", value))
def test_every_option_is_explained_and_its_default_is_one_that_it_takes(owner, each):
    assert each.help or each.name == "options"
    assert not each.help.endswith(".")
    assert each.checked(each.default) == each.default
    if each.name not in ("options", "graph"):
        assert (
            each.checked(from_text(CLASSES[owner], {each.name: text(each.default)}, owner)[each.name]) == each.default
        )


def accepts(each, value):
    """Whether the option's own words take it, written anew: not by the code that is tested."""
    hints = {*typing.get_args(each.hint)} or {each.hint}
    if isinstance(value, bool) or value is None:
        right = type(value) in hints
    else:
        right = type(value) in hints or (isinstance(value, int) and float in hints)
    if not right or typing.get_origin(each.hint) in (tuple, dict):
        return False
    if value is None or isinstance(value, bool | str):
        return each.choices is None or value is None or value in each.choices
    return (
        math.isfinite(value)
        and (each.choices is None or value in each.choices)
        and (each.least is None or value >= each.least)
        and (each.most is None or value <= each.most)
        and (each.above is None or value > each.above)
        and (each.below is None or value < each.below)
        and (not each.multiple or value % each.multiple == 0)
    )


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(EACH), NUMBERS | st.booleans() | st.none() | st.sampled_from([math.inf, -math.inf, math.nan]))
def test_a_wrong_value_is_one_clear_error(which, value):
    owner, each = which
    if accepts(each, value):
        assert each.checked(value) == value
        return
    with pytest.raises((ValueError, TypeError)) as caught:
        build(CLASSES[owner], {each.name: value}, owner)
    message = str(caught.value)
    assert message.startswith(f"{owner}: {each.name} must ")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    said = {repr(value), text(value), *([text(float(value))] if number else [])}
    assert any(f", not {word}" in message for word in said)
    assert "\n" not in message


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(list(CLASSES)), st.text(min_size=1, max_size=12))
def test_an_unknown_key_is_an_error_that_lists_the_known(owner, key):
    known = [each.name for each in options(CLASSES[owner])]
    if key in known:
        return
    with pytest.raises(ValueError, match="has no option") as caught:
        build(CLASSES[owner], {key: 1}, owner)
    assert str(caught.value).startswith(f"{owner} has no option {key!r}")
    assert ", ".join(known) in str(caught.value)


class TestFamilies:
    def test_a_system_says_why_it_has_none(self):
        for name in names():
            config = find(name).Config
            for family, reason in config.without.items():
                for each in options(family):
                    assert each.name not in {other.name for other in options(config)}
                    assert reason in str(no_option(config, each.name, name))

    def test_options_of_a_former_version_are_left_out_at_their_defaults(self):
        wgan = find("wgan").Config
        assert former(wgan, {"betas": [0.5, 0.999], "label_noise": 0.0, "clip": 0.1}) == {"clip": 0.1}
        assert former(wgan, {"label_noise": 0.5}) == {"label_noise": 0.5}

    def test_words_that_stand_in_two_places_are_the_same(self):
        assert set(groups.AUGMENTATIONS) == set(_POLICIES)

    def test_no_option_of_a_system_is_called_as_one_of_the_training(self):
        run = {each.name for each in options(Config)}
        assert not [each.name for name in names() for each in options(find(name).Config) if each.name in run]


def test_a_system_at_work_changes_what_is_live_and_nothing_else():
    system = create("gan", resolution=8, channels=1, latent=4, width=4)
    generator, r1 = system.generator, system.r1
    system.change(r1=2.0, augment="cutout", label_noise=0.1)
    assert system.generator is generator
    assert system.r1 is r1
    assert (r1.penalty.keywords["gamma"], system.augment.policy, system.loss.label_noise) == (2.0, ("cutout",), 0.1)
    with pytest.raises(ValueError, match=r"what may change in a system at work is label_smoothing, .*, not width"):
        system.change(width=8)
    with pytest.raises(ValueError, match="r1 must be at least 0, not -1"):
        system.change(r1=-1)
    assert system.config.r1 == 2.0
    assert [each.name for each in options(Settings) if each.on_resume == "live"] == []
