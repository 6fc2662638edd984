"""Files of a trained generator that need no FastGAN give its images; so do its networks, recorded by hand."""

import io
import json
import subprocess
import sys
import warnings

import pytest
import torch

from fastgan.runs import load, recorded
from fastgan.runs.export import export
from fastgan.systems import Translator, names
from fastgan.training import Trainer
from tests.systems.every import rows, small

ELSEWHERE = """
import sys
sys.modules["fastgan"] = None  # not importable here
import torch
for file, arguments in torch.load("arguments.pt").items():
    torch.save(torch.export.load(file).module()(*arguments), file + ".images")
assert not [name for name in sys.modules if name.startswith("fastgan.")]
"""


def made(name):
    """A small system whose running statistics have moved, in eval mode."""
    torch.manual_seed(0)
    system = small(name, latent=100)
    with torch.no_grad():
        making(system)(*inputs(system, 8))
    return system.eval()


def making(system):
    """What its files compute."""
    return system.recording()[0]


def inputs(system, count):
    if isinstance(system, Translator):
        images = rows(system, count, 1)[system.directions[system.way(None)][0]].contiguous()
        random = torch.Generator().manual_seed(2)
        _, *others = system.recording()[1].values()  # such as a reference
        return (images, *(torch.rand(count, *each.shape[1:], generator=random) * 2 - 1 for each in others))
    latent = system.latent(count, torch.Generator().manual_seed(1))
    return (latent, torch.arange(count) % system.classes) if system.classes else (latent,)


def generating(system):
    """The network that makes images, and what it gets."""
    network = system.get_submodule("decoder" if system.name == "autoencoder" else system.averaged[0])
    seen = []
    hook = network.register_forward_pre_hook(
        lambda module, arguments: seen.append(tuple(each.clone() for each in arguments))
    )
    with torch.no_grad():
        making(system)(*inputs(system, 3))
    hook.remove()
    return network, seen[0]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Images of every system's file in a process without FastGAN: {name: (ours, theirs)}, and of its generator's."""
    folder, arguments, ours = tmp_path_factory.mktemp("files"), {}, {}
    for name in names():
        system = made(name)
        with torch.no_grad():
            ours[f"{name}.pt2"] = making(system)(*inputs(system, 3))
            network, x = generating(system)
            ours[f"{name}.network.pt2"] = network(*x)
        torch.export.save(torch.export.export(network, x), folder / f"{name}.network.pt2")
        (folder / f"{name}.pt2").write_bytes(recorded.pt2(made(name), {"system": name}))
        arguments |= {f"{name}.pt2": inputs(system, 3), f"{name}.network.pt2": x}
    torch.save(arguments, folder / "arguments.pt")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {file: (images, torch.load(folder / f"{file}.images")) for file, images in ours.items()}


@pytest.mark.processes
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("what", ["", ".network"])
def test_the_same_images_without_fastgan(elsewhere, name, what):
    ours, theirs = elsewhere[f"{name}{what}.pt2"]
    assert ours.shape == theirs.shape
    assert ours.std() > 0
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", names())
def test_traced(name):
    system = made(name)
    network, x = generating(system)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        traced = torch.jit.trace(network, x)
        whole = torch.jit.trace(recorded.Recorded(system, making(system), inputs(system, 2)), inputs(system, 2))
    assert not [warning for warning in said if "/fastgan/" in warning.filename]
    torch.testing.assert_close(traced(*x), network(*x), rtol=1e-5, atol=1e-5)
    expected = making(system)(*inputs(system, 2))
    torch.testing.assert_close(whole(*inputs(system, 2)), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def run_onnx(request):
    """Runs a file: (bytes, {name: tensor}) -> images, by ONNX Runtime where it is, else by the reference of onnx."""
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
    import onnx

    def call(content, **inputs):
        feed = {name: tensor.numpy() for name, tensor in inputs.items()}
        try:
            from onnxruntime import InferenceSession
        except ImportError:
            from onnx.reference import ReferenceEvaluator

            return torch.from_numpy(ReferenceEvaluator(onnx.load_from_string(content)).run(None, feed)[0])
        return torch.from_numpy(InferenceSession(content).run(None, feed)[0])

    return call


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", names())
class TestOnnx:
    def test_file(self, run_onnx, name):
        content = recorded.onnx(made(name), {"system": name})
        system = made(name)
        arguments = inputs(system, 3)
        expected = making(system)(*arguments).detach()
        found = run_onnx(content, **dict(zip(system.recording()[1], arguments)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dynamo", [True, False])
    def test_network(self, run_onnx, name, dynamo):
        network, x = generating(made(name))
        file = io.BytesIO()
        given = {f"x{number}": values for number, values in enumerate(x)}
        torch.onnx.export(network, x, file, dynamo=dynamo, verbose=False, input_names=list(given))
        torch.testing.assert_close(run_onnx(file.getvalue(), **given), network(*x).detach(), rtol=1e-4, atol=1e-5)


class TestFile:
    def test_holds_what_generates_alone(self):
        program = torch.export.load(io.BytesIO(recorded.pt2(made("sgan"), {})))
        assert {name.partition(".")[0] for name in program.state_dict} == {"generator"}
        assert not program.constants

    def test_labels_choose(self):
        system = made("acgan")
        draw = torch.export.load(io.BytesIO(recorded.pt2(made("acgan"), {}))).module()
        latent = system.latent(1).expand(4, -1)
        images = draw(latent, torch.tensor([3, 1, 3, 0]))
        torch.testing.assert_close(images[0], images[2])
        assert not torch.allclose(images[0], images[1])

    @pytest.mark.parametrize("count", [1, 7])
    def test_any_number(self, count):
        system = made("autoencoder")
        draw = torch.export.load(io.BytesIO(recorded.pt2(made("autoencoder"), {}))).module()
        torch.testing.assert_close(draw(*inputs(system, count)), system.generate(*inputs(system, count)))

    def test_of_a_run(self, tiny, pictures, tmp_path):
        Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", batch_size=8, sample_every=0).fit(2)
        record = export(tmp_path / "run", tmp_path / "a.pt2")
        extra = {recorded.INSIDE: ""}
        draw = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
        assert json.loads(extra[recorded.INSIDE]) == json.loads(json.dumps(record))
        assert record["step"] == 2
        with pytest.raises(
            ValueError, match=r"a\.pt2 makes images without FastGAN, which loads runs and \.safetensors"
        ):
            load(tmp_path / "a.pt2")
        system = load(tmp_path / "run", device="cpu")
        latent = system.latent(4)
        torch.testing.assert_close(draw(latent), system.sample(4, latent=latent), rtol=1e-5, atol=1e-5)
