"""The package's own features: frozen, whole, and of use."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import load
from fastgan.networks import small_features
from fastgan.pretrained import NAMES, Features, features
from fastgan.pretrained import small as of_package


@pytest.fixture(scope="module")
def small() -> Features:
    return features("small")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return load("emoji").images[::40].float() / 127.5 - 1


def distance(small: Features, a: torch.Tensor, b: torch.Tensor) -> float:
    return sum(F.mse_loss(one, other).item() for one, other in zip(small(a), small(b)))


def test_maps_and_descriptions(small):
    maps = small(torch.zeros(2, 3, 40, 24))
    assert [tuple(values.shape) for values in maps] == [
        (2, 16, 40, 24), (2, 32, 20, 12), (2, 64, 10, 6), (2, 80, 5, 3)]  # fmt: skip
    assert len(small.layers) == len(maps)
    assert small.describe(torch.zeros(2, 1, 40, 24)).shape == (2, 192)


def test_gray_pictures_are_three_equal_channels(small):
    gray = torch.rand(2, 1, 16, 16) * 2 - 1
    for one, other in zip(small(gray), small(gray.expand(-1, 3, -1, -1))):
        assert torch.equal(one, other)


def test_it_is_frozen(small):
    assert not any(parameter.requires_grad for parameter in small.parameters())
    assert not torch.nn.Sequential(small).train()[0].training


@pytest.mark.parametrize("change", ["noise", "blur", "light"])
def test_the_distance_rises_with_the_strength_of_a_distortion(small, pictures, change):
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))

    def changed(strength: int) -> torch.Tensor:
        if change == "noise":
            return (pictures + 0.1 * strength * noise).clamp(-1, 1)
        if change == "light":
            return (pictures - 0.15 * strength).clamp(-1, 1)
        side = 2 * strength + 1
        return F.avg_pool2d(F.pad(pictures, (strength,) * 4, mode="replicate"), side, 1)

    found = [distance(small, pictures, changed(strength)) for strength in (1, 2, 3, 4)]
    assert 0 < found[0] < found[1] < found[2] < found[3]


def test_a_turned_picture_is_found_more_often_than_by_pixels(small):
    pictures = load("emoji").images[::8].float() / 127.5 - 1
    angle = torch.tensor(0.4)
    rows = torch.stack([torch.stack([angle.cos(), -angle.sin(), angle * 0.5]),
                        torch.stack([angle.sin(), angle.cos(), angle * 0.3])])  # fmt: skip
    grid = F.affine_grid(rows.expand(len(pictures), -1, -1), list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    def found(describe) -> float:
        a, b = describe(moved), describe(pictures)
        a, b = (F.normalize(values - b.mean(0), dim=1) for values in (a, b))
        return (torch.cdist(a, b).argmin(1) == torch.arange(len(a))).float().mean().item()

    assert found(small.describe) > found(lambda images: F.adaptive_avg_pool2d(images, 16).flatten(1))


class TestErrors:
    def test_name(self):
        assert NAMES == ("small", "lite0", "vgg16", "vgg19")
        with pytest.raises(
            ValueError, match=r"features must be small, lite0, vgg16, vgg19, or a file of weights, not 'smal'"
        ):
            features("smal")

    def test_weights_of_another_network(self, tmp_path):
        file = tmp_path / "other.pt"
        torch.save(small_features((4, 8)).state_dict(), file)
        with pytest.raises(ValueError, match="must hold weights of the network `small_features`"):
            features(file)

    def test_no_weights_at_all(self, tmp_path):
        file = tmp_path / "other.pt"
        file.write_bytes(b"nothing")
        with pytest.raises(ValueError, match="is damaged, or holds more than tensors"):
            features(file)

    def test_a_damaged_file(self, tmp_path, monkeypatch):
        damaged = bytearray(of_package.FILE.read_bytes())
        damaged[5000] ^= 1
        file = tmp_path / "small.pt"
        file.write_bytes(damaged)
        monkeypatch.setattr(of_package, "FILE", file)
        with pytest.raises(ValueError, match="is damaged, install fastgan anew"):
            features("small")

    def test_pictures(self, small):
        with pytest.raises(ValueError, match=r"\(N, 1 or 3, H, W\), not \(2, 4, 8, 8\)"):
            small(torch.zeros(2, 4, 8, 8))
