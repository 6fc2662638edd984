"""What records or transforms single PyTorch operations finds PyTorch's own in our layers and ops."""

import warnings

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from fastgan import backend
from fastgan.convolutions.convolution import conv2d, conv_transpose2d
from fastgan.convolutions.linear import linear
from fastgan.nn import (
    BiasAct,
    ConvNormAct2d,
    ConvPool2d,
    ConvTransposeNormAct2d,
    NormAct1d,
    NormAct2d,
    NormAct3d,
    ResizeConv2d,
)


class Called(nn.Module):
    """An op that a network calls itself."""

    def __init__(self, call):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 64, 3, 3))
        self.call = call

    def forward(self, x):
        return self.call(x, self.weight)


MAPS, LARGE = (2, 6, 8, 8), (4, 64, 32, 32)  # of the large ones ours are the faster, so that they run elsewhere
LAYERS = {
    "norm 1-D": (lambda: NormAct1d(6, "silu"), (3, 6, 5)),
    "norm": (lambda: NormAct2d(6, "leaky_relu"), MAPS),
    "prelu": (lambda: NormAct2d(6, "prelu"), MAPS),
    "splits": (lambda: NormAct2d(6, splits=2), MAPS),
    "instance": (lambda: NormAct2d(6, "tanh", norm="instance"), MAPS),
    "no affine": (lambda: NormAct2d(6, affine=False), MAPS),
    "norm 3-D": (lambda: NormAct3d(6, "elu"), (2, 6, 3, 4, 4)),
    "bias": (lambda: BiasAct(64, "leaky_relu"), LARGE),
    "small bias": (lambda: BiasAct(6, "leaky_relu"), MAPS),
    "bias, gain and clamp": (lambda: BiasAct(64, "silu", gain=2.0, clamp=1.0), LARGE),
    "conv": (lambda: ConvNormAct2d(64, 8, 3, padding=1, act="leaky_relu"), LARGE),
    "conv without norm": (lambda: ConvNormAct2d(6, 4, 3, norm=None, act="leaky_relu"), MAPS),
    "transposed": (lambda: ConvTransposeNormAct2d(6, 4, 4, 2, 1), MAPS),
    "transposed without norm": (lambda: ConvTransposeNormAct2d(6, 3, 4, 2, 1, norm=None, act="tanh"), MAPS),
    "resize": (lambda: ResizeConv2d(64, 32), LARGE),
    "pool": (lambda: ConvPool2d(64, 32), LARGE),
    "conv2d": (lambda: Called(lambda x, w: conv2d(x, w, padding=1)), LARGE),
    "conv_transpose2d": (lambda: Called(conv_transpose2d), LARGE),
    "linear": (lambda: Called(lambda x, w: linear(x.flatten(1), w.flatten(1))), (4, 576)),
}  # fmt: skip


@pytest.fixture(params=LAYERS)
def layer(request):
    make, shape = LAYERS[request.param]
    layer, x = make(), torch.randn(shape)
    with torch.no_grad():
        layer(x)  # moves running statistics
        for name, parameter in layer.named_parameters():
            parameter.add_(0.1 if "slope" not in name else 0)
    return layer.eval(), x


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("strict", [False, True])
def test_export(layer, strict):
    layer, x = layer
    program = torch.export.export(layer, (x,), strict=strict)
    assert not [node for node in program.graph.nodes if "fastgan" in str(node.target)]
    close(program.module()(x), layer(x))


def test_export_of_a_layer_that_is_trained(layer):
    layer, x = layer
    program = torch.export.export(layer.train(), (x,))
    assert not [node for node in program.graph.nodes if "fastgan" in str(node.target)]
    moved = program.module()
    close(moved(x), layer(x))
    for name, buffer in layer.named_buffers():
        close(moved.get_buffer(name).double(), buffer.double())


def test_trace(layer):
    layer, x = layer
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        traced = torch.jit.trace(layer, (x,))
    assert not [warning for warning in said if "/fastgan/" in warning.filename]
    kinds = {node.kind() for node in traced.inlined_graph.nodes()}
    assert not [kind for kind in kinds if "fastgan" in kind or "PythonOp" in kind]
    close(traced(x), layer(x))


def test_forward_mode(layer):
    layer, x = layer
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent
    _, expected = torch.autograd.functional.jvp(layer, x, direction)
    close(tangent, expected)


def test_says_when():
    seen = []

    class Asks(nn.Module):
        def forward(self, x):
            seen.append((backend.recorded(), backend.traced()))
            return x + 1

    Asks()(torch.zeros(1))
    torch.export.export(Asks(), (torch.zeros(1),))
    torch.jit.trace(Asks(), torch.zeros(1), check_trace=False)
    torch.func.vmap(Asks())(torch.zeros(1))
    with forward_ad.dual_level():
        Asks()(torch.zeros(1))
    assert seen[0] == (False, False)
    assert set(seen[1:]) == {(True, False), (True, True)}
    assert (True, True) in seen
    Asks()(torch.zeros(1))
    assert seen[-1] == (False, False)
