"""PyTorch's own sample inputs for its normalisations and activations, through ops.norm_act, ops.bias_act and fuse."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgan import fuse, ops
from fastgan.reference.activation import ACTIVATIONS

try:
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db
except ImportError as error:  # PyTorch promises nothing about them
    pytest.skip(f"torch {torch.__version__} has no sample inputs here: {error}", allow_module_level=True)

F64 = torch.float64
PATHS = pytest.mark.parametrize(
    ("path", "dtype"),
    [*(("native", dtype) for dtype in (F64, torch.float32, torch.bfloat16, torch.float16)), ("torch", torch.float32)],
    ids=str,
    indirect=["path"],
)
SLOPES = {"leaky_relu": 0.3, "elu": 0.7, "prelu": torch.tensor([0.25], dtype=F64)}
# Name in PyTorch -> the function, with the order of its arguments after the input.
NORMS: dict[str, tuple[Callable[..., Tensor], str]] = {
    "nn.functional.batch_norm": (F.batch_norm, "running_mean running_var weight bias training momentum eps"),
    "nn.functional.instance_norm": (F.instance_norm, "running_mean running_var weight bias"),
    "native_batch_norm": (F.batch_norm, "weight bias running_mean running_var training momentum eps"),
    "_native_batch_norm_legit": (F.batch_norm, "weight bias running_mean running_var training momentum eps"),
    "_batch_norm_with_update": (F.batch_norm, "weight bias running_mean running_var momentum eps"),
}
# Name in PyTorch -> name in the op, and the argument that is its slope.
FUNCTIONS = {
    "nn.functional.relu": ("relu", ""),
    "nn.functional.leaky_relu": ("leaky_relu", "negative_slope"),
    "nn.functional.prelu": ("prelu", "weight"),
    "nn.functional.elu": ("elu", "alpha"),
    "tanh": ("tanh", ""),
    "sigmoid": ("sigmoid", ""),
    "nn.functional.silu": ("silu", ""),
}


@functools.cache
def samples(name: str, dtype: torch.dtype, reference: bool = False) -> list[Any]:
    info = next(info for info in op_db if info.name == name and not info.variant_test_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make = info.reference_inputs if reference else info.sample_inputs
        return list(make("cpu", dtype, requires_grad=dtype.is_floating_point))


class Errors:
    """Largest errors of ours and of PyTorch's, over samples, in units of the largest value."""

    def __init__(self) -> None:
        self.worst: dict[str, tuple[float, float]] = {}

    def compare(self, ours: dict[str, Tensor], theirs: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
        """NaN and infinities where PyTorch has them, no error that would be large even for an unlucky sample."""
        assert ours.keys() == theirs.keys()
        for name in theirs:
            o, t, e = ours[name], theirs[name], exact[name]
            assert (o.dtype, o.shape) == (t.dtype, t.shape), name
            finite = t.isfinite() & e.isfinite()
            torch.testing.assert_close(
                o[~finite], t[~finite], rtol=0, atol=0, equal_nan=True, msg=f"{name}: infinities"
            )
            if not finite.any():
                continue
            rounding = 1e-11 if t.dtype == F64 else torch.finfo(t.dtype).eps
            o, t, e = o[finite].double(), t[finite].double(), e[finite]
            largest = e.abs().max().clamp(min=1)  # gradients: of values of about 1
            mine, allowed = (float((v - e).abs().max() / largest) for v in (o, t))
            assert mine <= 2 * allowed + 8 * rounding, f"{name}: {o} is not {e}"
            worst = self.worst.get(name, (0.0, rounding))
            self.worst[name] = max(worst[0], mine), max(worst[1], 2 * allowed + rounding)

    def check(self) -> None:
        """At most twice PyTorch's own error and a rounding, of all samples together: a few values alone are luck."""
        for name, (mine, allowed) in self.worst.items():
            assert mine <= allowed, f"{name}: error {mine:.2e}, allowed {allowed:.2e}"


def run(function: Callable[..., Tensor], tensors: dict[str, Any], dtype: torch.dtype, gradients: bool = True) -> Any:
    """The result of function(**tensors), the gradients of what wants one, and what else may have changed."""
    given = {k: t.detach().to(dtype, copy=True) if isinstance(t, Tensor) else t for k, t in tensors.items()}
    leaves = {k: t for k, t in given.items() if isinstance(t, Tensor) and not k.startswith("running")}
    if gradients:
        for t in leaves.values():
            t.requires_grad_()
    y = function(**given)
    shown = {"y": y.detach()} | {k: t for k, t in given.items() if isinstance(t, Tensor) and k.startswith("running")}
    if gradients:
        grad_y = torch.randn(y.shape, dtype=F64, generator=torch.Generator().manual_seed(0)).to(dtype)
        grads = torch.autograd.grad(y, list(leaves.values()), grad_y)
        shown |= {f"grad {k}": g for k, g in zip(leaves, grads)}
    return shown


def norm_arguments(name: str, sample: Any) -> dict[str, Any]:
    """The arguments of a sample under their names in torch.nn.functional."""
    names = NORMS[name][1].split()
    if name == "_native_batch_norm_legit" and len(sample.args) == 5:  # the overload without running statistics
        names = ["weight", "bias", "training", "momentum", "eps"]
    defaults = {"running_mean": None, "running_var": None, "weight": None, "bias": None, "momentum": 0.1, "eps": 1e-5}
    training = name != "nn.functional.batch_norm"
    return defaults | {"training": training} | dict(zip(names, sample.args)) | {"x": sample.input} | sample.kwargs


class TestNorms:
    @pytest.mark.parametrize("name", NORMS)
    @PATHS
    def test_with_every_activation(self, name: str, dtype: torch.dtype, path: str) -> None:
        compared = refused = 0
        errors = {act: Errors() for act in ACTIVATIONS}
        for sample in samples(name, dtype):
            arguments = norm_arguments(name, sample)
            arguments["training"] = arguments.pop("use_input_stats", arguments["training"])
            if (reason := self.refusal(arguments)) is not None:
                with pytest.raises(ValueError, match=rf"norm_act: .*{reason}"):
                    self.ours(name, "relu", path, **arguments, slope=0.0)
                refused += 1
            if not 0 <= arguments["momentum"] <= 1:
                arguments["momentum"] = 0.3
            if self.refusal(arguments) is None:
                for act in ACTIVATIONS:
                    self.compare(errors[act], name, act, dtype, path, arguments)
                    compared += 1
        for of_activation in errors.values():
            of_activation.check()
        assert refused >= 1  # a momentum outside [0, 1], with which PyTorch computes
        assert compared >= 72

    def compare(
        self, errors: Errors, name: str, act: str, dtype: torch.dtype, path: str, arguments: dict[str, Any]
    ) -> None:
        arguments = arguments | {"slope": SLOPES.get(act, 0.2)}
        x = arguments["x"]
        values = x.numel() // (x.shape[1] * (x.shape[0] if "instance" in name else 1))
        # Of two values a channel the gradient is all cancellation, of which the error of PyTorch says nothing.
        gradients = dtype == F64 or values > 2 or not arguments["training"]
        ours = run(functools.partial(self.ours, name, act, path), arguments, dtype, gradients)
        theirs = run(functools.partial(self.theirs, name, act), arguments, dtype, gradients)
        exact = theirs if dtype == F64 else run(functools.partial(self.theirs, name, act), arguments, F64, gradients)
        errors.compare(ours, theirs, exact)

    @staticmethod
    def refusal(arguments: dict[str, Any]) -> str | None:
        """What the op says of arguments that PyTorch takes."""
        if arguments["x"].dim() < 2:
            return "needs a batch and a channel dimension"
        return "momentum must be a number in" if arguments["training"] and not 0 <= arguments["momentum"] <= 1 else None

    @staticmethod
    def ours(name: str, act: str, path: str, x: Tensor, slope: Any, **arguments: Any) -> Tensor:
        return ops.norm_act(x, **arguments, act=act, slope=slope, instance="instance" in name, backend=path)

    @staticmethod
    def theirs(name: str, act: str, x: Tensor, slope: Any, training: bool, **arguments: Any) -> Tensor:
        how = {"use_input_stats" if "instance" in name else "training": training}
        return ACTIVATIONS[act](NORMS[name][0](x, **arguments, **how), slope)


class TestActivations:
    @pytest.mark.parametrize("name", FUNCTIONS)
    @PATHS
    def test_through_both_ops(self, name: str, dtype: torch.dtype, path: str) -> None:
        compared = refused = 0
        errors = Errors()
        functions = [functools.partial(self.norm_act, name, path)]
        if hasattr(ops, "bias_act"):
            functions += [functools.partial(self.bias_act, name, path, inplace) for inplace in (False, True)]
        for arguments in self.arguments(name, dtype):
            if self.refused(arguments):
                for function in functions:
                    with pytest.raises((TypeError, ValueError), match=r"norm_act: |bias_act: "):
                        function(**arguments)
                refused += 1
                continue
            theirs = run(functools.partial(self.theirs, name), arguments, dtype)
            exact = theirs if dtype == F64 else run(functools.partial(self.theirs, name), arguments, F64)
            infinite = not arguments["x"].isfinite().all()
            for function in functions:
                ours = run(function, arguments, dtype)
                if infinite and function is functions[0]:  # x - mean is, in the gradient of a norm
                    ours["grad x"] = torch.where(arguments["x"].isfinite(), ours["grad x"], theirs["grad x"])
                errors.compare(ours, theirs, exact)
                compared += 1
        errors.check()
        assert compared >= 9 * len(functions)
        assert refused >= (0 if name == "nn.functional.leaky_relu" else 10)  # of less than two dimensions

    @staticmethod
    def arguments(name: str, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
        """x and slope of each sample. A sample of prelu without a weight has one a channel in its name."""
        attribute = FUNCTIONS[name][1]
        for sample in samples(name, dtype, reference=True):
            if isinstance(sample.input, Tensor) and sample.input.numel() > 50_000:
                continue  # as many values again as all the others have, of the same sizes
            slope = sample.kwargs.get(attribute, sample.args[0] if sample.args else None)
            if slope is None:
                slope = {"negative_slope": 0.01, "alpha": 1.0}.get(attribute, 0.0)
            yield {"x": sample.input, "slope": slope}

    @staticmethod
    def refused(arguments: dict[str, Any]) -> bool:
        x, slope = arguments["x"], arguments["slope"]
        if not isinstance(x, Tensor) or x.dim() < 2:
            return True
        return isinstance(slope, Tensor) and slope.shape not in ((1,), (x.shape[1],))

    @staticmethod
    def theirs(name: str, x: Tensor, slope: Any) -> Tensor:
        return ACTIVATIONS[FUNCTIONS[name][0]](x, slope)

    @staticmethod
    def norm_act(name: str, path: str, x: Any, slope: Any) -> Tensor:
        """With running statistics and no eps that make of the norm the identity."""
        channels = x.shape[1] if isinstance(x, Tensor) and x.dim() > 1 else 1
        dtype = x.dtype if isinstance(x, Tensor) else F64
        mean, var = torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)
        act = FUNCTIONS[name][0]
        return ops.norm_act(x, None, None, mean, var, act=act, slope=slope, training=False, eps=0.0, backend=path)

    @staticmethod
    def bias_act(name: str, path: str, inplace: bool, x: Any, slope: Any) -> Tensor:
        if inplace and isinstance(x, Tensor):
            x = x.clone()  # not a leaf
        return ops.bias_act(x, act=FUNCTIONS[name][0], slope=slope, inplace=inplace, backend=path)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64], ids=lambda d: str(d)[6:])
    def test_refuses_other_dtypes(self, dtype: torch.dtype, path: str) -> None:
        for sample in samples("tanh", dtype):
            for function in (ops.norm_act, getattr(ops, "bias_act", ops.norm_act)):
                with pytest.raises(TypeError, match=f"{dtype}; accepted: float32"):
                    function(sample.input, act="tanh", backend=path)


