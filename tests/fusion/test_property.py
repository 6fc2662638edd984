"""Thousands of drawn networks: fused, each computes what it computed before, or fails as it failed before.

FASTGAN_PROPERTY_DRAWS sets how many networks are drawn in all.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.configuration import set_hypothesis_home_dir
from torch import Tensor, nn
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from fastgan import backend, explain, fuse, unfuse
from tests.fusion.found_networks import FOUND
from tests.fusion.random_changes import handles, log, names
from tests.fusion.random_networks import FAMILIES, Program, Step, made, programs

DRAWS = int(os.environ.get("FASTGAN_PROPERTY_DRAWS", "2000"))
FUSED_OPS = ("_NormAct", "_BiasAct")  # how the names of the autograd nodes of the fused ops begin
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "autocast": torch.float32}


@dataclass
class Seen:
    """What one step of a network showed."""

    tensors: dict[str, Tensor | None] = field(default_factory=dict)  # "output 0", "grad conv.weight", "state norm.bias"
    facts: dict[str, Any] = field(default_factory=dict)  # what must be equal: keys, flags, errors, calls of hooks
    native: int = 0  # nodes of fused ops in the graph of the output
    message: str = ""  # of the error that was raised

    @property
    def refused(self) -> bool:
        return self.facts.get("raised", ("", None))[0] == "backward"

    def different(self, other: Seen) -> dict[str, Any]:
        keys = {**self.facts, **other.facts}
        pairs = {k: (self.facts.get(k), other.facts.get(k)) for k in keys}
        messages = {"messages": (self.message, other.message)}
        return {k: pair for k, pair in pairs.items() if pair[0] != pair[1]} | messages


class Run:
    """A network made from its text, fused or not, with the steps taken on it.

    shake: the number of a random change of parameters and input by about one rounding; 0 for none.
    exact: everything in float64.
    gentle: nothing is in place, so that PyTorch refuses no backward pass.
    """

    def __init__(self, program: Program, *, fused=False, shake=0, exact=False, gentle=False) -> None:
        self.program, self.shake = program, shake
        self.dtype = DTYPES.get(program.dtype, torch.float64)
        self.exact, self.gentle = exact, gentle
        space = types.ModuleType("drawn")
        same = lambda network: network  # noqa: E731
        vars(space).update(names() | {"fuse": fuse if fused else same, "unfuse": unfuse if fused else same})
        self.space = vars(space)
        sys.modules["drawn"] = space
        try:
            exec(compile(program.source, "<drawn>", "exec"), self.space)
            _seed(1)
            network = self.space["network"] = self.space["network"]()
            self.initialise(network)
            first = Seen()
            for i, change in enumerate(program.before):
                self.change(change, f"before {i}", first)
            held = [id(t) for t in (*network.parameters(), *network.buffers())]
            if fused:
                assert fuse(network) is network
                assert held == [id(t) for t in (*network.parameters(), *network.buffers())]
            self.steps = [first, *map(self.step, range(len(program.steps)))]
            if fused:
                unfuse(self.space["network"])
            kinds = [(type(m).__qualname__, len(type(m).__mro__)) for m in self.space["network"].modules()]
            self.steps[-1].facts["classes"] = kinds
        finally:
            while handles:
                handles.pop().remove()
            del sys.modules["drawn"]

    def rounded(self, t: Tensor) -> Tensor:
        """A float64 tensor as the numbers of the dtype of the program, shaken; with `exact` in float64."""
        if self.shake:
            noise = torch.rand(t.shape, generator=torch.Generator().manual_seed(self.shake), dtype=torch.float64)
            size = 1e-13 if self.dtype == torch.float64 else _rounding(self.program)
            t = t * (1 + size * (2 * noise - 1))
        t = t.to(self.dtype)
        return t.double() if self.exact else t

    def initialise(self, network: nn.Module) -> None:
        network.double()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                if module.weight is not None:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.5)
                if module.track_running_stats:
                    nn.init.normal_(module.running_mean, std=0.3)
                    nn.init.uniform_(module.running_var, 0.5, 2.0)
        for parameter in network.parameters():
            parameter.data = self.rounded(parameter.data)
        network.to(torch.float64 if self.exact else self.dtype)

    def change(self, statement: str, name: str, seen: Seen) -> None:
        if self.gentle:
            statement = statement.replace("inplace = True", "inplace = False")
        _seed(2)
        try:
            exec(statement, self.space)
        except Exception as error:  # as when there is no norm to change: then in both networks
            seen.facts[name] = type(error)

    def step(self, number: int) -> Seen:
        seen = Seen()
        step = self.program.steps[number]
        log.clear()
        for i, change in enumerate(step.changes):
            self.change(change, f"change {i}", seen)
        network = self.space["network"]
        _seed(3 + number)
        x = made(self.program.shape, self.program.layout, self.rounded)
        if self.program.dtype.startswith("wrong"):
            x = x.to(getattr(torch, self.program.dtype.split()[1]))
        x.requires_grad_(self.program.leaf and x.is_floating_point())
        network.zero_grad()
        try:
            self.differentiate(network, x, step, seen)
        except Exception as error:
            phase = "backward" if "outputs" in seen.facts else "forward"
            seen.facts["raised"], seen.message = (phase, type(error)), str(error)
        seen.facts["random"] = torch.rand(()).item()
        seen.facts["log"] = list(log)
        seen.facts["training"] = [m.training for m in network.modules()]
        seen.tensors |= {f"state {k}": v.detach().clone() for k, v in network.state_dict().items()}
        seen.facts["names"] = list(seen.tensors)
        return seen

    def forward(self, network: nn.Module, x: Tensor, kind: str) -> Any:
        with contextlib.ExitStack() as stack:
            if kind == "no_grad":
                stack.enter_context(torch.no_grad())
            if kind == "inference":
                stack.enter_context(torch.inference_mode())
            if self.program.dtype == "autocast" and not self.exact:
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            return checkpoint(network, x, use_reentrant=False) if kind == "checkpoint" else network(x)

    def differentiate(self, network: nn.Module, x: Tensor, step: Step, seen: Seen) -> None:
        kind = step.kind
        outputs, tree = pytree.tree_flatten(self.forward(network, x, kind))
        seen.tensors |= {f"output {i}": t.detach().clone() for i, t in enumerate(outputs)}
        seen.tensors["output x"] = x.detach().clone()
        seen.native = sum(name.startswith(FUSED_OPS) for name in _graph(outputs))
        if kind == "pair":
            outputs += pytree.tree_leaves(self.forward(network, x.detach() * 0.5 + 0.1, kind))
        seen.facts["outputs"] = tree, [(t.shape, t.dtype, t.requires_grad, t.is_contiguous()) for t in outputs]
        loss = sum(
            (t.double() * torch.linspace(-1, 1, t.numel(), dtype=torch.float64).view(t.shape)).sum()
            + 0.1 * t.double().square().sum()
            for t in outputs
        )
        if not loss.requires_grad:
            return
        if kind in ("penalty", "r1"):
            inputs = [x] if x.requires_grad else [p for p in network.parameters() if p.requires_grad]
            grads = torch.autograd.grad(loss, inputs, create_graph=True, allow_unused=True)
            seen.tensors |= {f"first {i}": None if g is None else g.detach() for i, g in enumerate(grads)}
            penalty = sum(g.double().square().sum() for g in grads if g is not None)
            loss = penalty if kind == "r1" else penalty + loss
            if not loss.requires_grad:
                return
        if kind == "twice":
            loss.backward(retain_graph=True)
        loss.backward()
        seen.tensors |= {f"grad {name}": p.grad for name, p in (("x", x), *network.named_parameters())}
        if kind == "update":
            with torch.no_grad():
                for p in network.parameters():
                    if p.grad is not None:
                        p -= 0.01 * p.grad.clamp(-1, 1)


def _graph(outputs: list[Any]) -> Iterator[str]:
    """Names of the nodes of the graph of autograd behind the outputs."""
    nodes = [t.grad_fn for t in outputs if t.grad_fn is not None]
    known = set(nodes)
    while nodes:
        node = nodes.pop()
        yield node.name()
        following = {n for n, _ in node.next_functions if n is not None} - known
        known |= following
        nodes += following


class Comparison:
    """What the network shows, fused, against what it shows in PyTorch: AssertionError where that differs."""

    def __init__(self, program: Program) -> None:
        self.program, self.gentle = program, False
        self.fused, self.plain = Run(program, fused=True), Run(program)
        self.exact = Run(program, exact=True) if program.dtype in DTYPES else self.plain
        self.native = sum(seen.native for seen in self.fused.steps)
        self.raised = any("raised" in seen.facts for seen in self.plain.steps)
        self.sensitive = False  # a rounding changes the result of PyTorch as much as fusing does
        for i, (mine, theirs) in enumerate(zip(self.fused.steps, self.plain.steps)):
            if theirs.refused and "raised" not in mine.facts:
                self.check_where_pytorch_refuses(i)
                return  # the networks have gone different ways
            assert mine.facts == theirs.facts, f"step {i}: {mine.different(theirs)}"
            self.check(i)

    def again(self, **how: Any) -> Run:
        """Another run of PyTorch's network."""
        if not self.gentle:
            return Run(self.program, **how)
        with allow_mutation_on_saved_tensors():
            return Run(self.program, gentle=True, **how)

    def check(self, step: int) -> None:
        mine, theirs, exact = (run.steps[step].tensors for run in (self.fused, self.plain, self.exact))
        for name, t in theirs.items():
            assert (mine[name] is None) is (t is None), f"step {step}, {name}: {mine[name]}, not {t}"
        for group in {name.split()[0]: None for name in theirs}:
            chosen = [name for name, t in theirs.items() if name.startswith(group) and t is not None]
            largest = max((_largest(exact[name]) for name in chosen), default=0.0)
            for name in chosen:
                error, allowed = _distance(mine[name], exact[name]), _distance(theirs[name], exact[name])
                if error > self.allowed(allowed, largest):
                    self.shake(step, name, error, largest)

    def shake(self, step: int, name: str, error: float, largest: float) -> None:
        """Where a rounding is magnified, as at the corner of a ReLU, one of PyTorch's is too."""
        exact = self.exact.steps[step].tensors[name]
        shaken = [self.again(shake=k).steps[step].tensors.get(name) for k in range(1, 9)]
        spread = max((_distance(t, exact) for t in shaken if t is not None), default=0.0)
        mine, theirs = (run.steps[step].tensors[name] for run in (self.fused, self.plain))
        assert error <= 2 * self.allowed(spread, largest), f"step {step}, {name}: {mine} is not {theirs}"
        self.sensitive = True

    def allowed(self, theirs: float, largest: float) -> float:
        """At most twice PyTorch's own error and a rounding. In float64, where PyTorch is the truth, many roundings."""
        if self.program.dtype not in DTYPES:
            return theirs + 1e-9 * max(largest, 1)
        return 2 * theirs + _rounding(self.program) * largest

    def check_where_pytorch_refuses(self, step: int) -> None:
        """The op keeps less of the forward pass, so that less that is in place is in its way. Its result is right."""
        source = re.sub(r"(relu|elu|tanh|sigmoid)_\(", r"\1(", self.program.source)
        source = re.sub(r"inplace=True|, True\)", lambda m: m[0].replace("True", "False"), source)
        self.program, self.gentle = replace(self.program, source=source), True
        gentle = self.again()
        outputs = {name: t for name, t in self.plain.steps[step].tensors.items() if name.startswith("output")}
        differs = any(_distance(gentle.steps[step].tensors.get(n), t) > 1e-9 for n, t in outputs.items())
        if differs or any("raised" in seen.facts for seen in gentle.steps[: step + 1]):
            return  # another function without what is in place
        self.plain = gentle
        self.exact = self.again(exact=True) if self.program.dtype in DTYPES else gentle
        self.check(step)


