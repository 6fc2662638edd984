"""make gallery: trainings that end by time, go on where they stopped, and become a page."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from fastgan import cli
from fastgan.runs.making import parted
from fastgan.runs.run import Run
from fastgan.systems import create
from fastgan.systems.registry import find

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "training": {"samples": 1, "evaluate_every": 0, "ema": 0.0},
    "systems": {
        "small": {
            "system": "pix2pix", "data": "fluent", "minutes": 0.01, "rows": [5, 2],
            "options": {"resolution": 16, "width": 4, "discriminator_width": 4, "layers": 1, "batch_size": 2,
                        "jitter": 0, "decay": "linear"},
            "shares": {"decay_from": 0.5},
        },
    },
}  # fmt: skip


def tool(name):
    """A file of tools/ as a module, as those that it runs beside know it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def gallery():
    page = tool("gallery_page")
    module = tool("gallery")
    assert module.gallery_page is page
    module.FITTED = (0.5,)  # a start less
    yield module
    del sys.modules["gallery"], sys.modules["gallery_page"]


@pytest.fixture
def made(gallery, tmp_path):
    """`made(*words)`: the tool with tiny settings in an own folder."""

    def run(*words, settings=TINY):
        (tmp_path / "gallery.yaml").write_text(yaml.safe_dump(settings))
        places = ("--settings", "gallery.yaml"), ("--runs", "runs"), ("--docs", "docs")
        return gallery.main([*words, *(str(x) for flag, name in places for x in (flag, tmp_path / name))])

    return run


@pytest.mark.slow
def test_a_gallery_is_made_and_goes_on(made, gallery, tmp_path, capsys):
    assert made() == 0
    first = json.loads((tmp_path / "docs/gallery/small.json").read_text())
    run = Run(tmp_path / "runs/small")
    assert first["seconds"] >= gallery.ENOUGH * 0.6
    assert first["steps"] == run.read()["step"] >= 3
    assert first["protocol"]["data"] == "fluent@test"
    assert first["examples"]["forward"].keys() == {"baseline", "metrics", "of_baseline"}
    assert first["machine"]["torch"] == torch.__version__
    options = run.asked().options
    assert options["decay_from"] + options["decay_steps"] == run.asked().steps < gallery.MANY  # fitted to the time

    sheet = tmp_path / "docs/gallery/small.png"
    assert sheet.stat().st_size <= 150_000
    with Image.open(sheet) as picture:
        columns, rows = 3, 2  # the baseline is the input
        assert picture.size == (columns * 132 + 4, rows * 132 + 16 + 4)
    page = (tmp_path / "docs/gallery.md").read_text()
    assert page == gallery.gallery_page.page(tmp_path / "docs", ["small"])
    for part in ("## small", "(gallery/small.png)", first["command"], "| *copy* |", f"{first['steps']:,} steps"):
        assert part in page

    # The time is over: not a step more. More time: on from there.
    small = gallery.Entry(**TINY["systems"]["small"])
    assert gallery.train(small, run.path, 0.01, TINY["training"]).seconds == pytest.approx(first["seconds"], abs=0.1)
    assert run.read()["step"] == first["steps"]
    assert made("--minutes", "0.02") == 0
    longer = json.loads((tmp_path / "docs/gallery/small.json").read_text())
    assert longer["steps"] > first["steps"]
    assert longer["seconds"] > first["seconds"]

    # The command is one that trains with these options.
    capsys.readouterr()
    asked = run.asked()
    words = shlex.split(longer["command"])[1:]
    steps = words.index("--steps") + 1
    assert words[steps] == str(asked.steps)
    words[steps] = "1"
    assert cli.main([*words, "--samples", "1", "--evaluate-every", "0", "--out", str(tmp_path / "again")]) == 0
    again = Run(tmp_path / "again").asked()
    assert (again.options, again.batch_size, again.jitter) == (asked.options, 2, 0)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_its_own_settings(made, gallery, tmp_path, monkeypatch, capsys):
    on_step = gallery.Clock.on_step

    def interrupted(clock, trainer):
        on_step(clock, trainer)
        if trainer.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(gallery.Clock, "on_step", interrupted)
        assert made("--minutes", "1") == 130
    assert "the same command goes on with it" in capsys.readouterr().err
    assert not (tmp_path / "docs").exists()
    before = Run(tmp_path / "runs/small").read()
    assert before["step"] == 3

    entry = TINY["systems"]["small"]
    other = {**TINY, "systems": {"small": {**entry, "options": {**entry["options"], "width": 8}}}}
    assert made("--minutes", "1", settings=other) == 1
    assert "options.width: 4 -> 8" in capsys.readouterr().err

    minutes = before["callbacks"]["gallery"]["seconds"] / 60 + 0.01
    clock = gallery.train(gallery.Entry(**entry), tmp_path / "runs/small", minutes, TINY["training"])
    assert clock.seconds >= gallery.ENOUGH * 60 * minutes
    assert Run(tmp_path / "runs/small").read()["step"] > 3


