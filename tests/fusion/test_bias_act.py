"""Convolution -> activation: the convolution without its bias, then bias and activation in its result."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

from fastgan import fuse, unfuse
from fastgan.convolutions import convolution as convolution_op
from fastgan.fusion.patterns import bias_act
from tests.accuracy import assert_as_accurate
from tests.fusion.comparing import assert_equal, assert_same, run
from tests.fusion.convolution_networks import WEIGHTS, Doubled, convolution, image, small, two
from tests.fusion.fusion_networks import build, discriminator

SLOW_IN_FLOAT64 = bias_act.SLOW_IN_FLOAT64  # before a fixture empties it

pytestmark = pytest.mark.usefixtures("bias_op")


class TestComputedWeights:
    """The weight is computed once a call, so that the power iteration of spectral norm goes as far as without fuse."""

    @pytest.mark.parametrize("kind", WEIGHTS)
    @pytest.mark.parametrize("training", [True, False])
    def test_same(self, kind, training, bias_op):
        fused, plain = two(lambda: discriminator(WEIGHTS[kind]).double().train(training))
        assert_same(fused, plain, build("discriminator")[1].requires_grad_(), passes=3)
        assert bias_op.take() == 3 * 3
        names = {"spectral norm": "_u", "weight norm": "original0", "spectral norm, older": "weight_u",
                 "weight norm, older": "weight_g", "both": "_v"}  # fmt: skip
        assert any(key.endswith(names[kind]) for key in fused.state_dict())

    @pytest.mark.parametrize("kind", WEIGHTS)
    def test_transposed(self, kind, bias_op):
        fused, plain = two(lambda: small(nn.ELU(inplace=True), WEIGHTS[kind](convolution(nn.ConvTranspose2d))))
        assert_same(fused, plain, image(), passes=3)
        assert bias_op.take() == 3

    @pytest.mark.parametrize("kind", WEIGHTS)
    def test_second_derivative(self, kind):
        grads = []
        for model in two(lambda: discriminator(WEIGHTS[kind]).double()):
            torch.manual_seed(1)
            x = build("discriminator")[1].requires_grad_()
            (grad,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            grad.square().sum().backward()
            grads.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        assert len(grads[0]) >= 4
        assert_equal(*grads)

    def test_training_with_two_passes_a_step(self, bias_op):
        """D(real) - D(fake): the statistics of the first pass must survive the second."""
        states = []
        for model in two(lambda: discriminator(parametrizations.spectral_norm).double()):
            torch.manual_seed(2)
            steps = torch.optim.SGD(model.parameters(), lr=0.05)
            for _ in range(4):
                steps.zero_grad()
                (model(torch.randn(4, 3, 8, 8).double()) - model(torch.randn(4, 3, 8, 8).double())).mean().backward()
                steps.step()
            states.append(dict(model.state_dict()))
        assert bias_op.take() == 3 * 2 * 4
        assert_equal(*states)

    def test_cached(self, bias_op):
        """Within parametrize.cached a weight is computed once for all passes."""
        results = []
        for model in two(lambda: small(conv=parametrizations.spectral_norm(convolution()))):
            torch.manual_seed(3)
            with parametrize.cached():
                results.append((model(image()), model(image()), dict(model.state_dict())))
        assert_equal(*results)
        assert bias_op.take() == 2

    @pytest.mark.parametrize(
        ("add", "remove"),
        [
            (parametrizations.spectral_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
            (parametrizations.weight_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
            (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
            (nn.utils.weight_norm, nn.utils.remove_weight_norm),
        ],
    )
    @pytest.mark.filterwarnings("ignore::FutureWarning")
    def test_added_and_removed_later(self, add, remove, bias_op):
        fused, plain = two(small)
        for change in (add, remove):
            for model in (fused, plain):
                torch.manual_seed(4)
                change(model[0])
            assert_same(fused, plain, image())
            assert bias_op.take() == 2


CHANGES = {
    "bias": lambda m: m[0].bias.data.add_(1),
    "new bias": lambda m: setattr(m[0], "bias", nn.Parameter(torch.ones(3).double())),
    "weight": lambda m: m[0].weight.data.mul_(2),
    "stride": lambda m: setattr(m[0], "stride", (2, 2)),
    "act": lambda m: m.__setitem__(1, nn.Tanh()),
    "other act": lambda m: m.__setitem__(1, nn.GELU()),
    "conv": lambda m: m.__setitem__(0, nn.ConvTranspose2d(3, 3, 2).double()),
    "no conv": lambda m: m.__setitem__(0, nn.AvgPool2d(1)),
    "norm for conv": lambda m: m.__setitem__(0, nn.BatchNorm2d(3).double()),
    "linear for conv": lambda m: m.__setitem__(0, parametrizations.weight_norm(nn.Linear(6, 6)).double()),
    "orthogonal": lambda m: parametrizations.orthogonal(m[0]),
    "doubled bias": lambda m: parametrize.register_parametrization(m[0], "bias", Doubled()),
    "spectral norm of the bias": lambda m: nn.utils.spectral_norm(m[0], "bias"),
    "hook": lambda m: m[0].register_forward_hook(lambda module, args, out: out * 2),
    "pre-hook": lambda m: m[0].register_forward_pre_hook(lambda module, args: (args[0] * 2,)),
    "backward hook": lambda m: (
        m.__setitem__(1, nn.ReLU()),  # PyTorch forbids one in place after such a hook
        m[0].register_full_backward_hook(lambda *a: (a[1][0] * 2,)),
    ),
    "hook of the act": lambda m: m[1].register_forward_hook(lambda module, args, out: out * 2),
    "forward": lambda m: setattr(m[0], "forward", lambda x: x * 2),
    "_conv_forward": lambda m: setattr(m[0], "_conv_forward", lambda x, w, b: F.conv2d(x, w) * (0 if b is None else 1)),
    "float": lambda m: m.float().double(),
    "slope": lambda m: m.__setitem__(1, nn.LeakyReLU(0.5, inplace=True)),
    "not in place": lambda m: m.__setitem__(1, nn.LeakyReLU(0.5)),
}  # fmt: skip
PATHS = {"bias", "new bias", "weight", "stride", "act", "conv", "float", "slope"}  # whose new state is fused too


class TestLaterChanges:
    @pytest.mark.parametrize("name", CHANGES)
    def test_take_effect(self, name, bias_op):
        fused, plain = two(small)
        before = fused(x := image()).detach().clone()
        bias_op.take()
        for model in (fused, plain):
            torch.manual_seed(5)
            CHANGES[name](model)
        assert_same(fused, plain, x, passes=2)
        assert bias_op.take() == (2 if name in PATHS else 0)
        after = fused(x)
        assert after.shape != before.shape or not torch.equal(after, before) or name in ("float", "backward hook")

    def test_no_bias(self, bias_op):
        """Without a bias there is nothing to gain."""
        fused, plain = two(small)
        for model in (fused, plain):
            model[0].bias = None
        assert_same(fused, plain, image(), passes=1)
        assert bias_op.take() == 0

    def test_no_bias_before_a_costly_activation(self, bias_op):
        def network():
            return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.ELU(inplace=True)).double()

        assert_same(*two(network), image())
        assert bias_op.take() == 2

    @pytest.mark.parametrize("act", [nn.ELU(inplace=True), nn.Tanh(), nn.Sigmoid(), nn.SiLU()], ids=str)
    def test_float64_is_pytorchs_where_that_has_vectors(self, act, bias_op, monkeypatch):
        monkeypatch.setattr(bias_act, "SLOW_IN_FLOAT64", SLOW_IN_FLOAT64)
        assert_same(*two(lambda: small(act)), image())
        assert bias_op.take() == 0

    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
    @pytest.mark.parametrize("elements", ["few", "many"])
    def test_the_convolution_is_the_fastest(self, kind, bias, elements, bias_op, monkeypatch):
        """Also where bias and activation are one op after it, and where the map is too small for that."""
        monkeypatch.setattr(bias_act, "LEAST_ELEMENTS", (0, 0) if elements == "many" else (10**9, 10**9))
        asked = []
        name = "conv2d" if kind is nn.Conv2d else "conv_transpose2d"
        convolve = getattr(convolution_op, name)

        def counted(x, weight, added, *settings):
            asked.append(added is not None)
            return convolve(x, weight, added, *settings)

        monkeypatch.setattr(convolution_op, name, counted)
        fused, plain = two(
            lambda: nn.Sequential(kind(64, 64, 4, 2, 1, bias=bias), nn.LeakyReLU(0.2, inplace=True)).double()
        )
        x = torch.randn(2, 64, 8, 8, dtype=torch.float64, requires_grad=True)
        assert_same(fused, plain, x, passes=1)
        merged = bias and elements == "many"
        assert bias_op.take() == merged
        assert asked == [bias and not merged]

    def test_small_maps(self, bias_op, monkeypatch):
        """On these a call costs more than it saves."""
        fused, plain = two(small)
        elements = plain(image()).numel()
        for least, count in ((elements, 1), (elements + 1, 0)):
            monkeypatch.setattr(bias_act, "LEAST_ELEMENTS", (least, 0))
            assert_same(fused, plain, image(), passes=1)
            assert bias_op.take() == count

    @pytest.mark.parametrize("frozen", ["0.weight", "0.bias"])
    def test_frozen(self, frozen):
        fused, plain = two(small)
        for model in (fused, plain):
            model.get_parameter(frozen).requires_grad_(False)
        assert_same(fused, plain, image())
        assert_same(fused, plain, image().detach())

    def test_copies(self, bias_op):
        network, x = build("convolutions")
        fuse(network)
        file = io.BytesIO()
        torch.save(network, file)
        file.seek(0)
        expected = run(network, x)
        network = fuse(build("convolutions")[0])
        bias_op.take()
        for other in (
            copy.deepcopy(network),
            pickle.loads(pickle.dumps(network)),
            torch.load(file, weights_only=False),
        ):
            assert_equal(run(other, x), expected)
            assert bias_op.take() == 2 * 7
            assert type(unfuse(other)) is type(build("convolutions")[0])

    def test_deepcopy_of_computed_weights(self, bias_op):
        fused, plain = two(lambda: discriminator(parametrizations.spectral_norm).double())
        other = copy.deepcopy(fused)
        x = build("discriminator")[1]
        assert_same(other, plain, x)
        assert bias_op.take() == 2 * 3
        assert not {id(p) for p in other.parameters()} & {id(p) for p in fused.parameters()}


ACTIVATIONS = {
    "ReLU": nn.ReLU,
    "ReLU in place": lambda: nn.ReLU(inplace=True),
    "LeakyReLU in place": lambda: nn.LeakyReLU(0.2, inplace=True),
    "ELU in place": lambda: nn.ELU(inplace=True),
    "Tanh": nn.Tanh,
    "Sigmoid": nn.Sigmoid,
    "SiLU": nn.SiLU,
    "PReLU": nn.PReLU,
}


class TestPrecision:
    @pytest.mark.parametrize(("name", "costly"), [("discriminator", 0), ("convolutions", 2)])
    def test_autocast(self, name, costly, bias_op):
        results = []
        for model in two(lambda: build(name)[0].float()):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(model(build(name)[1].float()))
        assert results[0].dtype == results[1].dtype
        assert_close(*results, rtol=3e-2, atol=3e-2)
        assert bias_op.take() == costly

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_low_precision(self, dtype, bias_op):
        fused, plain = two(lambda: build("discriminator")[0].to(dtype))
        x = build("discriminator")[1].to(dtype)
        loose = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
        assert_close(fused(x), plain(x), **loose)
        assert bias_op.take() == (3 if dtype == torch.float32 else 0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_keeps_signs(self, dtype, bias_op):
        """The sum is rounded once, after the bias, so that what is nearly zero keeps its sign, and its derivative."""
        results = []
        for model in two(lambda: small(nn.ReLU())):
            model.to(dtype)
            torch.manual_seed(6)
            x = torch.randn(8, 3, 16, 16).to(dtype).requires_grad_()
            y = model(x)
            y.backward(torch.randn(y.shape).to(dtype))
            results.append((y, x.grad))
        assert bias_op.take() == 0
        assert_equal(*results, rtol=0, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_as_accurate_as_pytorch(self, name, dtype, bias_op):
        def gradients(model, x, grad):
            y = model(x)
            return [y, *torch.autograd.grad(y, [x, *model.parameters()], grad)]

        fused, plain = two(lambda: small(ACTIVATIONS[name]()).to(dtype))
        x = torch.randn(8, 3, 16, 16).to(dtype).requires_grad_()
        grad = torch.randn(8, 3, 16, 16).to(dtype)
        ours, theirs = (gradients(model, x, grad) for model in (fused, plain))
        exact = gradients(plain.double(), x.detach().double().requires_grad_(), grad.double())
        assert_as_accurate(ours, theirs, exact, ["y", "x", *dict(plain.named_parameters())])
        assert bias_op.take() == (dtype == torch.float32 or name in ("ELU in place", "Tanh"))

    def test_half_parameters_under_another_autocast(self, bias_op):
        fused, plain = two(lambda: build("discriminator")[0].bfloat16())
        with torch.autocast("cpu", torch.float16):
            results = [model(build("discriminator")[1].float()) for model in (fused, plain)]
        assert results[0].dtype == torch.float16
        assert_close(*results, rtol=3e-2, atol=3e-2)
        assert bias_op.take() == 0

    def test_layout(self):
        fused, plain = two(lambda: small(nn.Sigmoid()).to(memory_format=torch.channels_last))
        for x in (image(), image().to(memory_format=torch.channels_last), image().transpose(2, 3), image()[..., :3]):
            assert fused(x).stride() == plain(x).stride()

    @pytest.mark.parametrize("shape", [(3, 6, 6), (0, 3, 6, 6), (1, 3, 1, 1)])
    def test_shapes(self, shape, bias_op):
        """An input without a batch has its channels elsewhere."""
        fused, plain = two(small)
        assert_same(fused, plain, torch.randn(shape, dtype=torch.float64, requires_grad=True))
        assert bias_op.take() == (0 if len(shape) == 3 else 2)

    @pytest.mark.parametrize(
        "wrong",
        [
            torch.randn(2, 4, 6, 6).double(),
            torch.randn(2, 3, 6, 6),
            torch.randn(2, 3).double(),
            torch.ones(2, 3, 6, 6, dtype=torch.int64),
            torch.ones(2, 3, 6, 6, dtype=torch.complex128),
        ],
        ids=["channels", "dtype", "rank", "integers", "complex"],
    )
    def test_errors_stay_pytorchs(self, wrong):
        messages = []
        for model in two(small):
            with pytest.raises(RuntimeError) as caught:
                model(wrong)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]

    def test_bias_of_another_dtype(self):
        for model in two(small):
            model[0].bias = nn.Parameter(torch.ones(3))
            with pytest.raises(RuntimeError, match="bias type"):
                model(image())
