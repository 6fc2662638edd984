"""PyTorch's own tools on a fused network: compile, export, checkpointing, torch.func, autocast, parametrizations."""

from __future__ import annotations

import inspect
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.utils import prune
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from fastgan import fuse, unfuse
from tests.fusion.comparing import EXACT, assert_equal, assert_same, both, is_fused, loss_of, run
from tests.fusion.fusion_networks import Inherited, Residual, build


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


class TestCompile:
    @pytest.fixture(autouse=True)
    def fresh(self):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    @pytest.mark.parametrize("name", ["sequential", "nested", "inherited", "functional"])
    def test_without_a_break(self, name):
        """Training and evaluating, forwards and backwards; one graph each, as for the unfused network."""

        def plain_momentum(model):
            if name == "inherited":
                model.norm.momentum = 0.1  # with None, PyTorch's own batch norm breaks the graph too

        fused, plain, x = both(name, plain_momentum)
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(fused, fullgraph=True, backend=counter)
        for training in (True, False) if name != "functional" else (True,):
            fused.train(training)
            plain.train(training)
            assert_equal(run(compiled, x), rename(run(plain, x)))
        assert counter.frame_count == (2 if name != "functional" else 1)

    def test_batches_of_any_size(self):
        fused, plain, _ = both("sequential")
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(fused, fullgraph=True, backend=counter, dynamic=True)
        counts = []
        for batch in (4, 2, 7, 3):
            x = torch.randn(batch, 3, 16, 16, dtype=torch.float64, requires_grad=True)
            assert_equal(run(compiled, x, passes=1), rename(run(plain, x, passes=1)))
            counts.append(counter.frame_count)
        assert counts[1:] == counts[:1] * 3

    def test_in_place(self, op):
        """Module.compile, which keeps the object; and of a norm alone, which then runs by itself."""
        fused, plain, x = both("sequential")
        fused.compile(fullgraph=True, backend="eager")
        assert_same(fused, plain, x)
        fused, plain, x = both("sequential")
        fused[3].compile(backend="eager")
        op.take()
        assert_same(fused, plain, x)
        assert op.take() == 0

    @pytest.mark.compiles
    @pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
    def test_inductor(self):
        """Code that inductor makes, for one convolution, norm and activation."""
        fused, plain, _ = both("sequential")
        mine, theirs = fused[2:5], plain[2:5]
        fuse(mine)
        x = torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
        assert_equal(run(torch.compile(mine, fullgraph=True), x), rename(run(theirs, x)))


def rename(results):
    """The names that the parameters and buffers have in the results of a compiled module."""
    gradients = [{k if k == "x" else f"_orig_mod.{k}": v for k, v in g.items()} for g in results["gradients"]]
    return results | {"gradients": gradients, "state": {f"_orig_mod.{k}": v for k, v in results["state"].items()}}


