"""export and read_export: the same pictures, and every way in which the files can be wrong."""

import hashlib
import json
import os
import sys

import pytest
import safetensors.torch
import torch

import fastgan
from fastgan.systems import create
from fastgan.training import Trainer, load
from fastgan.training.export import export, read_export

EVERY = {"sample_every": 0, "checkpoint_every": 3, "log_every": 1, "samples": 4, "batch_size": 8}


@pytest.fixture
def run(tiny, pictures, tmp_path):
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **EVERY).fit(4)
    return tmp_path / "run"


@pytest.fixture
def path(run, tmp_path):
    export(run, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def drawn(system):
    return system.sample(3, generator=torch.Generator().manual_seed(0))


def record(path):
    return json.loads(path.with_suffix(".json").read_text())


def rewrite(path, tensors=None, **changes):
    """Both files, with a right checksum, whatever they say."""
    if tensors is not None:
        safetensors.torch.save_file(tensors, path)
        changes.setdefault("sha256", hashlib.sha256(path.read_bytes()).hexdigest())
    path.with_suffix(".json").write_text(json.dumps({**record(path), **changes}))


class TestSamePictures:
    @pytest.mark.parametrize("averaged", [True, False])
    @pytest.mark.parametrize("which", ["last", "previous"])
    def test_as_the_run(self, run, tmp_path, averaged, which):
        export(run, tmp_path / "a.safetensors", averaged=averaged, which=which)
        expected = drawn(load(run, averaged=averaged, which=which, device="cpu"))
        assert torch.equal(drawn(read_export(tmp_path / "a.safetensors")), expected)
        assert torch.equal(drawn(fastgan.load(tmp_path / "a.safetensors", device="cpu")), expected)
        assert record(tmp_path / "a.safetensors")["averaged"] == averaged
        assert record(tmp_path / "a.safetensors")["step"] == {"last": 4, "previous": 3}[which]

    def test_eval_mode(self, path):
        assert not any(module.training for module in read_export(path).modules())

    def test_double(self, tiny, pictures, tmp_path):
        Trainer(tiny().double(), pictures, out=tmp_path / "run", device="cpu", **EVERY).fit(1)
        export(tmp_path / "run", tmp_path / "a.safetensors")
        system = read_export(tmp_path / "a.safetensors")
        assert system.dtype == torch.float64
        assert torch.equal(drawn(system), drawn(load(tmp_path / "run", device="cpu")))

    def test_without_an_average(self, tiny, pictures, tmp_path):
        Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **EVERY, ema=0).fit(1)
        export(tmp_path / "run", tmp_path / "a.safetensors")
        assert record(tmp_path / "a.safetensors")["averaged"] is False

    def test_the_callers_random_numbers_stay(self, run, path, tmp_path):
        state = torch.get_rng_state()
        read_export(path)
        export(run, tmp_path / "b.safetensors")
        assert torch.equal(state, torch.get_rng_state())


class TestFiles:
    def test_holds_the_generator_alone(self, path):
        tensors = safetensors.torch.load_file(path)
        expected = create("dcgan", resolution=16, channels=1, width=8, latent=8).generator.state_dict()
        assert tensors.keys() == {f"generator.{name}" for name in expected}

    def test_description(self, run, tmp_path):
        described = export(run, tmp_path / "a.safetensors")
        assert described == tmp_path / "a.json"
        found = json.loads(described.read_text())
        assert found.pop("sha256") == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
        assert found.pop("versions").keys() >= {"fastgan", "torch"}
        options = found.pop("options")
        assert options["width"] == 8
        assert options["slope"] == 0.2  # not asked for, written all the same
        assert found.pop("data").keys() == {"name", "images", "classes", "digest"}
        assert found == {"format": 1, "system": "dcgan", "averaged": True, "step": 4, "image_shape": [1, 16, 16]}

    def test_whole_or_not_at_all(self, run, path, tmp_path, monkeypatch):
        before = path.read_bytes()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"could not write it \(No space left on device\).*a\.safetensors"):
            export(run, path, averaged=False)
        assert path.read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == ["a.json", "a.safetensors", "run"]


class TestSaysWhatIsWrong:
    def test_suffix(self, run, tmp_path):
        with pytest.raises(ValueError, match=r"ends in \.safetensors; .*a\.pt does not"):
            export(run, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=r"ends in \.safetensors"):
            read_export(tmp_path / "a.pt")

    def test_no_directory(self, run, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere"):
            export(run, tmp_path / "nowhere" / "a.safetensors")

    def test_no_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            export(tmp_path, tmp_path / "a.safetensors")

    def test_missing_files(self, path):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.safetensors; `fastgan export RUN"):
            read_export(path.with_name("b.safetensors"))
        path.with_suffix(".json").unlink()
        with pytest.raises(FileNotFoundError, match=r"a\.json, which says what the weights beside it are, is missing"):
            read_export(path)

    @pytest.mark.parametrize("position", [0, 100, -1])
    def test_a_changed_byte(self, path, position):
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged, or not what .*a\.json describes"):
            read_export(path)

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(ValueError, match="is damaged"):
            read_export(path)

    def test_not_safetensors(self, path):
        path.write_bytes(b"something else")
        rewrite(path, sha256=hashlib.sha256(b"something else").hexdigest())
        with pytest.raises(ValueError, match=r"a\.safetensors is not a safetensors file"):
            read_export(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"{", r"a\.json is damaged: Expecting"),
            (b"\xff\xfe\xff", r"a\.json is damaged"),
            (b"[]", r"a\.json is damaged: it must hold an object"),
            (b"{}", r"a\.json has format None; this version reads format 1"),
            (b'{"format": 1}', r"a\.json is damaged: system must be of type str, not None"),
        ],
    )
    def test_a_damaged_description(self, path, text, message):
        path.with_suffix(".json").write_bytes(text)
        with pytest.raises(ValueError, match=message):
            read_export(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 2}, "has format 2; this version reads format 1"),
            ({"system": "dcgam"}, r"describes no system of this version: no system 'dcgam' \(did you mean dcgan"),
            ({"options": {"widht": 8}}, "describes no system of this version: system dcgan has no option 'widht'"),
            ({"options": {"width": "8"}}, "describes no system of this version: .*width must be a whole number"),
        ],
    )
    def test_another_system(self, path, changes, message):
        rewrite(path, **changes)
        with pytest.raises(ValueError, match=message):
            read_export(path)

    def test_other_weights(self, path):
        tensors = safetensors.torch.load_file(path)
        name = next(name for name, tensor in tensors.items() if len(tensor.shape) == 4)
        rewrite(path, {key: tensor for key, tensor in tensors.items() if key != name})
        with pytest.raises(ValueError, match=f"lacks {name}: these are not the weights"):
            read_export(path)
        rewrite(path, {**tensors, "generator.more": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"also holds generator\.more"):
            read_export(path)
        rewrite(path, {**tensors, name: tensors[name][:1]})
        with pytest.raises(ValueError, match=rf"{name} in .* has shape \(1, .*\), the system described beside it \("):
            read_export(path)
        rewrite(path, {"a": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"lacks generator\..* and \d+ more"):
            read_export(path)

    def test_without_safetensors(self, run, path, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
        for call in (lambda: export(run, tmp_path / "b.safetensors"), lambda: read_export(path)):
            with pytest.raises(ImportError, match=r'pip install "fastgan\[train\]"'):
                call()