@pytest.mark.processes
def test_an_unknown_name(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/gallery.py"), "--only", "pix2pix,pix3pix", "--docs", str(tmp_path / "docs")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    known = ", ".join(yaml.safe_load((ROOT / "benchmarks/gallery.yaml").read_text())["systems"])
    assert done.stderr == f"make gallery: the gallery has {known}, not 'pix3pix'\n"
    assert not (tmp_path / "docs").exists()


def test_minutes_are_positive(made, capsys):
    assert made("--minutes", "0") == 2
    assert capsys.readouterr().err == "make gallery: minutes must be more than 0, not 0\n"


def test_rows_that_are_not_there(gallery):
    system = create("pix2pix", resolution=16, width=4, layers=1)
    with pytest.raises(ValueError, match=r"from 0 to 179 in fluent@test, not \[0, 180\]"):
        next(gallery.gallery_page._bands(system, "fluent", [0, 180], None))


def entry(gallery, **given):
    return gallery.Entry("srgan", "photos", 1, [0], **given)


def test_steps_are_those_that_the_time_allows(gallery):
    plain = entry(gallery)
    assert plain.steps_within(10.0, 0, {}, (0.1, 0.1)) == pytest.approx(100, abs=1)
    assert plain.steps_within(10.0, 50, {}, (0.1, 0.1)) == pytest.approx(150, abs=1)
    assert plain.steps_within(0.0, 50, {}, (0.1, 0.1)) == 51  # one more, that the training can end
    # Two thirds of the steps take one second, a third three: 6/10 of the time is of the third.
    staged = entry(gallery, shares={"pretrain": 2 / 3}, later={"pretrain": 3})
    steps = staged.steps_within(500.0, 0, {}, (1.0, 3.0))
    assert steps == pytest.approx(300, abs=1)
    assert staged.schedule(steps, 0, {})["pretrain"] == pytest.approx(200, abs=1)
    # In the second stage, it is later steps alone that the time is for, and the first stays as long as it was.
    assert staged.steps_within(30.0, 250, {"pretrain": 200}, (1.0, 3.0)) == pytest.approx(260, abs=1)
    assert staged.schedule(400, 250, {"pretrain": 200}) == {"pretrain": 200}
    # Before it, no stage begins in what is done.
    assert staged.schedule(60, 50, {"pretrain": 10**6}) == {"pretrain": 50}


def test_the_decay_ends_with_the_last_step(gallery):
    decaying = entry(gallery, shares={"decay_from": 0.5})
    assert decaying.schedule(100, 0, {}) == {"decay_from": 50, "decay_steps": 50}
    assert decaying.schedule(200, 60, {"decay_from": 50, "decay_steps": 50}) == {"decay_from": 50, "decay_steps": 150}


def test_the_clock_measures_each_stage_and_goes_on(gallery, monkeypatch):
    class Trainer:
        step = 0
        stopped = ""

        class config:
            options = {"pretrain": 2}  # noqa: RUF012

        def stop(self, reason):
            self.stopped = reason

    now = 0.0
    monkeypatch.setattr(gallery, "_seconds", lambda: now)
    clock, trainer = gallery.Clock({"pretrain": 4}, until=8.0), Trainer()
    assert clock.rates is None
    clock.on_start(trainer)
    for step, seconds in enumerate((1.0, 1.0, 3.0), 1):
        trainer.step = step
        now += seconds
        clock.on_step(trainer)
        assert clock.rates == ((1.0, 4.0) if step < 3 else (1.0, 3.0))
    assert not trainer.stopped
    again = gallery.Clock({"pretrain": 4}, until=8.0)
    again.load_state_dict(clock.state_dict())
    assert again.rates == (1.0, 3.0)
    again.on_start(trainer)
    now += 3.0
    trainer.step = 4
    again.on_step(trainer)
    assert trainer.stopped == "8 seconds have passed"


def settings():
    return yaml.safe_load((ROOT / "benchmarks/gallery.yaml").read_text())


@pytest.mark.parametrize("name", settings()["systems"])
def test_the_settings_are_ones(gallery, name):
    entries, training = gallery.read(ROOT / "benchmarks/gallery.yaml")
    entry = entries[name]
    assert hasattr(find(entry.system), "directions")
    assert {*entry.later} <= {*entry.shares}
    assert len(entry.later) <= 1
    asked = {**training, **entry.options, **entry.schedule(1000, 0, {})}
    _, own = parted(entry.system, asked)
    assert {*entry.shares} <= {*own}
    find(entry.system).Config(**own)


def test_the_page_is_of_what_is_there(gallery):
    """Written by the tool, and of all that was measured."""
    page, results = ROOT / "docs/gallery.md", sorted((ROOT / "docs/gallery").glob("*.json"))
    assert page.exists() == bool(results)
    if results:
        names = [*settings()["systems"]]
        assert {file.stem for file in results} <= {*names}
        assert page.read_text() == gallery.gallery_page.page(ROOT / "docs", names)
        for file in results:
            assert file.with_suffix(".png").stat().st_size <= gallery.gallery_page.BYTES
