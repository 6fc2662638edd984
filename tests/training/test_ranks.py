"""Several processes on one run: the same as one process, and what happens when one of them dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import _pytree as pytree

from fastgan.data import ImageData
from fastgan.training import Trainer
from tests.training.states import best_of, same, state

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).with_name("rank_run.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(*arguments, ranks=2, restarts=0, dies="", script=(str(SCRIPT),)):
    command = [*TORCHRUN, f"--max-restarts={restarts}"] if ranks > 1 else [sys.executable]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIES": dies, "CUDA_VISIBLE_DEVICES": ""}
    command = [*command, *script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


def run(*arguments, **options):
    done = launch(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def distance(a, b):
    (a, structure), (b, expected) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    assert structure == expected
    tensors = [(x, y) for x, y in zip(a, b) if isinstance(x, torch.Tensor)]
    assert tensors
    return max(float((x.double() - y.double()).abs().max()) for x, y in tensors if x.numel())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """20 steps of two processes, float64."""
    out = tmp_path_factory.mktemp("two") / "run"
    run(out, 20, "float64", "flip=True")
    return out


class TestTwoProcesses:
    def test_equal_one(self, two, tmp_path):
        run(tmp_path / "one", 20, "float64", "flip=True", ranks=1)
        one, both = state(tmp_path / "one"), state(two)
        for part in ("system", "ema", "optimizers"):
            assert distance(one[part], both[part]) < 1e-10, part
        logged = [(out / "metrics.jsonl").read_text().splitlines() for out in (tmp_path / "one", two)]
        for a, b in zip(*(map(json.loads, lines) for lines in logged), strict=True):
            # Diversity is that of the first process's images.
            for name in a.keys() - {"images_per_second", "data_wait", "diversity/spread", "diversity/nearest"}:
                assert a[name] == pytest.approx(b[name], rel=1e-10, abs=1e-10)
        assert one["batches"] == both["batches"]
        assert best_of(one)["score"] == pytest.approx(best_of(both)["score"], rel=1e-9)
        assert [f.name for f in sorted((tmp_path / "one").iterdir())] == [f.name for f in sorted(two.iterdir())]

    def test_differ_in_their_other_random_numbers(self, two):
        first, second = state(two)["random"]["ranks"]
        assert not torch.equal(first["cpu"], second["cpu"])

    def test_a_killed_one_is_restarted_from_the_checkpoint(self, two, tmp_path):
        done = run(tmp_path / "run", 20, "float64", "flip=True", restarts=1, dies="13:kill")
        assert "dies" in done.stderr
        assert same(state(tmp_path / "run"), state(two))
        metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
        assert metrics.count('"step": 12,') == 1 + 1  # logged values, and the look for the best checkpoint

    def test_asked_to_stop_all_save_and_one_goes_on(self, two, tmp_path):
        done = launch(tmp_path / "run", 20, "float64", "flip=True", dies="6:term")
        assert done.returncode != 0
        assert state(tmp_path / "run")["step"] == 8  # asked at 6, agreed when values are logged
        run(tmp_path / "run", 20, "float64", ranks=1)
        for part in ("system", "ema"):
            assert distance(state(tmp_path / "run")[part], state(two)[part]) < 1e-10

    def test_a_value_that_is_not_finite_in_one(self, tmp_path):
        done = launch(tmp_path / "run", 20, "float32", dies="6:nan")
        assert done.returncode != 0
        assert "back at its checkpoint of step 6" in done.stderr
        assert state(tmp_path / "run")["step"] == 6  # the best one


class TestCommand:
    TINY = ("train", "dcgan", "--resolution", "16", "--width", "8", "--set", "latent=8", "--samples", "4")

    def test_trains_and_speaks_once(self, tmp_path):
        out = tmp_path / "run"
        module = ("-m", "fastgan")
        done = run(*self.TINY, "--batch-size", "8", "--steps", "4", "--out", out, script=module)
        assert state(out)["step"] == 4
        assert done.stdout.count("4 steps done") == 1
        done = run("train", "--resume", out, "--steps", "5", script=module, ranks=1)
        assert state(out)["step"] == 5

    def test_says_what_is_wrong(self, tmp_path):
        done = launch(*self.TINY, "--batch-size", "7", "--out", tmp_path / "run", script=("-m", "fastgan"))
        assert done.returncode != 0
        assert "batch_size must be a multiple of the 2 processes that share it, not 7" in done.stderr
        assert not (tmp_path / "run").exists()


def test_one_process_without_torchrun_shares_nothing(tiny, pictures, tmp_path):
    assert isinstance(pictures, ImageData)
    trainer = Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", batch_size=8)
    assert (trainer.ranks.rank, trainer.ranks.count) == (0, 1)
    assert not torch.distributed.is_initialized()