def _rounding(program: Program) -> float:
    return torch.finfo(torch.bfloat16 if program.dtype == "autocast" else DTYPES[program.dtype]).eps


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)  # torch.manual_seed looks for other devices for a millisecond


def _finite(t: Tensor) -> Tensor:
    return t.detach().double().nan_to_num(0, 0, 0)


def _largest(t: Tensor | None) -> float:
    return float(_finite(t).abs().max()) if t is not None and t.numel() else 0.0


def _distance(a: Tensor | None, b: Tensor | None) -> float:
    """The largest difference; infinite where one is finite and the other is not."""
    if a is None or b is None or a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    distance = float((a.double() - b.double()).abs().max())
    if distance == distance and distance < float("inf"):
        return distance
    if not a.isfinite().equal(b.isfinite()):
        return float("inf")
    return float((_finite(a) - _finite(b)).abs().max())


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What hypothesis notes goes elsewhere than into the working directory."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    yield
    set_hypothesis_home_dir(None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_fused_is_the_same(name: str) -> None:
    family, counts = FAMILIES[name], Counter[str]()

    @settings(
        max_examples=max(DRAWS // len(FAMILIES), 1), derandomize=True, database=None, deadline=None, print_blob=False,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(programs(name))
    def check(program: Program) -> None:
        compared = Comparison(program)
        shown = {"drawn": True, "fused": compared.native, "raised": compared.raised, "sensitive": compared.sensitive}
        counts.update(key for key, value in shown.items() if value)

    check()
    print(dict(counts))
    assert counts["sensitive"] * 100 <= family.sensitive * counts["drawn"]
    native = all(backend.choose(op, "cpu") == "native" for op in ("norm_act", "bias_act"))
    if native and counts["drawn"] >= 200:  # of fewer, the share says little
        assert counts["fused"] * 100 >= family.fused * counts["drawn"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name: str) -> None:
    assert not Comparison(FOUND[name]).sensitive


def test_a_collection_of_garbage_while_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that the collector calls are no part of a forward: they were read as such, and refused."""
    ignored, seen = [], []

    def callback(phase: str, info: dict[str, int]) -> None:
        with contextlib.suppress(ZeroDivisionError):  # a trace refuses it
            seen.append(phase)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act = nn.BatchNorm2d(3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.norm(x))

    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    gc.callbacks.append(callback)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        network = fuse(Block())
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(callback)
    assert gc.isenabled()
    assert explain(network)["norm"].kernel
    assert not ignored
