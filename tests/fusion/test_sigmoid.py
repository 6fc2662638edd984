"""A Sigmoid at the end of a discriminator is noticed, wherever it stands, and only there."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fastgan import explain, fuse
from tests.fusion.fusion_networks import discriminator


def layers(*end: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 4), nn.LeakyReLU(0.2, inplace=True), *(end or (last(), nn.Sigmoid())))


def last(outputs: int = 1) -> nn.Module:
    return nn.Conv2d(4, outputs, 4, bias=False)


class Official(nn.Module):
    """The official PyTorch DCGAN example: the forward asks where its input is, so it cannot be traced."""

    def __init__(self):
        super().__init__()
        self.main = layers()

    def forward(self, input):
        if input.is_cuda:
            return nn.parallel.data_parallel(self.main, input, range(2))
        return self.main(input)


class Function(Official):
    def __init__(self):
        super().__init__()
        self.main = layers(last())
        self.classes = nn.Linear(4, 10)

    def forward(self, x):
        return torch.sigmoid(self.main(x)).view(-1, 1).squeeze(1)


class Method(Function):
    def forward(self, x):
        return self.main(x).flatten(1).sigmoid()


class Named(Function):
    def __init__(self):
        super().__init__()
        self.features, self.out, self.end = layers(nn.Flatten()), nn.Linear(4, 1), nn.Sigmoid()

    def forward(self, x):
        return self.end(self.out(self.features(x)))


class TwoOutputs(Named):
    """An auxiliary classifier."""

    def forward(self, x):
        h = self.features(x)
        return {"class": self.classes(h), "real": self.end(self.out(h))}


class Wrapper(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


DISCRIMINATORS = {
    "sequential": (layers, "3", "Conv2d -> Sigmoid"),
    "official": (Official, "main.3", "Conv2d -> Sigmoid"),
    "flattened": (lambda: layers(last(), nn.Flatten(), nn.Sigmoid(), nn.Flatten(0)), "4", "Conv2d -> Sigmoid"),
    "nested": (lambda: nn.Sequential(layers(last()), nn.Sequential(nn.Sigmoid())), "1.0", "Conv2d -> Sigmoid"),
    "function": (Function, "", "Conv2d -> sigmoid"),
    "method": (Method, "", "Conv2d -> sigmoid"),
    "named": (Named, "end", "Linear -> Sigmoid"),
    "two outputs": (TwoOutputs, "end", "Linear -> Sigmoid"),
    "without convolutions": (
        lambda: nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid()),
        "3",
        "Linear -> Sigmoid",
    ),
    "spectral norm": (
        lambda: discriminator(parametrizations.spectral_norm).append(nn.Sigmoid()),
        "7",
        "ParametrizedConv2d -> Sigmoid",
    ),
    "wrapped": (lambda: Wrapper(Wrapper(Official())), "inner.inner.main.3", "Conv2d -> Sigmoid"),
    "data parallel": (lambda: nn.DataParallel(Official()), "module.main.3", "Conv2d -> Sigmoid"),
    "compiled": (lambda: torch.compile(Official(), backend="eager"), "_orig_mod.main.3", "Conv2d -> Sigmoid"),
}


def warned(network: nn.Module) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fuse(network)
    return caught


class TestDiscriminators:
    @pytest.mark.parametrize("name", DISCRIMINATORS)
    def test_noticed_once(self, name):
        make, path, pattern = DISCRIMINATORS[name]
        network = make()
        for _ in range(2):  # fused or not
            (row,) = (row for row in explain(network) if row.kind == "advice")
            assert (row.path, row.pattern, row.fused, row.kernel) == (path, pattern, False, "")
            assert "take logits" in row.reason
            assert "with BCELoss keep it" in row.reason
            (caught,) = warned(network)
            assert caught.category is UserWarning
            assert caught.filename == __file__
            assert "ends in a Sigmoid" in str(caught.message)
            assert f"({path})" in str(caught.message) or not path

    def test_no_place_of_the_summary(self):
        report = explain(nn.Sequential(nn.Linear(9, 1), nn.Sigmoid()))
        assert (len(report), report.places, report.fused) == (1, 0, 0)
        assert str(report).endswith("0 of 0 places fused")

    @pytest.mark.filterwarnings("error")
    def test_as_an_error(self):
        """Nothing is half done where warnings are errors."""
        network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1), nn.Sigmoid())
        with pytest.raises(UserWarning, match="Sigmoid"):
            fuse(network)
        assert type(network) is nn.Sequential


class Gate(nn.Module):
    """Squeeze and excitation: a Sigmoid in the middle of a network."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 1, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.weights(x)


class Middle(Function):
    def forward(self, x):
        return torch.sigmoid(self.main(x)) * 2


class Undecided(Named):
    """Neither traceable nor with one child: its end is not known."""

    def forward(self, x):
        return self.end(self.out(self.features(x))) if x.sum() > 0 else x


OTHERS = {
    "logits": lambda: layers(last()),
    "gate": lambda: nn.Sequential(layers(), Gate()),
    "used further": Middle,
    "undecided": Undecided,
    "norm between": lambda: layers(last(), nn.BatchNorm2d(1), nn.Sigmoid()),
    "tanh": lambda: layers(last(), nn.Tanh()),
    "sigmoid before": lambda: layers(nn.Sigmoid(), last()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(9, 1, 4), nn.Sigmoid()),
    "upsampling": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 3), nn.Sigmoid()),
    "sigmoid alone": lambda: nn.Sequential(nn.Sigmoid()),
    "itself": nn.Sigmoid,
    "torchscript": lambda: torch.jit.script(layers()),
}


class TestOthers:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("name", OTHERS)
    def test_not_noticed(self, name):
        network = OTHERS[name]()
        assert not [row for row in explain(network) if row.kind == "advice"]
        assert not warned(network)

    def test_several_outputs(self):
        """Pictures in [0, 1] of a network without convolutions, or a discriminator of patches and classes: a row, but
        no warning."""
        for network in (nn.Sequential(nn.Linear(9, 64), nn.Sigmoid()), layers(last(5), nn.Sigmoid())):
            assert not warned(network)
            (row,) = (row for row in explain(network) if row.kind == "advice")
            assert row.reason.startswith("if this is a discriminator")
