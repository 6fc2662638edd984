"""A system in a file of the user's can do what those of the package can: the translator of docs/your-system.md."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastgan
from fastgan.cli import main
from fastgan.data import load, save_png
from fastgan.runs.export import export
from fastgan.training import Trainer
from tests.forks import Forks, killed_after, two_ranks
from tests.training.own_run import EVERY, OPTIONS, domains, files
from tests.training.states import same, state

SCRIPT = Path(__file__).with_name("own_run.py")


@pytest.fixture(scope="module")
def two_way(tmp_path_factory):
    """A run of 20 steps, and the file of its system."""
    folder = tmp_path_factory.mktemp("own")
    file = files(folder)["two_way.py"]
    trainer = Trainer(
        str(file), domains(), out=folder / "run", device="cpu", precision="float32", seed=3, **EVERY, **OPTIONS
    )
    trainer.fit(20)
    return folder / "run", file, trainer


class TestTranslator:
    def test_previews(self, two_way):
        run, _, _ = two_way
        names = sorted(path.name for path in (run / "samples").iterdir())
        assert {name for name in names if "020" in name} == {"step-000020.png", "step-000020-b-to-a.png"}

    def test_evaluates(self, two_way):
        run, _, _ = two_way
        best = state(run)["callbacks"]["evaluation"]["best"]
        assert best["step"] in (10, 20)
        assert best["score"] > 0

    def test_loads(self, two_way):
        run, file, trainer = two_way
        system = fastgan.load(run, system=str(file), averaged=False)
        images = torch.rand(2, 1, 16, 16) * 2 - 1
        for direction in ("a to b", "b to a"):
            expected = trainer.system.translate(images, direction)
            torch.testing.assert_close(system.translate(images, direction), expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match=r"no system 'two-way', by which the run was made.*--system my\.py:MyGAN"):
            fastgan.load(run)

    def test_exports(self, two_way, tmp_path):
        run, file, _ = two_way
        export(run, tmp_path / "run.safetensors", system=str(file))
        loaded = fastgan.load(tmp_path / "run.safetensors", system=str(file))
        images = torch.rand(2, 1, 16, 16) * 2 - 1
        expected = fastgan.load(run, system=str(file)).translate(images)
        torch.testing.assert_close(loaded.translate(images), expected, rtol=1e-4, atol=1e-5)
        export(run, tmp_path / "run.pt2", system=str(file))
        recorded = torch.export.load(tmp_path / "run.pt2").module()
        assert torch.allclose(recorded(images), expected, atol=1e-5)

    def test_a_command_that_does_not_fit_says_which_does(self, two_way, capsys):
        run, file, _ = two_way
        assert main(["sample", str(run), "--system", str(file), "--out", "grid.png"]) == 2
        assert "two-way, which makes nothing of random numbers" in capsys.readouterr().err

    def test_translates(self, two_way, tmp_path):
        run, file, _ = two_way
        save_png(tmp_path / "one.png", torch.full((1, 16, 20), 90, dtype=torch.uint8))
        words = [str(run), str(tmp_path / "one.png"), "--system", str(file), "--out", str(tmp_path / "made.png")]
        assert main(["translate", *words, "--direction", "b to a"]) == 0
        assert (tmp_path / "made.png").exists()

    def test_the_history_is_in_the_checkpoint_and_comes_back(self, two_way, tmp_path):
        run, _, trainer = two_way
        saved = state(run)["system"]
        assert saved["pool_a.filled"] == 6
        assert saved["pool_a.images"][:6].abs().amin(dim=(1, 2, 3)).min() >= 0
        assert torch.equal(saved["pool_b.images"], trainer.system.pool_b.images)


@pytest.mark.processes
class TestSameBits:
    @pytest.mark.slow
    def test_ten_kills(self, tmp_path, seed):
        """The last process, which goes on to the end, is a fresh one, with other hashes."""
        files(tmp_path)
        out = tmp_path / "killed"
        with Forks(SCRIPT) as forks:
            straight = forks.start(tmp_path / "straight", 40)
            assert straight.wait() == 0, straight.error()
            for instant in (0.6 * torch.rand(10, generator=torch.Generator().manual_seed(seed))).tolist():
                killed_after(instant, forks.start(out, 36, STAYS="1"), out)
        subprocess.run([sys.executable, str(SCRIPT), str(out), "40"], check=True, capture_output=True)
        assert same(state(out), state(tmp_path / "straight"))

    def test_two_ranks(self, tmp_path):
        """Each process has a history of its own, which comes back to it."""
        files(tmp_path)

        def together(out, steps):
            ranks = [forks.start(out, steps, **environment) for environment in two_ranks()]
            assert [rank.wait() for rank in ranks] == [0, 0], [rank.error() for rank in ranks]

        with Forks(SCRIPT) as forks:
            together(tmp_path / "straight", 20)
            for steps in (7, 15, 20):
                together(tmp_path / "resumed", steps)
        assert same(state(tmp_path / "resumed"), state(tmp_path / "straight"))
        pools = state(tmp_path / "straight")["ranks"]
        assert not torch.equal(pools[0]["pool_a.images"], pools[1]["pool_a.images"])


def test_what_trains_and_what_samples(tmp_path):
    """A system of each other kind, in a step and after it."""
    found = files(tmp_path)
    digits = Trainer(
        str(found["tiny_gan.py"]), "digits", out=tmp_path / "tiny", device="cpu", **{**EVERY, "samples": 9}
    )
    digits.fit(10)
    assert digits.system.inputs()["image"].shape == (1, 32, 32)
    assert fastgan.load(tmp_path / "tiny", system=str(found["tiny_gan.py"])).sample(3).shape == (3, 1, 32, 32)
    assert len(load("digits")) > 0
