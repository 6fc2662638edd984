"""Systems of this package, of others and of the user's files, by name."""

import textwrap
from importlib.metadata import EntryPoint

import pytest

from fastgan import systems
from fastgan.systems import create, names, register, registry
from fastgan.systems.dcgan import DCGAN

MINE = """
from dataclasses import dataclass
from fastgan.systems.dcgan import DCGAN, DCGANConfig


@dataclass(frozen=True)
class MyConfig(DCGANConfig):
    width: int = 4


class MyGAN(DCGAN):
    name = "my-gan"
    Config = MyConfig
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "my.py"
    file.write_text(MINE)
    return file


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.mark.parametrize("name", ["{}", "{}:MyGAN"])
def test_in_a_file(mine, name):
    system = create(name.format(mine), resolution=16)
    assert (system.name, system.config.width) == ("my-gan", 4)
    assert registry.find(name.format(mine)) is type(system)  # the file is run once


def test_a_class(mine):
    cls = registry.find(str(mine))
    assert registry.find(cls) is cls
    assert create(cls, resolution=16).name == "my-gan"


def test_registered(mine):
    cls = register(registry.find(str(mine)))
    assert register(cls) is cls
    assert "my-gan" in names()
    assert type(create("my-gan", resolution=16)).__mro__[1] is cls or isinstance(create("my-gan", resolution=16), cls)
    with pytest.raises(ValueError, match="there is a system 'dcgan' already: give DCGAN another name"):
        register(DCGAN)


def test_entry_point(monkeypatch):
    entry = EntryPoint("theirs", "fastgan.systems.dcgan:DCGAN", registry.GROUP)
    bad = EntryPoint("bad", "collections:OrderedDict", registry.GROUP)
    monkeypatch.setattr(
        registry, "entry_points", lambda group, name=None: [e for e in (entry, bad) if name in (None, e.name)]
    )
    assert registry.find("theirs") is DCGAN
    assert "theirs" in names()
    with pytest.raises(TypeError, match="not collections:OrderedDict of the entry point 'bad'"):
        registry.find("bad")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "{}", r"my.py has no systems: a system is a subclass of fastgan.systems.System"),
        (MINE + "\nclass Other(MyGAN):\n    name = 'other'\n", "{}",
         r"has 2 systems \(MyGAN, Other\): name one, as .*my.py:MyGAN"),
        (MINE, "{}:MyGan", r"my.py has no 'MyGan' \(did you mean MyGAN\?\). Systems there: MyGAN"),
        (MINE, "{}x:MyGAN", "no system '.*my.pyx:MyGAN'"),
        (MINE + "\nthing = 3\n", "{}:thing", "a system is a subclass of fastgan.systems.System, not thing in"),
    ],
)  # fmt: skip
def test_a_file_without_it(tmp_path, text, name, message):
    file = tmp_path / "my.py"
    file.write_text(text)
    with pytest.raises((ValueError, TypeError), match=message):
        registry.find(name.format(file))


def test_a_file_that_fails_says_so_each_time(tmp_path):
    file = tmp_path / "my.py"
    file.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            registry.find(str(file))
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.py"):
        registry.find(str(tmp_path / "nowhere.py"))


def test_unfinished():
    class Half(systems.Generative):
        name = "half"
        Config = object

    with pytest.raises(TypeError, match="Half is not finished: it lacks generate, latent, phases"):
        registry.find(Half)

    class Nameless(DCGAN):
        pass

    del_name = type("Bare", (systems.Generative,), {})
    with pytest.raises(TypeError, match="Bare has no name and no Config"):
        registry.find(del_name)
    assert registry.find(Nameless) is Nameless


def test_needs_torch_alone():
    """A machine to measure on may have torch and little else."""
    import subprocess
    import sys

    code = textwrap.dedent("""
        import sys
        for name in ("PIL", "tqdm", "filelock", "yaml"):
            sys.modules[name] = None
        import torch
        from fastgan.data import Batch
        from fastgan.systems import create
        from fastgan.training import Step
        system = create("dcgan", resolution=16, width=4)
        print(sorted(Step(system)(Batch(image=torch.rand(4, 3, 16, 16) * 2 - 1)))[0])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "discriminator/fake\n", done.stderr
