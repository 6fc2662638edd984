"""evaluate, project and report, as a user meets them."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.cli import main
from fastgan.data import load, save_png


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A classifier good enough to see that there is one."""
    monkeypatch.setattr("fastgan.metrics.classifier.STEPS", 50)


class TestEvaluate:
    @pytest.mark.slow
    def test_table_and_files(self, run, tmp_path, capsys):
        run = shutil.copytree(run, tmp_path / "run")
        capsys.readouterr()
        assert main(["evaluate", str(run), "--samples", "60", "--json", str(tmp_path / "scores.json")]) == 0
        printed = capsys.readouterr().out
        found = json.loads((run / "evaluation.json").read_text())
        assert (tmp_path / "scores.json").read_text() == (run / "evaluation.json").read_text()
        assert not [name for name in os.listdir(run) if name.startswith(".eval")]  # nothing half written
        assert found["metrics"]["frechet"] > 0
        assert {"precision", "recall", "coverage", "path_length", "classes_covered"} < found["metrics"].keys()
        protocol = found["protocol"]
        assert (protocol["real"], protocol["generated"], protocol["seed"]) == (1797, 60, 0)
        assert (protocol["checkpoint"], protocol["weights"]) == ("last, step 5", "moving average")
        assert protocol["accuracy"] >= 0.9
        for name in [*found["metrics"], *found["protocol"]]:
            assert name in printed

    @pytest.mark.slow
    def test_weights(self, run, tmp_path, capsys):
        results = []
        for which in [], ["--raw"], ["--checkpoint", "previous"], ["--seed", "1"]:
            out = tmp_path / "scores.json"
            arguments = ["--samples", "30", "--metrics", "frechet,sliced_wasserstein", "--json", str(out), *which]
            assert main(["evaluate", str(run), *arguments]) == 0
            results.append(json.loads(out.read_text()))
        assert len({result["metrics"]["sliced_wasserstein"] for result in results}) == 4
        assert results[1]["protocol"]["weights"] == "as trained"
        assert results[2]["protocol"]["checkpoint"] == "previous, step 4"
        assert not (run / "evaluation.json").exists()  # a part is not the whole

    def test_inception(self, run, tmp_path, capsys):
        torch.jit.trace(Means(), torch.zeros(2, 3, 16, 16, dtype=torch.uint8)).save(str(tmp_path / "network.pt"))
        arguments = ["--inception", str(tmp_path / "network.pt"), "--samples", "30", "--metrics", "frechet,precision"]
        assert main(["evaluate", str(run), *arguments]) == 0
        assert "network.pt, SHA-256 " in capsys.readouterr().out

    def test_pretrained_features(self, run, capsys, error):
        arguments = ["--features", "small", "--samples", "30", "--metrics", "frechet"]
        assert main(["evaluate", str(run), *arguments]) == 0
        assert ["features", "small"] in [line.split() for line in capsys.readouterr().out.splitlines()]
        assert "features must be small, lite0, vgg16, vgg19, or a file of weights, not 'big'" in error(
            "evaluate", run, "--features", "big"
        )
        assert "give --features or --inception, not both" in error("evaluate", run, *arguments, "--inception", "x")

    def test_an_exported_generator(self, run, tmp_path, error):
        out = tmp_path / "digits.safetensors"
        assert main(["export", str(run), "--out", str(out)]) == 0
        assert "does not say what it was trained on: --data NAME" in error("evaluate", out)
        assert main(["evaluate", str(out), "--data", "digits", "--samples", "30", "--metrics", "kernel"]) == 0

    def test_says_what_is_wrong(self, run, tmp_path, error):
        assert "holds no run" in error("evaluate", tmp_path)
        assert "samples must be at least 20, not 3" in error("evaluate", run, "--samples", 3)
        assert "no metric is; accepted: frechet (fid)," in error("evaluate", run, "--metrics", "is")
        assert "there is no file nowhere.pt" in error("evaluate", run, "--inception", "nowhere.pt")
        assert "there is no directory /nowhere" in error("evaluate", run, "--json", "/nowhere/scores.json")
        assert "unknown data set 'digit'" in error("evaluate", run, "--data", "digit")
        moved = shutil.copytree(run, tmp_path / "run")
        text = (moved / "config.yaml").read_text().replace("data: digits", "data: pictures")
        (moved / "config.yaml").write_text(text)
        assert "unknown data set 'pictures'" in (line := error("evaluate", moved))
        assert "--data NAME gives other data" in line


class Means(torch.nn.Module):
    def forward(self, images):
        return images.float().mean(dim=3).flatten(1)


class TestProject:
    def test_picture(self, run, tmp_path, capsys):
        save_png(tmp_path / "digit.png", load("digits", 20).images[3])
        arguments = ["--steps", "20", "--restarts", "3", "--out", str(tmp_path / "out.png")]
        capsys.readouterr()
        assert main(["project", str(run), str(tmp_path / "digit.png"), *arguments]) == 0
        line = capsys.readouterr().out
        assert "steps 0, 3, 6, 9, 11, 14, 17, 20; mean squared error" in line
        last, first = (float(line.split(word)[1].split(",")[0]) for word in ("squared error ", "at first "))
        assert 0 < last < first
        picture = np.array(Image.open(tmp_path / "out.png"))
        assert picture.shape == (4 * 20, 4 * (9 * 18 + 2))
        original = np.array(Image.open(tmp_path / "digit.png").resize((16, 16), Image.Resampling.BICUBIC)).astype(int)
        np.testing.assert_allclose(picture[8:72:4, 8:72:4].astype(int), original, atol=2)

    def test_says_what_is_wrong(self, run, tmp_path, error):
        (tmp_path / "text.png").write_text("no picture")
        assert "there is no picture nowhere.png" in error("project", run, "nowhere.png")
        assert "text.png cannot be used: not a picture" in error("project", run, tmp_path / "text.png")
        assert "--steps must be at least 1" in error("project", run, tmp_path / "text.png", "--steps", 0)
        assert "ends in .png" in error("project", run, tmp_path / "text.png", "--out", "way.gif")


class TestReport:
    def test_page(self, run, tmp_path, capsys):
        assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
        assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
        assert main(["report", str(run)]) == 0
        assert (run / "report.html").exists()

    def test_says_what_is_wrong(self, run, tmp_path, error):
        assert "holds no run" in error("report", tmp_path)
        assert "ends in .html" in error("report", run, "--out", tmp_path / "page.pdf")
        assert "there is no directory /nowhere" in error("report", run, "--out", "/nowhere/page.html")
