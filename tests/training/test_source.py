"""What a run remembers of its data, what it says when they are others, and that its own files are never among them."""

import json
import os
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.cli import main
from fastgan.data import ImageData, load
from fastgan.data.decode import decode
from fastgan.runs import checkpoint, config
from fastgan.runs.export import export
from fastgan.systems import create
from fastgan.training import Trainer
from fastgan.training.callbacks import pace
from tests.training.states import same, state

FEW = {
    "device": "cpu",
    "batch_size": 4,
    "samples": 4,
    "health": False,
    "evaluate_every": 0,
    "workers": 0,
    "log_every": 1,
}


def photos(root, classes=("cats", "dogs"), count=6, kind="png"):
    for number in range(count):
        place = root / classes[number % len(classes)] if classes else root
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.{kind}")
    return root


def system(name="dcgan", **options):
    torch.manual_seed(0)
    return create(name, **{"resolution": 16, "channels": 1, "width": 4, "latent": 8, **options})


def begin(data, out, steps=1, name="dcgan", **options):
    Trainer(system(name, **options), data, out=out, **FEW).fit(steps)
    return out


class TestAnotherData:
    """What has changed between two parts of a run is said in one error, with what to do."""

    @pytest.fixture
    def run(self, tmp_path):
        return begin(str(photos(tmp_path / "photos")), tmp_path / "my run")

    def refused(self, run, match, **arguments):
        with pytest.raises(ValueError, match=match) as error:
            Trainer.resume(run, device="cpu", **arguments)
        return str(error.value)

    def test_the_same_is_silent(self, run, caplog):
        with caplog.at_level("INFO", "fastgan"):
            Trainer.resume(run, device="cpu").fit(2)
        assert not [line for line in caplog.messages if "goes on" in line or "left out" in line]
        assert state(run)["step"] == 2

    def test_a_class_renamed(self, run, tmp_path):
        (tmp_path / "photos" / "cats").rename(tmp_path / "photos" / "zebras")
        text = self.refused(run, "trained on other data: classes renamed: cats -> zebras")
        assert f"fastgan train dcgan --data {tmp_path}/photos --init-from '{run}' --out" in text

    def test_a_class_renamed_where_the_listing_is_lost(self, run, tmp_path):
        (tmp_path / "photos" / "cats").rename(tmp_path / "photos" / "zebras")
        (run / "data.txt.gz").write_bytes(b"nothing")
        self.refused(run, "classes removed: cats; classes added: zebras")

    def test_a_class_more(self, run, tmp_path):
        photos(tmp_path / "photos" / "birds", (), 2)
        self.refused(run, "6 images then, 8 now; classes added: birds")

    def test_a_picture_moved(self, run, tmp_path):
        (tmp_path / "photos" / "cats" / "0.png").rename(tmp_path / "photos" / "dogs" / "0.png")
        self.refused(run, "pictures moved: 1, such as cats/0.png -> dogs/0.png")

    def test_pictures_added_and_removed(self, run, tmp_path):
        (tmp_path / "photos" / "cats" / "0.png").rename(tmp_path / "photos" / "cats" / "new.png")
        self.refused(run, "pictures removed: 1, such as cats/0.png; pictures added: 1, such as cats/new.png")
        shutil.copy(tmp_path / "photos" / "cats" / "new.png", tmp_path / "photos" / "cats" / "0.png")
        self.refused(run, "6 images then, 7 now; pictures added: 1, such as cats/new.png")

    def test_pictures_of_another_class_by_the_table(self, tmp_path):
        root = photos(tmp_path / "photos", ())
        rows = ["file,caption,label", *(f"{i}.png,x,{'even' if i % 2 == 0 else 'odd'}" for i in range(6))]
        (root / "captions.csv").write_text("\n".join(rows))
        run = begin(str(root), tmp_path / "run")
        (root / "captions.csv").write_text("\n".join(rows).replace("3.png,x,odd", "3.png,x,even"))
        self.refused(run, "pictures of another class: 1, such as 3.png")
        (root / "captions.csv").write_text("\n".join([rows[0], *rows[:0:-1]]))
        self.refused(run, "the same pictures in another order")

    def test_other_pixels_or_labels_in_memory(self, tmp_path):
        images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
        labels = torch.arange(8) % 2
        data = ImageData(images, labels, ("a", "b"), name="mine")
        run = begin(data, tmp_path / "run")
        for other, match in (
            (ImageData(images, labels, ("b", "a")), "classes in another order: a, b then, b, a now"),
            (ImageData(images, 1 - labels, ("a", "b")), "as many images, but others"),
            (ImageData(255 - images, labels, ("a", "b")), "as many images, but others"),
            (images[:6], "8 images then, 6 now"),
        ):
            self.refused(run, match, data=other)
        Trainer.resume(run, data=data, device="cpu").fit(2)

    def test_labels_of_a_torch_data_set(self, tmp_path):
        class Own(torch.utils.data.Dataset):
            classes = ("a", "b")

            def __init__(self, targets):
                self.targets = targets

            def __len__(self):
                return len(self.targets)

            def __getitem__(self, i):
                return torch.full((1, 16, 16), i, dtype=torch.uint8), self.targets[i]

        run = begin(Own([0, 1] * 4), tmp_path / "run")
        self.refused(run, "as many images, but others", data=Own([1, 0] * 4))
        Trainer.resume(run, data=Own([0, 1] * 4), device="cpu").fit(2)

    def test_data_made_smaller_are_known_by_what_they_were(self):
        data = load("digits")
        known = fastgan.data.identity.identity
        assert known(data)["digest"] == known(data.resize(32).with_channels(3))["digest"]
        assert known(data)["digest"] != known(ImageData(255 - data.images))["digest"]