MODULES = {
    m.module_cls.__name__: m for m in module_db if m.module_cls.__name__.startswith(("BatchNorm", "InstanceNorm"))
}


class TestModules:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", MODULES)
    def test_fused_with_every_activation(self, name: str, training: bool) -> None:
        compared = 0
        info = MODULES[name]
        for sample in info.module_inputs_func(info, "cpu", F64, requires_grad=True, training=training):
            arguments = sample.constructor_input
            x = sample.forward_input.args[0]
            for act in (nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(), nn.ELU(0.7), nn.Tanh(), nn.Sigmoid(), nn.SiLU()):
                plain = (
                    nn.Sequential(info.module_cls(*arguments.args, **arguments.kwargs), act).double().train(training)
                )
                fused = fuse(copy.deepcopy(plain))
                shown = []
                for network in (fused, plain):
                    leaf = x.detach().clone().requires_grad_()
                    y = network(leaf)
                    y.backward(torch.linspace(-1, 1, y.numel(), dtype=F64).view(y.shape))
                    grads = {f"grad {k}": p.grad for k, p in network.named_parameters()}
                    shown.append({"y": y.detach(), "grad x": leaf.grad} | grads | network.state_dict())
                assert shown[0].keys() == shown[1].keys()
                for key, t in shown[1].items():
                    torch.testing.assert_close(
                        shown[0][key], t, rtol=1e-10, atol=1e-10, msg=lambda m, k=key: f"{k}: {m}"
                    )
                compared += 1
        assert compared >= 35


def test_the_samples_are_there() -> None:
    names = {info.name for info in op_db}
    assert not {*NORMS, *FUNCTIONS} - names
    assert len(MODULES) == 6
    assert "reference" in inspect.signature(samples).parameters
