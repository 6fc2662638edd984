"""export and read_export: the same pictures, and every way in which the files can be wrong."""

import hashlib
import json
import os
import sys

import pytest
import safetensors
import safetensors.torch
import torch

import fastgan
from fastgan.runs import load
from fastgan.runs.export import export, read_export
from fastgan.systems import create
from fastgan.training import Trainer

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
    with safetensors.safe_open(path, "pt") as file:
        return json.loads(file.metadata()["fastgan"])


def rewrite(path, tensors=None, text=None, **changes):
    """The file with a right checksum, whatever it says."""
    tensors = safetensors.torch.load_file(path) if tensors is None else tensors
    description = {**record(path), **changes}
    del description["sha256"]
    plain = safetensors.torch.save(tensors)
    data = plain[8 + int.from_bytes(plain[:8], "little") :]
    description["sha256"] = hashlib.sha256(json.dumps(description).encode() + data).hexdigest()
    safetensors.torch.save_file(tensors, path, {"fastgan": json.dumps(description) if text is None else text})


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
        returned = export(run, tmp_path / "a.safetensors")
        found = record(tmp_path / "a.safetensors")
        assert len(found.pop("sha256")) == 64
        assert found == json.loads(json.dumps(returned))
        assert found.pop("versions").keys() >= {"fastgan", "torch"}
        options = found.pop("options")
        assert options["width"] == 8
        assert options["slope"] == 0.2  # not asked for, written all the same
        assert found.pop("data").keys() == {"name", "images", "classes", "digest"}
        assert found == {
            "format": 2, "system": "dcgan", "averaged": True, "step": 4, "image_shape": [1, 16, 16],
            "latent_shape": [8], "classes": 0,
        }  # fmt: skip

    def test_of_format_1(self, path):
        """Whose description is a file beside it."""
        expected, description = drawn(read_export(path)), record(path)
        safetensors.torch.save_file(safetensors.torch.load_file(path), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps({**description, "format": 1, "sha256": digest}))
        assert torch.equal(drawn(read_export(path)), expected)
        path.with_suffix(".json").write_text(json.dumps({**description, "format": 1, "sha256": "0"}))
        with pytest.raises(ValueError, match=r"is damaged, or not what .*a\.json describes"):
            read_export(path)

    def test_whole_or_not_at_all(self, run, path, tmp_path, monkeypatch):
        before = path.read_bytes()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"could not write it \(No space left on device\).*a\.safetensors"):
            export(run, path, averaged=False)
        assert path.read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "run"]


class TestSaysWhatIsWrong:
    def test_suffix(self, run, tmp_path):
        with pytest.raises(ValueError, match=r"ends in \.safetensors, \.pt2 or \.onnx, not '.*a\.pt'"):
            export(run, tmp_path / "a.pt")
        with pytest.raises(IsADirectoryError, match=r"must be a file, and .* is a directory"):
            export(run, tmp_path)
        with pytest.raises(ValueError, match=r"ends in \.safetensors"):
            read_export(tmp_path / "a.pt")

    def test_no_directory(self, run, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no directory .*nowhere"):
            export(run, tmp_path / "nowhere" / "a.safetensors")

    def test_no_run(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no run"):
            export(tmp_path, tmp_path / "a.safetensors")

    def test_missing_file(self, path):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*b\.safetensors; `fastgan export RUN"):
            read_export(path.with_name("b.safetensors"))

    @pytest.mark.parametrize("position", [0, 30, 100, -1])
    def test_a_changed_byte(self, path, position):
        data = bytearray(path.read_bytes())
        data[position] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
            read_export(path)

    def test_truncated(self, path):
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(ValueError, match="is damaged"):
            read_export(path)

    def test_another_file(self, path):
        safetensors.torch.save_file({"a": torch.zeros(1)}, path)
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged, or `fastgan export` did not write it"):
            read_export(path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", r"a\.safetensors is damaged: Expecting"),
            ("[]", r"a\.safetensors is damaged: its description must be an object"),
            ("{}", r"a\.safetensors has format None; this version reads format 2"),
            ('{"format": 2}', r"a\.safetensors is damaged: system must be of type str, not None"),
        ],
    )
    def test_a_damaged_description(self, path, text, message):
        rewrite(path, text=text)
        with pytest.raises(ValueError, match=message):
            read_export(path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": 3}, "has format 3; this version reads format 2"),
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
        with pytest.raises(ValueError, match=rf"{name} in .* has shape \(1, .*\), in the system described \("):
            read_export(path)
        rewrite(path, {"a": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"lacks generator\..* and \d+ more"):
            read_export(path)

    def test_without_safetensors(self, run, path, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
        for call in (lambda: export(run, tmp_path / "b.safetensors"), lambda: read_export(path)):
            with pytest.raises(ImportError, match="pip install safetensors"):
                call()
        assert not (tmp_path / "b.safetensors").exists()

    def test_without_onnx(self, run, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ImportError, match="pip install onnx onnxscript"):
            export(run, tmp_path / "b.onnx")
        assert not (tmp_path / "b.onnx").exists()