class TestOtherForms:
    """Advice names what the data have."""

    def test_a_data_set_without_resize(self, tmp_path):
        with pytest.raises(ValueError, match="another resolution, or change the images in your data set"):
            begin([torch.zeros(1, 28, 28, dtype=torch.uint8)] * 8, tmp_path / "run")
        with pytest.raises(ValueError, match=r"channels=3, or change the images in your data set"):
            begin([torch.zeros(3, 16, 16, dtype=torch.uint8)] * 8, tmp_path / "run")
        with pytest.raises(ValueError, match=r"or use data\.resize\(16\)"):
            begin(load("digits"), tmp_path / "run")


class TestFoundAgain:
    def test_from_another_directory(self, tmp_path, monkeypatch):
        photos(tmp_path / "my photos")
        monkeypatch.chdir(tmp_path)
        begin("my photos", tmp_path / "run")
        assert config.read(tmp_path / "run" / "config.yaml")["data"] == str(tmp_path / "my photos")
        monkeypatch.chdir("/")
        Trainer.resume(tmp_path / "run", device="cpu").fit(2)

    def test_moved(self, tmp_path, caplog):
        run = begin(photos(tmp_path / "photos"), tmp_path / "run")
        (tmp_path / "photos").rename(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=r"unknown data set .*/photos'.* --data PATH says where"):
            Trainer.resume(run, device="cpu")
        Trainer.resume(run, device="cpu", data=str(tmp_path / "elsewhere")).fit(2)
        assert config.read(run / "config.yaml")["data"] == str(tmp_path / "elsewhere")

    def test_a_data_set_loaded_by_its_path(self, tmp_path, monkeypatch):
        photos(tmp_path / "photos")
        monkeypatch.chdir(tmp_path)
        begin(load("photos", 16, 1), tmp_path / "run")
        monkeypatch.chdir("/")
        Trainer.resume(tmp_path / "run", device="cpu").fit(2)


class TestOldRuns:
    """Checkpoints that say nothing of classes and listing go on by the rules of their time, in the same bits."""

    def aged(self, run):
        known = checkpoint.load(run / "checkpoint.pt")
        for name in ("classes", "digest", "rules", "left_out"):
            known["data"].pop(name)
        known.pop("format")
        checkpoint.save(run / "checkpoint.pt", known)
        for name in ("data.json", "data.txt.gz"):
            (run / name).unlink()

    def test_classes_keep_their_order(self, tmp_path):
        root = photos(tmp_path / "photos", tuple(map(str, range(12))), 24)
        for name in ("straight", "stopped"):
            source = fastgan.data.folder.Folder(str(root), rules=1).resize(16).with_channels(1)
            assert source.classes[2] == "10"
            begin(source, tmp_path / name, 2, "acgan", classes=12)
        self.aged(tmp_path / "stopped")
        for name in ("straight", "stopped", "stopped"):
            trainer = Trainer.resume(tmp_path / name, device="cpu")
            trainer.fit(trainer.step + (2 if name == "straight" else 1))
        assert trainer.source.classes[2] == "10"
        assert same(state(tmp_path / "straight")["system"], state(tmp_path / "stopped")["system"])
        assert fastgan.load(tmp_path / "stopped").class_names[2] == "10"

    def test_parts_stay_classes(self, tmp_path):
        root = photos(tmp_path / "photos", ("train", "test"))
        source = fastgan.data.folder.Folder(str(root), rules=1).resize(16).with_channels(1)
        self.aged(begin(source, tmp_path / "run"))
        trainer = Trainer.resume(tmp_path / "run", device="cpu")
        assert (trainer.source.classes, len(trainer.source)) == (("test", "train"), 6)


class TestClassNames:
    @pytest.fixture
    def run(self, tmp_path):
        return begin(str(photos(tmp_path / "photos", ("2", "10", "an owl"))), tmp_path / "run", 1, "acgan", classes=3)

    def test_are_in_every_file_of_a_run(self, run, tmp_path):
        names = ["2", "10", "an owl"]
        assert state(run)["data"]["classes"] == json.loads((run / "data.json").read_text())["classes"] == names
        assert fastgan.load(run).class_names == tuple(names)
        described = export(run, tmp_path / "a.safetensors")
        assert described["data"]["classes"] == names
        assert fastgan.load(tmp_path / "a.safetensors").class_names == tuple(names)

    def test_are_told_at_the_start(self, run):
        assert "6 images of 3 classes (2, 10, an owl), 16x16" in (run / "log.txt").read_text()

    def test_more_classes_than_the_system_was_made_for(self, tmp_path):
        photos(tmp_path / "photos", ("a", "b", "c"))
        with pytest.raises(ValueError, match=r"made for 2 classes, .* has 3: create the system with classes=3"):
            begin(str(tmp_path / "photos"), tmp_path / "run", 1, "acgan", classes=2)
        assert not (tmp_path / "run").exists()


