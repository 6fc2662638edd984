"""fastgan explain FILE:FACTORY, as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fastgan.cli import main

NETWORKS = """
import sys
from dataclasses import dataclass
from layers import block  # beside this file
from torch import nn

print("loaded as", __name__, sys.argv)


class Discriminator(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.main = nn.Sequential(*block(3, width), nn.Conv2d(width, 1, 4), nn.Sigmoid())

    def forward(self, x):
        return self.main(x) if x.is_cuda else self.main(x)


class Zoo:
    small = Discriminator(2)

    @staticmethod
    def make():
        import late  # found while the factory runs, too

        return nn.Sequential(*block(3, late.WIDTH))


@dataclass
class Settings:
    width: int = 4


def of_width(width, *, depth, channels=3):
    return Discriminator(width)


def fails():
    raise KeyError("no such\\nthing")


def leaves():
    sys.exit(3)


generator = nn.Sequential(*block(3, 4))
number = 3

if __name__ == "__main__":
    raise SystemExit("this ran as a script")
"""
LAYERS = """
from torch import nn


def block(before, after):
    return nn.Conv2d(before, after, 3), nn.BatchNorm2d(after), nn.ReLU()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "networks.py").write_text(NETWORKS)
    (tmp_path / "layers.py").write_text(LAYERS)
    (tmp_path / "late.py").write_text("WIDTH = 5")
    (tmp_path / "wrong.py").write_text("def f(:")
    (tmp_path / "needy.py").write_text("import not_installed_anywhere")
    (tmp_path / "script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--steps'])")
    monkeypatch.chdir(tmp_path)
    known, path = set(sys.modules), list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def shown(capsys, *arguments):
    assert main(["explain", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def error(capsys, source):
    """The last line on stderr, without a traceback."""
    assert main(["explain", str(source)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1].removeprefix("fastgan: error: ")


class TestShows:
    @pytest.mark.parametrize("source", ["networks.py:Discriminator", "networks:Discriminator", "networks.py:Zoo.small"])
    def test_class_and_module(self, folder, capsys, source):
        lines = shown(capsys, source).splitlines()
        assert lines[0].split() == ["module", "pattern", "fused", "kernel,", "or", "why", "not"]
        assert lines[1].startswith("(itself)")
        assert "control flow" in " ".join(lines)
        assert "main.1 " in " ".join(lines)
        assert "Conv2d -> BatchNorm2d -> ReLU" in " ".join(lines)
        assert "take logits" in " ".join(lines)
        assert "places fused" in lines[-1]
        assert max(map(len, lines)) <= 120

    def test_path_elsewhere(self, folder, capsys, monkeypatch, tmp_path_factory):
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert "BatchNorm2d" in shown(capsys, f"{folder / 'networks.py'}:generator")

    def test_function_that_imports(self, folder, capsys):
        assert "Conv2d -> BatchNorm2d -> ReLU" in shown(capsys, "networks.py:Zoo.make")

    def test_nothing_to_fuse(self, folder, capsys):
        (folder / "linear.py").write_text("from torch import nn\nmake = lambda: nn.Linear(2, 2)")
        assert shown(capsys, "linear.py:make").startswith("nothing to fuse")

    def test_json(self, folder, capsys):
        """What the file prints does not get into it."""
        report = json.loads(shown(capsys, "networks.py:generator", "--json"))
        assert report["places"] == 1
        assert report["rows"][0]["pattern"] == "Conv2d -> BatchNorm2d -> ReLU"

    def test_the_file_sees_itself_alone(self, folder, capsys):
        main(["explain", "networks.py:generator"])
        assert "loaded as networks ['networks.py']" in capsys.readouterr().err
        assert sys.argv[0] != "networks.py"

    def test_name_that_is_taken(self, folder, capsys):
        (folder / "json.py").write_text(NETWORKS)
        assert "BatchNorm2d" in shown(capsys, "json.py:generator")
        assert not hasattr(sys.modules["json"], "generator")

    def test_already_fused(self, folder, capsys):
        (folder / "fused.py").write_text(
            "import fastgan\nfrom networks import generator\nmade = fastgan.fuse(generator)"
        )
        assert shown(capsys, "fused.py:made") == shown(capsys, "networks.py:generator")

    def test_a_system_of_fastgan(self, folder, capsys):
        (folder / "own.py").write_text("import fastgan\nmade = lambda: fastgan.systems.create('dcgan').generator")
        assert shown(capsys, "own.py:made")

    @pytest.mark.processes
    def test_command(self, folder):
        done = subprocess.run(
            [sys.executable, "-m", "fastgan", "explain", "networks.py:Discriminator"], capture_output=True, text=True
        )
        assert done.returncode == 0
        assert "places fused" in done.stdout
        assert "Warning" not in done.stderr

    def test_help(self, capsys):
        with pytest.raises(SystemExit):
            main(["explain", "--help"])
        assert "example: fastgan explain models/dcgan.py:Discriminator" in capsys.readouterr().out


EXAMPLE = "`fastgan explain models/dcgan.py:Discriminator`"
MISTAKES = {
    "absent.py:f": "no file absent.py",
    "network.py:f": "no file network.py; did you mean networks.py?",
    "no/such/folder.py:f": "no file no/such/folder.py",
    "nowhere:f": "no module 'nowhere' can be imported here; for a file write nowhere.py",
    "networks.py": "'networks.py' is not FILE:FACTORY; write it as in " + EXAMPLE,
    "networks.py:": "'networks.py:' is not FILE:FACTORY; write it as in " + EXAMPLE,
    "networks.py:discriminator": "networks.py has no discriminator; did you mean Discriminator?",
    "networks.py:Zoo.smal": "networks.py:Zoo has no smal; did you mean small?",
    "networks.py:zzz": "networks.py has no zzz",
    "networks.py:of_width": "networks.py:of_width needs arguments (width, depth); add a function without any to the "
    "file, such as `def network(): return of_width(...)`, and name that",
    "networks.py:fails": "calling networks.py:fails raised KeyError: 'no such\\nthing'",
    "networks.py:leaves": "calling networks.py:leaves ended the program with exit code 3",
    "networks.py:Settings": "networks.py:Settings gave an object of type Settings, not a torch.nn.Module",
    "networks.py:number": "networks.py:number is of type int; it must be a torch.nn.Module, or a function or class "
    "that gives one",
    "wrong.py:f": "running wrong.py raised SyntaxError: invalid syntax (wrong.py, line 1)",
    "needy.py:f": "running needy.py raised ModuleNotFoundError: No module named 'not_installed_anywhere'",
    "needy:f": "importing needy raised ModuleNotFoundError: No module named 'not_installed_anywhere'",
    "script.py:f": "running script.py ended the program with exit code 2",
}  # fmt: skip


class TestMistakes:
    @pytest.mark.parametrize("source", MISTAKES)
    def test_one_line(self, folder, capsys, source):
        assert error(capsys, source) == MISTAKES[source]

    def test_nothing_given(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["explain"])
        assert ended.value.code == 2
        assert "FILE:FACTORY" in capsys.readouterr().err

    def test_a_file_that_failed_is_not_kept(self, folder, capsys):
        error(capsys, "wrong.py:f")
        assert "wrong" not in sys.modules
        (folder / "wrong.py").write_text("from torch import nn\nf = nn.ReLU()")
        assert "nothing to fuse" in shown(capsys, "wrong.py:f")


class TestInput:
    def test_says_what_runs(self, tmp_path, capsys):
        file = tmp_path / "net.py"
        file.write_text("from torch import nn\nnet = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())\n")
        assert main(["explain", f"{file}:net", "--input", "4,3,8,8", "--json"]) == 0
        data = json.loads(capsys.readouterr().out)
        assert [row["runs"] for row in data["rows"]] == [True]
        assert main(["explain", f"{file}:net", "--input", "4x3x8x8", "--channels-last"]) == 0
        assert "1 run for this input" in capsys.readouterr().out

    @pytest.mark.parametrize("text", ["", "4,3,a", "0,3,8,8"])
    def test_what_is_no_shape(self, tmp_path, capsys, text):
        assert main(["explain", f"{tmp_path}/net.py:net", "--input", text]) == 2
        assert "--input takes the sizes of a tensor" in capsys.readouterr().err

    def test_a_shape_that_does_not_fit(self, tmp_path, capsys):
        file = tmp_path / "net.py"
        file.write_text("from torch import nn\nnet = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())\n")
        assert main(["explain", f"{file}:net", "--input", "4,5,8,8"]) == 2
        assert "running" in capsys.readouterr().err
