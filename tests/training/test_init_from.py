"""A new run that begins with the weights of another: what fits is taken, what does not is said."""

import pytest
import torch

from fastgan import Trainer
from fastgan.data import ImageData
from fastgan.runs import config
from fastgan.runs.export import export
from fastgan.systems import create
from fastgan.training.initial import start_from
from tests.training.states import same, state

QUIET = {"sample_every": 0, "evaluate_every": 0, "health": False, "precision": "float32", "batch_size": 8}


@pytest.fixture
def trained(tiny, pictures, tmp_path):
    Trainer(tiny(), pictures, out=tmp_path / "first", device="cpu", ema=0.5, **QUIET).fit(3)
    return tmp_path / "first"


def weights(run):
    saved = state(run)
    return {**saved["system"], **saved["ema"]["averages"]}


def named(tensors, *networks):
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in networks}


def equal(system, expected, *networks):
    own = named(system.state_dict(), *networks)
    return own.keys() == named(expected, *networks).keys() and all(torch.equal(own[n], expected[n]) for n in own)


def other(**options):
    torch.manual_seed(5)
    return create("dcgan", **{"resolution": 16, "channels": 1, "width": 8, "latent": 8, **options})


class TestWhatIsTaken:
    def test_of_a_run(self, trained):
        system = other()
        lines = start_from(system, trained)
        assert equal(system, weights(trained), "generator", "discriminator")
        assert not torch.equal(state(trained)["system"]["generator.0.conv.weight"], system.generator[0].conv.weight)
        assert all("; left" not in line for line in lines)
        assert [line.split(" from ")[0].split()[-1] for line in lines] == ["generator", "discriminator"]

    @pytest.mark.parametrize("kind", ["checkpoint", "export", "state_dict", "of the generator", "nested"])
    def test_of_a_file(self, trained, tmp_path, kind):
        expected = weights(trained)
        path = tmp_path / ("w.safetensors" if kind == "export" else "w.pt")
        if kind == "export":
            export(trained, path)
        elif kind == "checkpoint":
            path = trained / "checkpoint.pt"
        elif kind == "of the generator":
            torch.save({k.partition(".")[2]: v for k, v in named(expected, "generator").items()}, path)
        else:
            torch.save(expected if kind == "state_dict" else {"epoch": 3, "state_dict": expected}, path)
        system = other()
        start_from(system, path)
        assert equal(system, expected, "generator")
        assert equal(system, expected, "discriminator") is (kind not in ("export", "of the generator"))

    def test_in_part(self, trained):
        system = other(channels=3)
        lines = start_from(system, trained)
        count = len(system.generator.state_dict())
        assert f"took {count - 1} of {count} tensors of generator from {trained}; left: " in lines[0]
        assert "(8, 3, 4, 4) here, (8, 1, 4, 4) there" in lines[0]
        assert torch.equal(system.generator[0].conv.weight, weights(trained)["generator.0.conv.weight"])

    def test_other_classes(self, tmp_path):
        small = {"resolution": 32, "channels": 1, "width": 8, "latent": 8}
        torch.save(create("acgan", **small, classes=3).state_dict(), tmp_path / "w.pt")
        lines = start_from(create("acgan", **small, classes=5), tmp_path / "w.pt")
        assert all(line.startswith("took ") and not line.startswith("took 0") for line in lines)
        assert any("here, " in line and " there" in line for line in lines)


class TestTheRun:
    def test_says_and_remembers_it(self, trained, tiny, tmp_path, pictures):
        system = other()
        trainer = Trainer(system, pictures, out=tmp_path / "run", device="cpu", init_from=trained, **QUIET)
        assert equal(system, weights(trained), "generator")
        assert same(trainer.average().averages, named(weights(trained), "generator"))
        assert not any(phase.optimizer.state for phase in trainer.train_step.phases)
        trainer.fit(2)
        assert f"of generator from {trained}" in (tmp_path / "run" / "log.txt").read_text()
        assert config.read(tmp_path / "run" / "config.yaml")["init_from"] == str(trained)

    def test_resumes_to_the_same_bits(self, trained, tmp_path, pictures):
        for out, steps in (("straight", [4]), ("run", [2, 4])):
            trainer = Trainer(other(), pictures, out=tmp_path / out, device="cpu", init_from=trained, **QUIET)
            trainer.fit(steps[0])
            for step in steps[1:]:
                Trainer.resume(tmp_path / out, data=pictures, device="cpu").fit(step)
        assert same(state(tmp_path / "run"), state(tmp_path / "straight"))

    def test_on_other_data(self, trained, tmp_path):
        data = ImageData(torch.zeros(16, 1, 16, 16, dtype=torch.uint8), None, (), (), "black")
        Trainer(other(), data, out=tmp_path / "run", device="cpu", init_from=trained, **QUIET).fit(1)


class TestSaysWhatIsWrong:
    def test_nothing_fits(self, tiny, tmp_path):
        torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "w.pt")
        with pytest.raises(
            ValueError, match=r"nothing in .*w.pt fits the networks of dcgan: it holds .*layer.weight \(3,\)"
        ):
            start_from(tiny(), tmp_path / "w.pt")

    def test_nothing_there(self, tiny, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no run and no file"):
            start_from(tiny(), tmp_path / "w.pt")
        with pytest.raises(FileNotFoundError, match="holds no run"):
            start_from(tiny(), tmp_path)

    @pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
    def test_damaged(self, tiny, tmp_path, name):
        (tmp_path / name).write_bytes(b"\x80\x02what is this")
        with pytest.raises(ValueError, match="is damaged, or"):
            start_from(tiny(), tmp_path / name)

    def test_a_damaged_checkpoint(self, trained, tiny):
        path = trained / "checkpoint.pt"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        for given in (path, trained):
            with pytest.raises(ValueError, match="is corrupt"):
                start_from(tiny(), given)

    def test_nothing_is_unpickled(self, tiny, tmp_path):
        torch.save(tiny(), tmp_path / "w.pt")
        with pytest.raises(ValueError, match=r"more than tensors and plain containers, .*state_dict\(\)"):
            start_from(tiny(), tmp_path / "w.pt")

    def test_before_anything_is_written(self, tiny, pictures, tmp_path):
        with pytest.raises(FileNotFoundError):
            Trainer(tiny(), pictures, out=tmp_path / "run", init_from=tmp_path / "no", **QUIET)
        assert not (tmp_path / "run").exists()
