"""Training goes on as before: optimizers and averages made before or after fuse, frozen parts, later conversions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from fastgan import explain, fuse, unfuse
from tests.fusion.comparing import assert_equal, assert_same, both, is_fused, loss_of, run
from tests.fusion.fusion_networks import build

NAMES = ["sequential", "functional", "nested", "volumes"]
# Gradients that are zero but for rounding, as of a bias before a norm, must not decide a step: no Adam, but with eps.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.999), eps=1e-3),
    "fused Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, eps=1e-3, fused=True),
}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    (loss_of(model(x)) ** 2).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", OPTIMIZERS)
class TestOptimizers:
    @pytest.mark.parametrize("name", ["sequential", "nested", "volumes"])
    @pytest.mark.parametrize("when", ["before", "after", "between"])
    def test_made(self, name, when, kind):
        """Before fuse, after it, or with some steps before it: the same weights, moments and statistics."""
        results = []
        for fused in (True, False):
            model, x = build(name)
            if fused and when == "after":
                fuse(model)
            optimizer = OPTIMIZERS[kind](model.parameters())
            if when == "between":
                step(model, optimizer, x)
            if fused and when != "after":
                fuse(model)
            assert is_fused(model) is fused
            given = [p for group in optimizer.param_groups for p in group["params"]]
            assert [id(p) for p in given] == [id(p) for p in model.parameters()]
            for _ in range(3):
                step(model, optimizer, x)
            results.append((dict(model.state_dict()), optimizer.state_dict()))
        assert_equal(*results, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("fused_first", [True, False])
    def test_checkpoint_crosses_over(self, fused_first, kind):
        """Network and optimizer saved by one of the two go on in the other."""
        results = []
        for second_fused in (fused_first, not fused_first):
            model, x = build("nested")
            optimizer = OPTIMIZERS[kind]((fuse(model) if fused_first else model).parameters())
            step(model, optimizer, x)
            other = build("nested")[0]
            if second_fused:
                fuse(other)
            nn.init.constant_(next(other.parameters()), 3.0)  # what is loaded must replace it
            other_optimizer = OPTIMIZERS[kind](other.parameters())
            other.load_state_dict(copy.deepcopy(model.state_dict()), strict=True)
            other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            for _ in range(2):
                step(other, other_optimizer, x)
            results.append((dict(other.state_dict()), other_optimizer.state_dict()))
        assert_equal(*results, rtol=1e-7, atol=1e-9)


class TestAverages:
    @pytest.mark.parametrize("use_buffers", [True, False])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_moving_average(self, when, use_buffers):
        results = []
        for fused in (True, False):
            model, x = build("nested")
            if fused and when == "after":
                fuse(model)
            average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.7), use_buffers=use_buffers)
            if fused and when == "before":
                fuse(model)
            assert is_fused(average) is (fused and when == "after")
            optimizer = OPTIMIZERS["SGD"](model.parameters())
            for _ in range(3):
                step(model, optimizer, x)
                average.update_parameters(model)
            results.append((dict(average.state_dict()), average(x), average.eval()(x)))
        assert_equal(*results, rtol=1e-7, atol=1e-9)

    def test_statistics_of_an_average(self):
        """update_bn finds the norms, sets momentum to None for its passes, and puts it back."""
        fused, plain, x = both("nested")
        for model in (fused, plain):
            update_bn([x, x * 2, x - 1], model)
        assert_same(fused, plain, x)
        assert_same(fused.eval(), plain.eval(), x)


FROZEN = {
    "everything": lambda model: model.requires_grad_(False),
    "norms": lambda model: [m.requires_grad_(False) for m in model.modules() if is_norm(m)],
    "weights of norms": lambda model: [m.weight.requires_grad_(False) for m in model.modules() if is_norm(m, True)],
    "biases of norms": lambda model: [m.bias.requires_grad_(False) for m in model.modules() if is_norm(m, True)],
    "all but norms": lambda model: [m.requires_grad_(is_norm(m)) for m in model.modules() if not list(m.children())],
    "biases": lambda model: [p.requires_grad_(False) for name, p in model.named_parameters() if name.endswith("bias")],
    "every second": lambda model: [p.requires_grad_(False) for p in list(model.parameters())[::2]],
    "nothing": lambda model: None,
}  # fmt: skip


def is_norm(module: nn.Module, affine: bool = False) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase) and (not affine or module.weight is not None)


class TestFrozen:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("of_input", [True, False])
    @pytest.mark.parametrize("what", FROZEN)
    def test_gradients_there_and_not_there(self, name, what, of_input, training):
        """A gradient for all that asks for one, None for the rest; then thawed, all of them again."""
        fused, plain, x = both(name, lambda model: (model.train(training), FROZEN[what](model)))
        x.requires_grad_(of_input)
        assert fused(x).requires_grad is plain(x).requires_grad
        assert_same(fused, plain, x)
        for model in (fused, plain):
            model.requires_grad_(True)
        assert_same(fused, plain, x.requires_grad_())

    @pytest.mark.parametrize("what", FROZEN)
    @pytest.mark.parametrize("training", [True, False])
    def test_gradient_penalty(self, what, training):
        results = []
        for model in both("sequential", lambda model: (model.train(training), FROZEN[what](model)))[:2]:
            x = build("sequential")[1].requires_grad_()
            (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
            gradient.square().sum().backward()
            results.append((gradient, x.grad, {name: p.grad for name, p in model.named_parameters()}))
        assert_equal(*results)

    @pytest.mark.parametrize("name", NAMES)
    def test_frozen_statistics(self, name):
        """Single norms in eval() while the rest trains, and train() again."""
        fused, plain, x = both(name)
        for models in zip(fused.modules(), plain.modules()):
            if is_norm(models[0]):
                for module in models:
                    module.eval()
                assert_same(fused, plain, x.requires_grad_(), passes=1)
        for model in (fused, plain):
            model.train()
        assert_same(fused, plain, x)

    @pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    @pytest.mark.parametrize("training", [True, False])
    def test_without_gradients(self, guard, training):
        fused, plain, x = both("nested", lambda model: model.train(training))
        results = []
        for model in (fused, plain):
            with guard():
                output = model(x)
            results.append((output.requires_grad, output.is_inference(), output.detach().clone()))
        assert_equal(*results)
        assert_same(fused, plain, x)


def float_statistics(model: nn.Module) -> None:
    """The parameters in half precision, the running statistics not, as mixed precision keeps them."""
    for module in model.half().modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.float()


# Name -> (conversion, dtype of the input, tolerance).
CONVERSIONS = {
    "float": (lambda model: model.float(), torch.float32, 1e-4),
    "half": (lambda model: model.half(), torch.float16, 4e-2),
    "bfloat16": (lambda model: model.to(torch.bfloat16), torch.bfloat16, 2e-1),
    "half but norms": (lambda model: [m.float() for m in model.half().modules() if is_norm(m)], torch.float16, 4e-2),
    "channels_last": (lambda model: model.to(memory_format=torch.channels_last), torch.float64, 1e-9),
    "synchronised": (nn.SyncBatchNorm.convert_sync_batchnorm, torch.float64, 1e-9),  # as BatchNorm in one process
    "there and back": (lambda model: model.half().double(), torch.float64, 1e-9),
}  # fmt: skip


class TestConvertedLater:
    @pytest.mark.parametrize("name", ["sequential", "residual", "generator"])
    @pytest.mark.parametrize("kind", CONVERSIONS)
    @pytest.mark.parametrize("training", [True, False])
    def test_dtypes_and_layouts(self, kind, name, training):
        convert, dtype, tolerance = CONVERSIONS[kind]
        fused, plain, x = both(name, lambda model: (model.train(training), convert(model)))
        results = [run(model, x.to(dtype).requires_grad_()) for model in (fused, plain)]
        assert_equal(*results, of_largest=tolerance / 4, rtol=tolerance, atol=tolerance)
        strides = [[t.stride() for t in result["outputs"]] for result in results]
        assert strides[0] == strides[1]

    def test_mixed_statistics_of_instances(self):
        """Running statistics of another dtype than the parameters: PyTorch's instance norm takes them."""
        network = nn.Sequential(nn.InstanceNorm2d(3, affine=True, track_running_stats=True), nn.ReLU())
        fused, plain = fuse(network), copy.deepcopy(unfuse(copy.deepcopy(network)))
        for training in (True, False):
            for model in (fused, plain):
                float_statistics(model.train(training))
            x = torch.randn(4, 3, 5, 5).half().requires_grad_()
            assert_same(fused, plain, x, rtol=1e-2, atol=1e-2)

    @pytest.mark.parametrize("name", ["sequential", "nested", "volumes"])
    def test_meta_and_back(self, name):
        fused, plain, x = both(name)
        state = copy.deepcopy(plain.state_dict())
        for model in (fused, plain):
            model.to("meta")
            output = model(x.to("meta"))
            assert output.is_meta
            model.to_empty(device="cpu")
            model.load_state_dict(state, strict=True)
        assert_same(fused, plain, x.requires_grad_())

    @pytest.mark.parametrize("assign", [True, False])
    def test_state_of_an_unfused_checkpoint(self, assign):
        fused, plain, x = both("nested")
        other = build("nested")[0]
        run(other, x)
        for model in (fused, plain):
            result = model.load_state_dict(copy.deepcopy(other.state_dict()), strict=True, assign=assign)
            assert not result.missing_keys
            assert not result.unexpected_keys
        assert_equal(dict(fused.state_dict()), dict(other.state_dict()))
        assert_same(fused, plain, x)
        for wrong in ({}, {**fused.state_dict(), "extra": x}):
            with pytest.raises(RuntimeError, match=r"Missing key|Unexpected key"):
                fused.load_state_dict(wrong, strict=True)

    def test_initialised_afterwards(self):
        """apply visits the same modules in the same order, known by class and by the name of the class."""

        def initialise(module):
            if "Conv" in module.__class__.__name__:
                nn.init.normal_(module.weight, 0.0, 0.2)
            elif "BatchNorm" in module.__class__.__name__:
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.uniform_(module.bias)
            visited[-1].append((module.__class__.__name__, module.__class__.__module__))

        visited: list[list] = []

        def change(model):
            visited.append([])
            torch.manual_seed(3)
            model.apply(initialise)

        fused, plain, x = both("nested", change)
        assert visited[0] == visited[1]
        assert_same(fused, plain, x)

    @pytest.mark.parametrize("name", NAMES)
    def test_walks_are_the_same(self, name):
        fused, plain, _ = both(name)
        for walk in ("named_modules", "named_children", "named_parameters", "named_buffers"):
            assert [key for key, _ in getattr(fused, walk)()] == [key for key, _ in getattr(plain, walk)()]
        for (path, module), other in zip(fused.named_modules(), plain.modules()):
            assert fused.get_submodule(path) is module
            assert [type(m).__name__ for m in module.children()] == [type(m).__name__ for m in other.children()]
        assert len(explain(fused)) == len(explain(plain))