class TestExport:
    @pytest.mark.parametrize("strict", [True, False])
    @pytest.mark.parametrize("training", [True, False])
    def test_needs_pytorch_alone(self, training, strict):
        fused, plain, x = both("nested", lambda model: model.train(training))
        program = torch.export.export(fused, (x,), strict=strict, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        assert not any("fastgan" in str(node.target) for node in program.graph.nodes)
        again = torch.cat([x, x * 2])
        exported = program.module()
        for _ in range(2):
            assert_close(exported(again), plain(again), **EXACT)
        state, expected = exported.state_dict(), plain.state_dict()
        assert {key for key in expected if "running" in key} <= state.keys()
        assert_equal(dict(state), {key: expected[key] for key in state})

    @pytest.mark.filterwarnings("ignore")
    def test_jit_trace_needs_pytorch_alone(self):
        fused, plain, x = both("nested", nn.Module.eval)
        traced = torch.jit.trace(fused, x)
        assert "fastgan::" not in str(traced.inlined_graph)
        assert_close(traced(x), plain(x), **EXACT)

    def test_symbolic_trace(self):
        fused, plain, x = both("sequential")
        assert_close(torch.fx.symbolic_trace(fused)(x), plain(x), **EXACT)

    def test_signature(self):
        assert inspect.signature(fuse(Inherited()).forward) == inspect.signature(Inherited().forward)


class TestFunc:
    @pytest.mark.parametrize("training", [True, False])
    def test_functional_call(self, training, op):
        """Parameters and buffers of the caller's, of which the buffers move and the module's own do not."""
        results = []
        fused, plain, x = both("nested", lambda model: model.train(training))
        for model in (fused, plain):
            state = {k: v.detach() * 2 for k, v in model.state_dict().items()}
            given = {k: v.requires_grad_(v.is_floating_point() and "running" not in k) for k, v in state.items()}
            output = torch.func.functional_call(model, given, (x,))
            assert op.take() >= (op.expected(4) if model is fused else 0)
            loss_of(output).backward()
            results.append((output, given, {k: v.grad for k, v in given.items()}, dict(model.state_dict())))
        assert_equal(*results)
        assert_same(fused, plain, x)

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("training", [True, False])
    def test_ensemble(self, training):
        """stack_module_state and vmap: the results of each network by itself."""
        networks = [both("sequential", lambda model: model.train(training)) for _ in range(2)]
        assert type(networks[0][0]) is type(networks[1][0])
        for i, (fused, plain, _) in enumerate(networks):
            for model in (fused, plain):
                torch.manual_seed(i)
                model.apply(lambda m: nn.init.normal_(m.weight, 0.5) if hasattr(m, "weight") else None)
        x = networks[0][2]
        parameters, buffers = torch.func.stack_module_state([fused for fused, _, _ in networks])
        base = networks[0][0]

        def call(parameters, buffers, x):
            return torch.func.functional_call(base, (parameters, buffers), (x,))

        outputs = torch.vmap(call, (0, 0, None))(parameters, buffers, x)
        assert_close(outputs, torch.stack([plain(x) for _, plain, _ in networks]), **EXACT)
        for key, buffer in buffers.items():
            assert_close(buffer, torch.stack([plain.get_buffer(key) for _, plain, _ in networks]), **EXACT)

    @pytest.mark.filterwarnings("ignore")
    def test_transforms(self):
        fused, plain, x = both("sequential", nn.Module.eval)

        def loss(model, state, x):
            return torch.func.functional_call(model, state, (x,)).square().sum()

        results = []
        for model in (fused, plain):
            state = dict(model.named_parameters())
            results.append(
                (
                    torch.func.grad(loss, argnums=1)(model, state, x),
                    torch.func.jvp(model, (x,), (torch.ones_like(x),)),
                    torch.func.vjp(model, x)[1](torch.ones(4, 1, 1, 1, dtype=torch.float64)),
                    torch.vmap(torch.func.grad(loss, argnums=1), (None, None, 0))(model, state, x[:, None]),
                )
            )
        assert_equal(*results)

    @pytest.mark.filterwarnings("ignore")
    def test_forward_mode(self):
        results = []
        for model in both("sequential")[:2]:
            x = build("sequential")[1]
            with torch.autograd.forward_ad.dual_level():
                out = model(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
                results.append(tuple(torch.autograd.forward_ad.unpack_dual(out)))
        assert_equal(*results)


CHECKPOINTS = {
    "reentrant": lambda model, x: checkpoint(model, x, use_reentrant=True),
    "not reentrant": lambda model, x: checkpoint(model, x, use_reentrant=False),
    "not preserving": lambda model, x: checkpoint(model, x, use_reentrant=False, preserve_rng_state=False),
    "in a checkpoint": lambda model, x: checkpoint(CHECKPOINTS["not reentrant"], model, x, use_reentrant=False),
    "sequential": lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=False),
    "sequential reentrant": lambda model, x: checkpoint_sequential(model, 2, x, use_reentrant=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpointing(kind):
    results = []
    for model in both("nested")[:2]:
        x = build("nested")[1].requires_grad_()
        for _ in range(2):
            loss_of(CHECKPOINTS[kind](model, x)).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        results.append((x.grad, gradients, dict(model.state_dict())))
    assert_equal(*results)


class Mixed(nn.Module):
    """Autocast, left for float32 in the middle, as round a loss or a norm that must be precise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.SiLU())
        self.third = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.PReLU(), nn.Conv2d(4, 1, 1), nn.Tanh())

    def forward(self, x, dtype, device="cpu"):
        with torch.autocast(device, dtype):
            first = self.first(x)
            with torch.autocast(device, enabled=False):
                second = self.second(first.float())
            third = self.third(second)
        return first, second, third


class TestMixedPrecision:
    def results(self, dtype, scale=1.0):
        """Of a fused and an unfused network, three steps through the scaler."""
        for fused in (True, False):
            torch.manual_seed(0)
            model = Mixed()
            if fused:
                fuse(model)
            assert is_fused(model) is fused
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
            scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2, enabled=dtype == torch.float16)
            outputs, gradients = [], []
            for _ in range(3):
                x = torch.randn(4, 3, 9, 9)
                optimizer.zero_grad()
                outputs.append(model(x, dtype))
                scaler.scale(outputs[-1][-1].float().square().sum()).backward()
                scaler.unscale_(optimizer)
                gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
            yield outputs, gradients, scaler.state_dict(), dict(model.state_dict())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_steps(self, dtype):
        mine, theirs = self.results(dtype, 1024.0)
        assert [t.dtype for t in mine[0][0]] == [dtype, torch.float32, dtype]
        tolerance = 0.1 if dtype == torch.bfloat16 else 0.02
        assert_equal(mine, theirs, rtol=tolerance, atol=tolerance)

    def test_steps_that_the_scaler_skips(self):
        """Gradients that overflow in one overflow in the other: no step, and half the scale."""
        mine, theirs = self.results(torch.float16, 2.0**40)
        assert mine[2]["scale"] == theirs[2]["scale"] == 2.0**37
        torch.manual_seed(0)
        assert_equal(*(dict(zip("wb", (s["first.0.weight"], s["first.0.bias"]))) for s in (mine[3], theirs[3])))


class TestParametrizedAfterwards:
    def test_works_and_is_named_by_unfuse(self):
        network, x = build("residual")
        fuse(network)
        network.scale = nn.Parameter(torch.ones(1))
        expected = network(x)
        nn.utils.parametrize.register_parametrization(network, "scale", Halved())
        assert_close(network(x), expected, **EXACT)
        with pytest.raises(RuntimeError, match="parametrized"):
            unfuse(network)
        nn.utils.parametrize.remove_parametrizations(network, "scale")
        assert type(unfuse(network)) is Residual

    def test_weights_that_a_fused_forward_reads(self):
        """The weight of a functional prelu, which the rewritten forward takes from the module itself."""
        fused, plain, x = both(
            "functional", lambda model: nn.utils.parametrize.register_parametrization(model, "weight", Halved())
        )
        assert_same(fused, plain, x)
        for model in (fused, plain):
            nn.utils.parametrize.remove_parametrizations(model, "weight")
        assert_same(fused, plain, x)

    @pytest.mark.parametrize("path", ["0", "2", "3", "5"])
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda module: nn.utils.parametrizations.weight_norm(module, dim=None),
            lambda module: nn.utils.parametrize.register_parametrization(module, "weight", Halved()),
            lambda module: prune.l1_unstructured(module, "weight", amount=0.5),
        ],
        ids=["weight_norm", "own", "pruned"],
    )
    def test_weights_of_children(self, path, wrap):
        fused, plain, x = both("sequential", lambda model: wrap(model.get_submodule(path)))
        assert_same(fused, plain, x.requires_grad_())

    def test_spectral_norm(self):
        def change(model):
            torch.manual_seed(0)
            for path in ("0", "2", "5"):
                nn.utils.parametrizations.spectral_norm(model.get_submodule(path))

        fused, plain, x = both("sequential", change)
        assert_same(fused, plain, x.requires_grad_(), passes=3)
