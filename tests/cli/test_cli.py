"""The command line, as a user meets it."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from PIL import Image
from torch.utils._pytree import tree_flatten

from fastgan import systems
from fastgan.cli import main
from fastgan.cli.train import _slug
from fastgan.options import build, options, text
from fastgan.runs import checkpoint, config
from fastgan.runs.settings import Config
from fastgan.systems import names
from fastgan.systems.registry import find
from tests.cli.conftest import EVERY, TINY


def interruptible():
    """Ctrl-C as in a terminal; a shell's background jobs ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of four steps."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "dcgan", "--data", "digits", *TINY, *EVERY, "--steps", "4", "--out", str(out)]) == 0
    return out


def wait_for(path, process):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


class TestTrain:
    def test_leaves_a_run(self, run):
        assert sorted(os.listdir(run / "samples")) == ["step-000002.png", "step-000004.png"]
        assert checkpoint.load(run / "checkpoint.pt")["step"] == 4
        options = config.read(run / "config.yaml")["options"]
        assert options["channels"] == 1  # the data's
        assert (options["width"], options["latent"]) == (8, 7)

    def test_resume(self, run, tmp_path, capsys, error):
        run = shutil.copytree(run, tmp_path / "run")
        assert main(["train", "--resume", str(run)]) == 0
        assert "has done its 4 steps" in capsys.readouterr().out
        assert main(["train", "--resume", str(run), "--steps", "5", "--device", "cpu"]) == 0
        assert checkpoint.load(run / "checkpoint.pt")["step"] == 5
        capsys.readouterr()
        assert "has done 5 steps; steps must be more, not 3" in error("train", "--resume", run, "--steps", "3")

    @pytest.mark.parametrize(
        ("system", "data", "resolution", "channels"),
        [("dcgan", "digits", 32, 1), ("dcgan", "emoji", 64, 3), ("gan", "ring", 1, 2)],
    )
    def test_system_follows_the_data(self, tmp_path, system, data, resolution, channels):
        sizes = [
            "--preset",
            "paper",
            "--width",
            "2",
            "--batch-size",
            "2",
            "--samples",
            "1",
            "--steps",
            "1",
            "--device",
            "cpu",
        ]
        assert main(["train", system, "--data", data, *sizes, "--out", str(tmp_path / "run")]) == 0
        options = config.read(tmp_path / "run" / "config.yaml")["options"]
        assert (options["resolution"], options["channels"]) == (resolution, channels)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "which system? fastgan train SYSTEM (gan, dcgan, lsgan, "),
            (["--config", "/nowhere.yaml"], "no configuration at /nowhere.yaml"),
            (["dcgan", "--workers", "-1"], "workers must be at least 0, not -1"),
            (["dcgam"], "no system 'dcgam' (did you mean dcgan or "),
            (["dcgan", "--data", "digit"], "digits"),
            (["dcgan", "--target", "emoji"], "--target goes with --data"),
            (
                ["dcgan", "--data", "digits", "--target", "emoji"],
                "has pairs (source, target) or domains (a, b), not image",
            ),
            (["dcgan", "--resolution", "48"], "the nearest are 32 and 64"),
            (["dcgan", "--set", "lerning_rate=1"], "did you mean learning_rate or discriminator_learning_rate?"),
            (["dcgan", "--set", "slope"], "--set takes KEY=VALUE"),
            (["dcgan", "--set", "slope=steep"], "slope must be a number, not 'steep'"),
            (["dcgan", "--batch-size", "5000"], "5000"),
            (["dcgan", "--steps", "0"], "steps must be at least 1, not 0"),
            (["dcgan", "--seed", str(2**63)], "seed must be at least 0 and at most 2**63 - 1, not"),
            (["dcgan", "--width", "9999999999"], "not enough memory"),
            (["dcgan", "--precision", "half"], "precision must be one of auto, float32, bfloat16"),
            (["dcgan", "--device", "cuda:99"], "no device 'cuda:99'"),
        ],
    )
    def test_says_what_is_wrong(self, error, tmp_path, arguments, message):
        assert message in error("train", *arguments, *(["--out", tmp_path / "run"] if arguments else []))
        assert not (tmp_path / "run").exists()

    def test_a_part_of_the_data(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        sizes = ["--width", "2", "--batch-size", "2", "--samples", "1", "--steps", "1", "--device", "cpu"]
        assert main(["train", "dcgan", "--data", "digits@test", *sizes]) == 0
        assert config.read(tmp_path / "runs" / "dcgan-digits-test" / "config.yaml")["data"] == "digits@test"

    @pytest.mark.parametrize(
        ("data", "slug"), [("/x/A=>/y/B", "A-B"), ("photos:right@test", "photos-right-test"), ("hf:a/b@c", "b-c")]
    )
    def test_the_run_is_named_after_the_data(self, data, slug):
        assert _slug(data) == slug

    def test_out_holds_a_run(self, run, error):
        line = error("train", "dcgan", *TINY, "--out", run)
        assert line.startswith("fastgan: error: ")
        assert f"fastgan train --resume {run}" in line

    def test_resume_with_changes(self, run, tmp_path, error, caplog):
        line = error("train", "--resume", run, "--batch-size", "4", "--width", "16", "--seed", "3")
        assert "cannot go on with options.width: 8 -> 16; seed: 0 -> 3. What may change is" in line
        shutil.copytree(run, tmp_path / "run")
        with caplog.at_level("INFO", "fastgan"):
            assert (
                main(["train", "--resume", str(tmp_path / "run"), "--steps", "7", "--log-every", "3", "--lr", "1e-4"])
                == 0
            )
        assert "goes on with options.learning_rate: 0.0002 -> 0.0001; steps: 4 -> 7; log_every: 1 -> 3" in caplog.text
        assert config.read(tmp_path / "run" / "config.yaml")["log_every"] == 3

    def test_resume_with_an_edited_configuration(self, run, tmp_path, capsys, error):
        shutil.copytree(run, tmp_path / "run")
        file = tmp_path / "run" / "config.yaml"
        file.write_text(file.read_text().replace("steps: 4", "steps: 6"))
        assert main(["train", "--resume", str(tmp_path / "run")]) == 0
        assert checkpoint.load(tmp_path / "run" / "checkpoint.pt")["step"] == 6
        file.write_text(file.read_text().replace("width: 8", "width: 4"))
        capsys.readouterr()
        assert "options.width: 8 -> 4" in error("train", "--resume", tmp_path / "run", "--steps", "7")
        file.write_text("log_evry: 3")
        assert "did you mean log_every" in error("train", "--resume", tmp_path / "run")

    @pytest.mark.parametrize("option", ["--out", "--config", "--preset=quick"])
    def test_resume_has_its_own(self, run, error, option):
        name, equals, _ = option.partition("=")
        value = [] if equals else ["x"]
        assert f"{name} does not go with --resume" in error("train", "--resume", run, option, *value)

    def test_config(self, run, tmp_path, capsys):
        again = tmp_path / "again"
        assert main(["train", "--config", str(run / "config.yaml"), "--out", str(again)]) == 0
        states = [checkpoint.load(path / "checkpoint.pt") for path in (run, again)]
        (first, structure), (second, expected) = (tree_flatten(state) for state in states)
        assert structure == expected
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

    def test_options_override_the_file(self, run, tmp_path):
        out = tmp_path / "out"
        change = ["--steps", "2", "--set", "slope=0.3", "--no-channels-last", "--out", str(out)]
        assert main(["train", "--config", str(run / "config.yaml"), *change]) == 0
        written, original = config.read(out / "config.yaml"), config.read(run / "config.yaml")
        assert (written["steps"], written["channels_last"], written["options"]["slope"]) == (2, False, 0.3)
        assert {**written, "steps": 4, "channels_last": True, "options": original["options"]} == original

    def test_continue(self, tmp_path):
        arguments = ["train", "dcgan", *TINY, *EVERY, "--out", str(tmp_path / "run"), "--continue", "--steps"]
        for steps in ("2", "3"):
            assert main([*arguments, steps]) == 0
            assert checkpoint.load(tmp_path / "run" / "checkpoint.pt")["step"] == int(steps)

    def test_init_from(self, run, tmp_path, capsys, error):
        out = tmp_path / "new"
        begin = ["train", "dcgan", "--data", "digits", *TINY, *EVERY, "--init-from", str(run)]
        assert main([*begin, "--steps", "1", "--out", str(out)]) == 0
        assert f"tensors of generator from {run}" in (out / "log.txt").read_text()
        assert main([*begin, "--steps", "2", "--out", str(out), "--continue"]) == 0
        capsys.readouterr()
        line = error("train", "--resume", run, "--init-from", run)
        assert "--init-from does not go with --resume" in line

    def test_resume_without_a_run(self, tmp_path, error):
        assert "holds no run" in error("train", "--resume", tmp_path)

    def test_unknown_option(self, capsys):
        with pytest.raises(SystemExit, match="2"):
            main(["train", "dcgan", "--bacth-size", "3"])
        ending = "train: error: no option --bacth-size 3 (did you mean --batch-size?); --help lists them\n"
        assert capsys.readouterr().err.endswith(ending)

    def test_debug_shows_the_traceback(self, monkeypatch):
        monkeypatch.setenv("FASTGAN_DEBUG", "1")
        with pytest.raises(ValueError, match="dcgam"):
            main(["train", "dcgam"])


class TestKilled:
    """Real processes, really killed, end in the same bits as one that was left alone."""

    @pytest.mark.processes
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
    def test_resumes_to_the_same_bits(self, tmp_path, number):
        out, straight = tmp_path / "killed", tmp_path / "straight"
        arguments = ["train", "dcgan", *TINY, *EVERY, "--out"]
        process = subprocess.Popen(
            [sys.executable, "-m", "fastgan", *arguments, str(out), "--steps", "100000"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # the threads of this process, for the same bits
            preexec_fn=interruptible,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(out / "samples" / "step-000006.png", process)
        process.send_signal(number)
        stderr = process.communicate(timeout=60)[1]
        stopped = checkpoint.load(out / "checkpoint.pt")["step"]
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number
            assert "Traceback" not in stderr
            assert f"stopped at step {stopped}; to go on: fastgan train --resume {out}\n" in stderr
        steps = str(stopped + 3)
        assert main(["train", "--resume", str(out), "--steps", steps]) == 0
        assert main([*arguments, str(straight), "--steps", steps]) == 0
        states = [checkpoint.load(path / "checkpoint.pt") for path in (out, straight)]
        (killed, structure), (left_alone, expected) = (tree_flatten(state) for state in states)
        assert structure == expected
        for a, b in zip(killed, left_alone, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


class TestSample:
    def test_grid(self, run, tmp_path):
        out = tmp_path / "grid.png"
        assert main(["sample", str(run), "--count", "6", "--columns", "3", "--out", str(out)]) == 0
        # Enlarged by a whole factor, to at least 512 pixels.
        assert Image.open(out).size == (10 * (3 * 16 + 4 * 2), 10 * (2 * 16 + 3 * 2))

    def test_seed_and_raw(self, run, tmp_path):
        def draw(*arguments):
            assert main(["sample", str(run), "--count", "2", "--out", str(tmp_path / "grid.png"), *arguments]) == 0
            return (tmp_path / "grid.png").read_bytes()

        assert draw() == draw("--seed", "0")
        assert draw() != draw("--seed", "1")
        assert draw() != draw("--raw")

    def test_says_what_is_wrong(self, run, tmp_path, error):
        assert "holds no run" in error("sample", tmp_path)
        assert "count must be at least 1" in error("sample", run, "--count", "0")
        assert "nowhere" in error("sample", run, "--out", tmp_path / "nowhere" / "grid.png")


def test_systems_lists_systems_and_data(capsys):
    assert main(["systems"]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^  \S+ +\S.* \(.* \d{4}\)\.$", text, re.MULTILINE)) == len(names())  # a line each
    assert re.search(r"\bdigits\b.*\bemoji\b", text, re.DOTALL)


def test_systems_explains_the_options_of_one(capsys, monkeypatch, error):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["systems", "dcgan"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^  betas +0.5,0.999 +of Adam, both networks$", text, re.MULTILINE)
    assert re.search(r"^  discriminator_width +none +none: width$", text, re.MULTILINE)
    assert re.search(r"^  upsampling +transposed +transposed convolutions; or", text, re.MULTILINE)
    assert "upsampling=resize" in text[text.index("--preset quick") :]
    assert "did you mean dcgan" in error("systems", "dcgam")


@pytest.mark.processes
def test_help_does_not_import_torch():
    code = "import sys; from fastgan.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in ("train", "sample", "systems", "bench", "doctor"))


def test_help_of_training_says_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for option in options(Config):
        if option.name not in ("system", "options"):
            flag = option.name.replace("_", "-")
            default = rf"{re.escape(option.help)}( \([^()]+\))? \(default: {re.escape(text(option.default))}\)"
            assert re.search(rf"--(no-)?{flag} ({option.name.upper()} )?{default}", said), option.name


class TestPreset:
    ARGUMENTS = ("train", "dcgan", "--data", "digits", "--width", "4", "--samples", "4", "--steps", "1")

    def options(self, out, *arguments):
        assert main([*self.ARGUMENTS, *arguments, "--device", "cpu", "--out", str(out)]) == 0
        return config.read(out / "config.yaml")

    def test_quick_on_a_cpu(self, tmp_path, caplog):
        with caplog.at_level("INFO", "fastgan"):
            written = self.options(tmp_path / "run", "--batch-size", "8")
        assert written["options"]["upsampling"] == "resize"
        assert (written["options"]["width"], written["batch_size"], written["steps"]) == (4, 8, 1)
        line = next(message for message in caplog.messages if message.startswith("preset"))
        assert line.startswith("preset quick (no GPU): ")
        assert line.endswith("; --preset paper for the paper's")
        assert "width" not in line
        assert "batch size" not in line

    def test_paper(self, tmp_path, caplog):
        with caplog.at_level("INFO", "fastgan"):
            written = self.options(tmp_path / "run", "--preset", "paper")
        assert (written["options"]["upsampling"], written["batch_size"]) == ("transposed", 64)
        assert "preset" not in caplog.text

    def test_a_file_says_everything(self, tmp_path, capsys, error):
        file = tmp_path / "options.yaml"
        file.write_text("system: dcgan\ndata: digits\noptions: {width: 4, latent: 4}\nsteps: 1\nsamples: 4\n")
        assert main(["train", "--config", str(file), "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
        written = config.read(tmp_path / "run" / "config.yaml")
        assert (written["options"]["upsampling"], written["batch_size"]) == ("transposed", 64)
        capsys.readouterr()
        line = error("train", "--config", file, "--preset", "quick", "--out", tmp_path / "other")
        assert "--preset does not go with --config" in line

    def test_goes_on_as_it_began(self, tmp_path):
        self.options(tmp_path / "run", "--batch-size", "8")
        assert main(["train", "--resume", str(tmp_path / "run"), "--steps", "2"]) == 0
        assert config.read(tmp_path / "run" / "config.yaml")["options"]["upsampling"] == "resize"


class TestWords:
    """What config.yaml writes, the command line takes and means the same; what others call an option, it knows."""

    @pytest.mark.parametrize("name", systems.names())
    def test_every_option_of_every_system_by_set(self, name):
        from fastgan.cli.train import _options

        kind = find(name).Config
        defaults = build(kind, {}, name)
        options = config.Config(system=name, options=dataclasses.asdict(defaults)).plain()["options"]
        texts = [f"{key}={yaml.safe_dump(value, default_flow_style=True).partition(chr(10))[0]}"
                 for key, value in options.items() if value != ""]  # fmt: skip
        texts += [f"{key}=" for key, value in options.items() if value == ""]
        assert build(kind, _options({"set": texts}, name), name) == defaults

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("decay=none", "none"), ("discriminator_width=none", None), ("discriminator_width=~", None),
            ("discriminator_width=8", 8), ("betas=0.5,0.9", (0.5, 0.9)), ("betas=(0.5, 0.9)", (0.5, 0.9)),
            ("betas=[0.5, 0.9]", (0.5, 0.9)), ("learning_rate=2e-4", 2e-4), ("r1=1", 1.0), ("augment=", ""),
            ("augment=translation,cutout", "translation,cutout"), ("width=16", 16),
        ],
    )  # fmt: skip
    def test_values(self, text, expected):
        from fastgan.cli.train import _options

        kind = find("dcgan").Config
        value = getattr(build(kind, _options({"set": [text]}, "dcgan"), "dcgan"), text.partition("=")[0])
        assert value == expected
        assert type(value) is type(expected)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--epochs", "3"], "(did you mean --steps, which are batches, not passes over the data?)"),
            (["--batch_size", "3"], "(did you mean --batch-size?)"),
            (["--batchsize", "3"], "(did you mean --batch-size?)"),
            (["--lr_rate=3"], "(did you mean --lr?)"),
            (["--learning-rate", "3"], "(did you mean --lr?)"),
            (["--nz", "3"], "(did you mean --latent?)"),
            (["--img_size", "3"], "(did you mean --resolution?)"),
            (["--outdir", "3"], "(did you mean --out?)"),
            (["--gpu", "0"], "(did you mean --device?)"),
            (["--checkpoint-evry", "3"], "(did you mean --checkpoint-every"),
            (["--step", "3"], "(did you mean --steps"),  # no abbreviation
        ],
    )
    def test_options_of_other_programs(self, capsys, arguments, message):
        with pytest.raises(SystemExit):
            main(["train", "dcgan", *arguments])
        assert message in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("lr=1", "system dcgan has no option 'lr' (did you mean learning_rate?)"),
            ("z_dim=1", "(did you mean latent?)"),
            ("bs=8", "bs is no option of dcgan, but of the training: --batch-size"),
            ("steps=8", "steps is no option of dcgan, but of the training: --steps"),
            ("width=many", "width must be a whole number, not 'many'"),
            ("betas=1", "betas must be 2 values (a number, a number), not (1.0,)"),
        ],
    )
    def test_set(self, error, tmp_path, text, message):
        assert message in error("train", "dcgan", "--set", text, "--out", tmp_path / "run")

    def test_alone_and_version(self, capsys):
        assert main([]) == 0
        assert "usage: fastgan" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out.startswith("fastgan 0.")

    def test_a_checkpoint_is_no_run(self, run, error):
        line = error("sample", run / "checkpoint.pt")
        assert f"checkpoint.pt is a file; a run is its directory: {run}" in line
