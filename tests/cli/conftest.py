import pytest

from fastgan.cli import main

TINY = ["--resolution", "16", "--width", "8", "--set", "latent=7", "--samples", "4", "--device", "cpu"]
EVERY = ["--sample-every", "2", "--checkpoint-every", "2", "--log-every", "1", "--batch-size", "8"]
CONTRAST = ["--lr", "0.05"]  # pictures whose pixels differ, after a few steps


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of five steps; the checkpoint before its last is of step four."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    arguments = ["--data", "digits", *TINY, *EVERY, *CONTRAST, "--steps", "5", "--out", str(out)]
    assert main(["train", "dcgan", *arguments]) == 0
    return out


@pytest.fixture
def error(capsys):
    """Runs a command that is wrong: the one line on stderr, without a traceback."""

    def command(*arguments):
        capsys.readouterr()
        assert main(list(map(str, arguments))) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("fastgan: error: ")
        return line

    return command
