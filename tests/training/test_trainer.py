"""The trainer: what a run leaves behind, and that an interrupted one ends in the same bits."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.cli import main
from fastgan.data import Batches, ImageData
from fastgan.data.panel import Panel
from fastgan.data.pictures import draw
from fastgan.runs import config, load
from fastgan.systems import create
from fastgan.systems.dcgan import DCGAN
from fastgan.training import Trainer
from tests.training.states import same, state

EVERY = {"sample_every": 4, "checkpoint_every": 3, "log_every": 2, "samples": 4, "batch_size": 8}


@pytest.fixture
def start(tiny, pictures, tmp_path):
    def make(out="run", data=pictures, config=None, **settings):
        return Trainer(tiny(**(config or {})), data, out=tmp_path / out, device="cpu", **{**EVERY, **settings})

    return make


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "sliced_wasserstein" not in line:
            assert line.pop("images_per_second") > 0
            assert 0 <= line.pop("data_wait") <= 1
    return lines


def picture(images, columns=None):
    return draw(Panel("samples", {"samples": images}, columns))


class TestResume:
    @pytest.fixture
    def straight(self, start, tmp_path):
        start("straight").fit(10)
        return tmp_path / "straight"

    def check(self, straight, out):
        expected, got = state(straight), state(out)
        for key in expected:
            assert same(expected[key], got[key]), key
        assert metrics(out) == metrics(straight)
        for name in os.listdir(straight / "samples"):
            assert (straight / "samples" / name).read_bytes() == (out / "samples" / name).read_bytes()

    def test_the_checkpoint_holds_everything(self, straight):
        saved = state(straight)
        assert saved["step"] == 10
        assert saved["ema"]["updates"] == 10
        assert {name: len(adam["state"]) for name, adam in saved["optimizers"].items()} == {
            "discriminator": 5,
            "generator": 7,
        }
        assert all(entry["step"] == 10 for adam in saved["optimizers"].values() for entry in adam["state"].values())

    @pytest.mark.parametrize("stop", [1, 6, 7])
    def test_stopped_and_resumed(self, start, pictures, straight, tmp_path, stop):
        start().fit(stop)
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(10)
        # The sample of the early end is one more than the run that never stopped has.
        self.check(straight, tmp_path / "run")

    @pytest.mark.parametrize("dies_at", [1, 2, 5])
    def test_killed_between_checkpoints(self, start, pictures, straight, tmp_path, dies_at):
        trainer = start()

        def dies(values):
            if trainer.step == dies_at:
                raise SystemExit

        trainer.train_step.after.append(dies)
        with pytest.raises(SystemExit):
            trainer.fit(10)
        resumed = Trainer.resume(tmp_path / "run", data=pictures, device="cpu")
        assert resumed.step == dies_at // 3 * 3
        resumed.fit(resumed.config.steps)
        self.check(straight, tmp_path / "run")

    def test_a_line_cut_off_by_the_kill(self, start, pictures, straight, tmp_path):
        start().fit(6)
        with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
            file.write('lost\n{"step": 8, "discriminator/lo')
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(10)
        self.check(straight, tmp_path / "run")

    def test_trained_on_by_the_same_object(self, start, straight, tmp_path):
        trainer = start()
        trainer.fit(4)
        torch.randn(5)
        trainer.fit(10)
        self.check(straight, tmp_path / "run")

    def test_bfloat16_without_average_in_nchw(self, start, pictures, tmp_path):
        settings = {"precision": "bfloat16", "ema": 0, "channels_last": False, "flip": True}
        start("a", **settings).fit(7)
        start("b", **settings).fit(5)
        Trainer.resume(tmp_path / "b", data=pictures, device="cpu").fit(7)
        assert same(state(tmp_path / "a"), state(tmp_path / "b"))

    def test_seeds(self, start, tmp_path):
        for name, seed in ("a", 1), ("b", 1), ("c", 2):
            start(name, seed=seed).fit(2)
        assert same(state(tmp_path / "a"), state(tmp_path / "b"))
        assert not same(state(tmp_path / "a")["system"], state(tmp_path / "c")["system"])

    def test_a_corrupt_checkpoint_names_the_last_good_one(self, start, pictures, tmp_path):
        start().fit(6)
        path = tmp_path / "run" / "checkpoint.pt"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(ValueError, match=r"corrupt.*last good one is .*checkpoint\.previous\.pt"):
            Trainer.resume(tmp_path / "run", data=pictures)
        os.replace(tmp_path / "run" / "checkpoint.previous.pt", path)
        assert Trainer.resume(tmp_path / "run", data=pictures).step == 3


class TestRun:
    def test_what_it_leaves(self, start, tmp_path):
        start().fit(6)
        out = tmp_path / "run"
        assert sorted(name for name in os.listdir(out) if name != ".lock") == [
            "checkpoint.previous.pt",
            "checkpoint.pt",
            "config.yaml",
            "data.json",
            "log.txt",
            "metrics.jsonl",
            "real.png",
            "samples",
            "tensorboard",
            "training.gif",
        ]
        assert sorted(os.listdir(out / "samples")) == ["step-000004.png", "step-000006.png"]
        written = config.read(out / "config.yaml")
        assert written == state(out)["config"]
        assert (written["system"], written["options"]["width"]) == ("dcgan", 8)
        assert (written["data"], written["batch_size"], written["steps"]) == ("noise", 8, 6)
        assert state(out)["data"].items() >= {"name": "noise", "images": 50}.items()
        assert state(out)["data"]["fields"] == {"image": "images of 16x16 pixels and 1 channel"}
        assert state(out)["versions"]["torch"] == torch.__version__

    def test_the_first_samples_come_early(self, start, tmp_path):
        start(sample_every=30).fit(26)
        assert sorted(os.listdir(tmp_path / "run" / "samples")) == [f"step-0000{n}.png" for n in (10, 25, 26)]
        start("none", sample_every=0).fit(11)
        assert os.listdir(tmp_path / "none" / "samples") == ["step-000011.png"]

    def test_real_is_what_the_network_sees(self, start, pictures, tmp_path):
        def seen(name):
            return torch.from_numpy(np.array(Image.open(tmp_path / name / "real.png")))

        def shown(name, images):
            return torch.equal(seen(name), picture(images)[0])

        trainer = start("plain")
        trainer.fit(1)
        expected = next(Batches(pictures, 8, seed=0, device="cpu")).image[:4]
        assert shown("plain", expected)
        trainer.fit(2)
        assert shown("plain", expected)  # of another batch it would be another picture
        start("flipped", flip=True).fit(1)
        assert shown("flipped", next(Batches(pictures, 8, seed=0, device="cpu", flip=True)).image[:4])
        start("shifted", jitter=3).fit(1)
        assert shown("shifted", next(Batches(pictures, 8, seed=0, device="cpu", jitter=3)).image[:4])
        assert not shown("shifted", expected)
        start("augmented", config={"augment": "cutout"}).fit(1)
        hidden = (picture(expected)[0] != seen("augmented")).float().mean()
        assert 0.02 < hidden < 0.3  # a square of each, of which a part may lie outside

    def test_of_a_conditional_system_each_column_is_a_class(self, pictures, tmp_path):
        labels = torch.arange(50) % 3
        data = dataclasses.replace(pictures, labels=labels, classes=("a", "b", "c"))
        system = create("acgan", resolution=16, channels=1, width=8, latent=8, classes=3)
        trainer = Trainer(system, data, out=tmp_path / "run", device="cpu", **{**EVERY, "samples": 8})
        images = system.sample(6, latent=trainer.probe.latent[:6], labels=torch.tensor([0, 1, 2, 0, 1, 2]))
        assert torch.equal(trainer.preview(), picture(images, columns=3))

    def test_data_by_name(self, tiny, tmp_path):
        Trainer(tiny(channels=3), "digits", out=tmp_path / "run", device="cpu", **EVERY).fit(2)
        known = state(tmp_path / "run")["data"]
        assert known.pop("digest").startswith("pixels:")
        assert known.pop("classes") == list("0123456789")
        assert known == {"name": "digits", "images": 1797, "fields": {"image": "images of 16x16 pixels and 3 channels"}}
        Trainer.resume(tmp_path / "run", device="cpu").fit(3)
        with pytest.raises(ValueError, match="digits"):
            Trainer(tiny(), "digit", out=tmp_path / "other")
        assert not (tmp_path / "other").exists()

    def test_logged_values_are_means_over_the_interval(self, start, tmp_path):
        start("each", log_every=1).fit(4)
        start("both", log_every=2).fit(4)
        each, both = metrics(tmp_path / "each"), metrics(tmp_path / "both")
        assert [line["step"] for line in both] == [2, 4]
        for key in both[0].keys() - {"step", "diversity/spread", "diversity/nearest"}:  # those are of the last step
            assert both[0][key] == pytest.approx((each[0][key] + each[1][key]) / 2, rel=1e-5)
            assert both[1][key] == pytest.approx((each[2][key] + each[3][key]) / 2, rel=1e-5)

    def test_global_random_state_is_left_alone(self, start):
        trainer = start()
        torch.manual_seed(11)
        expected = torch.randn(3)
        torch.manual_seed(11)
        trainer.fit(2)
        assert torch.equal(torch.randn(3), expected)

    def test_samples_come_from_the_average(self, start):
        trainer = start()
        trainer.fit(6)
        averaged = trainer.preview()
        trainer.ema = None
        assert not torch.equal(trainer.preview(), averaged)

    def test_runs_without_tensorboard(self, start, tmp_path, monkeypatch, caplog):
        monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
        with caplog.at_level("INFO", "fastgan"):
            start().fit(4)
        assert caplog.text.count("tensorboard is not installed") == 1
        assert not (tmp_path / "run" / "tensorboard").exists()

    def test_channels_no_png_has(self, start, tmp_path):
        images = torch.randint(0, 256, (8, 5, 16, 16), dtype=torch.uint8)
        data = ImageData(images=images, labels=None, classes=(), captions=(), name="five")
        start(data=data, config={"channels": 5}).fit(1)
        assert (tmp_path / "run" / "samples" / "step-000001.png").exists()

    def test_stops_when_a_value_is_no_longer_finite(self, start, tmp_path):
        trainer = start(log_every=100)
        trainer.fit(3)
        with torch.no_grad():
            trainer.system.discriminator[-1].weight.fill_(float("nan"))
        with pytest.raises(
            FloatingPointError, match=r"discriminator/loss became nan .* back at its checkpoint of step 3, from before"
        ):
            trainer.fit(12)
        assert state(tmp_path / "run")["step"] == 3

    def test_interrupt(self, start, pictures, tmp_path, caplog):
        trainer = start()

        def interrupted(values):
            if trainer.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

        trainer.train_step.after.append(interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(10)
        assert state(tmp_path / "run")["step"] == 5  # the step that was running is done
        assert f"fastgan train --resume {tmp_path / 'run'}" in caplog.text
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        start("straight").fit(10)
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(10)
        assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


WORDS = {"width": 8, "latent": 8, "batch_size": 8, "seed": 5}


class TestMadeByName:
    def test_as_by_the_command_line(self, tmp_path):
        settings = {"checkpoint_every": 0, "sample_every": 0, "evaluate_every": 0}
        Trainer("dcgan", "digits", out=tmp_path / "python", **WORDS, **settings, steps=2).fit()
        words = ["train", "dcgan", "--data", "digits", "--width", "8", "--set", "latent=8", "--steps", "2"]
        settings |= {"batch_size": 8, "seed": 5}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        assert main([*words, *flags, "--out", str(tmp_path / "words")]) == 0
        assert same(state(tmp_path / "python"), state(tmp_path / "words"))
        read = [(tmp_path / name / "config.yaml").read_text().splitlines()[2:] for name in ("python", "words")]
        assert read[0] == read[1]

    def test_of_a_class(self, pictures, tmp_path):
        trainer = Trainer(DCGAN, pictures, out=tmp_path / "run", preset="paper", resolution=16, **WORDS)
        assert (trainer.system.config.resolution, trainer.system.config.channels) == (16, 1)
        trainer.fit(1)
        assert Trainer.resume(tmp_path / "run", system=DCGAN, data=pictures).step == 1

    def test_says_what_is_wrong(self, tiny, pictures, tmp_path):
        with pytest.raises(ValueError, match=r"neither dcgan nor the training has .* 'widht' \(did you mean width"):
            Trainer("dcgan", pictures, out=tmp_path / "run", widht=8)
        with pytest.raises(ValueError, match="no system 'dcgam'"):
            Trainer("dcgam", pictures, out=tmp_path / "run")
        with pytest.raises(ValueError, match="a preset makes a system of a name, not of one that is made"):
            Trainer(tiny(), pictures, out=tmp_path / "run", preset="quick")
        assert not (tmp_path / "run").exists()


class TestLoad:
    def test_averaged_and_raw(self, start, tmp_path):
        trainer = start()
        trainer.fit(6)
        latent = trainer.system.latent(3)
        raw = load(tmp_path / "run", averaged=False, device="cpu")
        assert not raw.training
        assert torch.equal(raw.sample(3, latent=latent), trainer.system.sample(3, latent=latent))
        averaged = load(tmp_path / "run", device="cpu")
        with trainer.ema.applied():
            assert torch.equal(averaged.sample(3, latent=latent), trainer.system.sample(3, latent=latent))

    def test_no_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            load(tmp_path)


class TestSaysWhatIsWrong:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"batch_size": 51}, ValueError, "51.* 50 images"),
            ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
            ({"log_every": 0}, ValueError, "log_every must be at least 1"),
            ({"ema": 1.0}, ValueError, r"ema must be at least 0 and below 1, not 1.0"),
            ({"seed": 2**63}, ValueError, r"seed must be at least 0 and at most 2\*\*63 - 1"),
            ({"precision": "fp8"}, ValueError, "precision must be one of"),
            ({"batchsize": 8}, ValueError, r"no option 'batchsize' \(did you mean batch_size\?\)"),
            ({"seed": "1"}, TypeError, "seed must be a whole number"),
            ({"config": {"channels": 3}}, ValueError, r"3 channels, noise has 1: .*channels=1.*with_channels\(3\)"),
            ({"config": {"resolution": 32}}, ValueError, r"32x32 pixels, noise has 16x16: .*resize\(32\)"),
        ],
    )
    def test_before_anything_is_written(self, start, tmp_path, settings, error, message):
        with pytest.raises(error, match=message):
            start(**settings)
        assert not (tmp_path / "run").exists()

    def test_system_and_device(self, tiny, pictures, tmp_path):
        with pytest.raises(TypeError, match=r"system must be a fastgan System, .*its class or its name, not Linear"):
            Trainer(torch.nn.Linear(1, 1), pictures, out=tmp_path / "run")
        with pytest.raises(ValueError, match="no device 'gpu'; use auto, cpu, cuda"):
            Trainer(tiny(), pictures, out=tmp_path / "run", device="gpu")
        with pytest.raises(ValueError, match="no device 'cuda:99'"):
            Trainer(tiny(), pictures, out=tmp_path / "run", device="cuda:99")
        with pytest.raises(ValueError, match="no device 'meta'; use auto, cpu, cuda, cuda:N or mps"):
            Trainer(tiny(), pictures, out=tmp_path / "run", device="meta")
        if not torch.backends.mps.is_available():
            with pytest.raises(ValueError, match=r"no device 'mps': torch .* no Apple GPU here; use cpu"):
                Trainer(tiny(), pictures, out=tmp_path / "run", device="mps")

    def test_out_has_no_name(self, tiny, pictures):
        with pytest.raises(ValueError, match="directory of the run has no name"):
            Trainer(tiny(), pictures, out="")

    def test_out_is_a_file(self, start, tmp_path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(FileExistsError, match="is a file"):
            start()
        assert (tmp_path / "run").read_text() == "mine"

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a directory that not even root can write to")
    def test_out_cannot_be_written(self, tiny, pictures):
        with pytest.raises(PermissionError, match="cannot write to /proc/fastgan-run"):
            Trainer(tiny(), pictures, out="/proc/fastgan-run", batch_size=8)

    def test_out_below_a_file(self, start, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(PermissionError, match="cannot write to"):
            start("file/run")

    def test_out_holds_a_run(self, start, tmp_path):
        start().fit(1)
        before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
        with pytest.raises(FileExistsError, match="already holds a run; continue it with `fastgan train --resume"):
            start()
        assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before

    def test_resume_without_a_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no run \(there is no .*checkpoint\.pt\)"):
            Trainer.resume(tmp_path)

    def test_resume_before_the_first_checkpoint(self, start, pictures, tmp_path):
        trainer = start()
        config.write(trainer.run.config, trainer.config)
        with pytest.raises(
            FileNotFoundError,
            match="stopped before its first checkpoint; start it again as before, or: fastgan train --config ",
        ):
            Trainer.resume(tmp_path / "run", data=pictures)
        start().fit(1)

    def test_resume_with_a_damaged_configuration(self, start, pictures, tmp_path):
        start().fit(1)
        (tmp_path / "run" / "config.yaml").write_text("{")
        with pytest.raises(ValueError, match=r"config\.yaml is not YAML"):
            Trainer.resume(tmp_path / "run", data=pictures)

    def test_resume_without_the_configuration(self, start, pictures, tmp_path):
        start().fit(1)
        (tmp_path / "run" / "config.yaml").unlink()
        Trainer.resume(tmp_path / "run", data=pictures).fit(2)
        assert config.read(tmp_path / "run" / "config.yaml")["steps"] == 2

    def test_resume_on_other_data(self, start, pictures, tmp_path):
        start().fit(1)
        with pytest.raises(ValueError, match=r"'noise'.* go to Trainer\.resume as data="):
            Trainer.resume(tmp_path / "run")
        fewer = ImageData(images=pictures.images[:40], labels=None, classes=(), captions=(), name="noise")
        with pytest.raises(ValueError, match=r"trained on other data: 50 images then, 40 now"):
            Trainer.resume(tmp_path / "run", data=fewer)

    def test_resume_on_data_that_were_moved(self, start, pictures, tmp_path):
        start().fit(1)
        moved = dataclasses.replace(pictures, name="elsewhere")
        trainer = Trainer.resume(tmp_path / "run", data=moved, device="cpu")
        trainer.fit(2)
        assert state(tmp_path / "run")["step"] == 2
        Trainer(trainer.system, "digits", out=tmp_path / "digits", device="cpu", batch_size=8).fit(1)
        with pytest.raises(ValueError, match=r"trained on other data: 1797 images then, 1291 now"):
            Trainer.resume(tmp_path / "digits", data="emoji", device="cpu")

    def test_fewer_steps_than_done(self, start, tmp_path):
        trainer = start()
        with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
            trainer.fit(0)
        trainer.fit(3)
        with pytest.raises(ValueError, match="has done 3 steps; steps must be more, not 2"):
            trainer.fit(2)
        assert config.read(tmp_path / "run" / "config.yaml")["steps"] == 3