class TestWaiting:
    def test_the_first_pass_over_pictures_that_stay_in_memory_is_no_worry(self, tmp_path, caplog, monkeypatch):
        monkeypatch.setattr("fastgan.data.lazy.decode", lambda *given: time.sleep(0.05) or decode(*given))
        root = str(photos(tmp_path / "photos", (), 12))
        trainer = Trainer(system(), root, out=tmp_path / "run", **{**FEW, "log_every": 1})
        assert trainer.feed.batches.filling
        trainer.fit(3)  # one pass
        assert "waiting for data" not in caplog.text
        assert not trainer.feed.batches.filling
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        waits = [json.loads(line)["data_wait"] for line in lines]
        assert max(waits) > 0.05, "there was nothing to warn of"

    @pytest.mark.parametrize(
        ("workers", "cores", "advice"),
        [
            (0, 4, "--workers 2 (now 0), or smaller picture files"),
            (1, 2, "--workers 2 (now 1), or smaller picture files"),
            (2, 2, "smaller picture files"),
            (3, 4, "--workers 4 (now 3), or smaller picture files"),
        ],
    )
    def test_never_more_workers_than_cores(self, tmp_path, monkeypatch, workers, cores, advice):
        monkeypatch.setattr("fastgan.data.batches.default_workers", lambda: cores)
        data = [torch.zeros(1, 16, 16, dtype=torch.uint8)] * 8
        trainer = Trainer(system(), data, out=tmp_path / "run", **{**FEW, "workers": workers})
        assert pace.advice(trainer.feed.batches.workers, trainer.feed.batches.most_workers) == advice


class TestItsOwnFiles:
    def test_a_run_among_its_data(self, tmp_path, monkeypatch, capsys):
        photos(tmp_path, (), 8)
        monkeypatch.chdir(tmp_path)
        options = ["--width", "4", "--batch-size", "4", "--sample-every", "1", "--resolution", "16", "--workers", "0"]
        train = ["train", "dcgan", "--data", ".", "--device", "cpu", *options]
        assert main([*train, "--steps", "2", "--out", "runs/first"]) == 0
        assert os.path.exists("runs/first/training.gif")
        assert main(["train", "--resume", "runs/first", "--steps", "3"]) == 0
        assert main(["sample", "runs/first", "--count", "4"]) == 0
        assert os.path.exists("grid.png")
        assert main(["train", "--resume", "runs/first", "--steps", "4"]) == 0
        assert main([*train, "--steps", "1", "--out", "runs/second"]) == 0
        for run in ("first", "second"):
            assert state(tmp_path / "runs" / run)["data"]["images"] == 8
        assert state(tmp_path / "runs" / "second")["data"]["left_out"]["drawn"] == 2

    def test_a_run_between_the_pictures(self, tmp_path):
        photos(tmp_path, (), 5)
        begin(torch.zeros(8, 1, 16, 16, dtype=torch.uint8), tmp_path / "run")
        for name in ("checkpoint.pt", "config.yaml", "samples"):
            (tmp_path / "run" / name).rename(tmp_path / name)
        shutil.rmtree(tmp_path / "run")
        assert len(load(tmp_path)) == 5
        assert load(tmp_path).remarks == ["left out, what FastGAN has drawn: ."]
        shutil.copy(tmp_path / "0.png", tmp_path / "grid.png")
        assert len(load(tmp_path)) == 6  # a picture of the user's that is called so
        assert len(load(tmp_path / "samples")) == 1  # asked for by name

    def test_a_directory_with_other_files_is_refused(self, tmp_path):
        photos(tmp_path / "photos", (), 8)
        for out in (tmp_path / "photos", tmp_path):
            with pytest.raises(FileExistsError, match=r"other files, such as .*: a run needs a directory of its own"):
                begin(str(tmp_path / "photos"), out)
        assert sorted(os.listdir(tmp_path)) == ["photos"]
        assert len(os.listdir(tmp_path / "photos")) == 8

    def test_what_a_failed_start_left_is_no_other_file(self, tmp_path):
        out = tmp_path / "run"
        images = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8)
        begin(images, out)
        for name in ("checkpoint.pt", "checkpoint.previous.pt"):
            (out / name).unlink(missing_ok=True)
        begin(images, out)
        (out / "samples" / "holiday.png").touch()
        (out / "checkpoint.pt").unlink()
        (out / "checkpoint.previous.pt").unlink(missing_ok=True)
        with pytest.raises(FileExistsError, match=r"other files, such as samples/holiday\.png"):
            begin(images, out)
