"""What only a GPU can show of the CUDA kernels: streams, captures, other devices, sizes, memory errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastgan import backend, ops

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True, scope="module")
def _library() -> None:
    if not (status := backend.library("cuda")).usable:
        pytest.fail(f"there is a GPU, but the compiled ops for it are missing: {status.reason}")


def step(x: Tensor, running: tuple[Tensor, Tensor] | None = None) -> list[Tensor]:
    """Every kernel once; the sums of all of them need several blocks where x is large."""
    channels = x.shape[1]
    weight, bias = (torch.linspace(0.5, 1.5, channels, device=x.device).requires_grad_() for _ in range(2))
    slope = torch.full((channels,), 0.2, device=x.device, requires_grad=True)
    y = ops.norm_act(x, weight, bias, *(running or (None, None)), act="leaky_relu", backend="native")
    y = ops.norm_act(y, weight, bias, act="prelu", slope=slope, splits=2, backend="native")
    y = ops.norm_act(y, None, None, act="relu", instance=True, backend="native")
    y = ops.bias_act(y, bias.to(x.dtype), act="tanh", backend="native")
    y = ops.bias_act(y, bias.to(x.dtype), act="silu", gain=1.4, clamp=3.0, backend="native")
    fake = y.flatten(1).mean(1)
    loss = ops.gan_loss(fake.flip(0), fake, kind="relativistic_average", backend="native").loss
    loss = loss + ops.gan_loss(y.flatten(), y.flatten().flip(0), backend="native").loss
    labels = torch.arange(len(x), device=x.device) % channels
    logits = y.flatten(2).mean(2)
    loss = loss + ops.class_loss(logits, labels, backend="native").loss
    return [y.detach(), loss.detach(), *torch.autograd.grad(loss, (x, weight, bias, slope))]


def leaf(*shape: int, dtype: torch.dtype = torch.bfloat16, device: str = "cuda") -> Tensor:
    x = torch.randn(shape, device=device).to(dtype)
    return x.to(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_bits_at_every_run(dtype: torch.dtype) -> None:
    x = leaf(128, 64, 32, 32, dtype=dtype)
    first = step(x)
    for _ in range(20):
        for a, b in zip(first, step(x)):
            assert torch.equal(a, b)


def test_another_stream() -> None:
    """What a kernel reads is made on that stream just before; on another one it would not be there yet."""
    x = leaf(128, 64, 32, 32)
    expected = step(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late = (x.detach() * 1).requires_grad_()
        found = step(late)
    stream.synchronize()
    for a, b in zip(expected, found):
        assert torch.equal(a, b)


def test_two_streams_at_once() -> None:
    """Their kernels count on different integers."""
    x = leaf(64, 64, 32, 32)
    expected = step(x)
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(4)]
    found = []
    for _ in range(25):
        for stream in streams:
            with torch.cuda.stream(stream):
                found.append(step(x))
    torch.cuda.synchronize()
    for results in found:
        for a, b in zip(expected, results):
            assert torch.equal(a, b)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_device_that_is_not_the_current_one() -> None:
    x = leaf(16, 32, 8, 8)
    other = x.detach().to("cuda:1").requires_grad_()
    for a, b in zip(step(x), step(other)):
        assert b.device.index == 1
        torch.testing.assert_close(a, b.to(a.device))
    with pytest.raises(ValueError, match="cuda:1"):
        ops.norm_act(x, torch.ones(32, device="cuda:1"), backend="native")


def captured(function: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph, results


def test_capture_and_replay_on_other_inputs() -> None:
    x, running = leaf(64, 64, 16, 16), (torch.zeros(64, device="cuda"), torch.ones(64, device="cuda"))
    graph, results = captured(lambda: step(x, running))
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            x.copy_(torch.randn_like(x))
        before = tuple(t.clone() for t in running)
        graph.replay()
        for a, b in zip(step(x, before), results):
            assert torch.equal(a, b)
        for a, b in zip(before, running):
            assert torch.equal(a, b)


def test_eager_calls_between_replays() -> None:
    """A graph keeps its counters; calls outside take others."""
    x, y = leaf(64, 64, 16, 16), leaf(64, 48, 16, 16)
    graph, results = captured(lambda: step(x))
    expected_x, expected_y = step(x), step(y)
    for _ in range(200):
        graph.replay()
        found = step(y)
        for a, b in (*zip(expected_x, results), *zip(expected_y, found)):
            assert torch.equal(a, b)


def test_ten_thousand_replays_keep_the_memory() -> None:
    x = leaf(16, 32, 8, 8)
    graph, results = captured(lambda: step(x))
    graph.replay()
    expected = [t.clone() for t in results]
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    for _ in range(10_000):
        graph.replay()
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] >= free
    for a, b in zip(expected, results):
        assert torch.equal(a, b)


def test_the_first_call_may_be_captured() -> None:
    """In a process of its own: there are no counters yet, and a capture may not allocate them."""
    code = """
import torch
from fastgan import ops
x = torch.randn(256, 32, 16, 16, device="cuda")
ops.norm_act(x, None, None, torch.zeros(32, device="cuda"), torch.ones(32, device="cuda"), training=False)  # needs none
torch.cuda.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    y = ops.norm_act(x, act="relu", backend="native")
for _ in range(3):
    x.normal_()
    graph.replay()
    assert torch.equal(y, ops.norm_act(x, act="relu", backend="native"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_more_than_two_to_the_31_elements(layout: str) -> None:
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("needs 40 GB of free device memory")
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x = torch.zeros(33, 16, 2048, 2048, dtype=torch.bfloat16, device="cuda").to(memory_format=form)
    x[-1, -1, -1] = 3.0
    x.requires_grad_()
    mean, var = torch.zeros(16, device="cuda"), torch.ones(16, device="cuda")
    y = ops.norm_act(x, None, None, mean, var, training=False, eps=0.0, act="relu", backend="native")
    assert y[-1, -1, -1].eq(3.0).all()
    assert not y[:, :-1].any()
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert x.grad[-1, -1, -1].eq(1.0).all()
    assert not x.grad[:, :-1].any()
    ops.norm_act(x.detach(), None, None, mean, var, momentum=1.0, backend="native")
    exact = 3.0 * 2048 / (33 * 2048 * 2048)
    torch.testing.assert_close(mean[-1].item(), exact, rtol=1e-6, atol=0)
    assert not mean[:-1].any()


def test_no_memory_error_that_compute_sanitizer_finds() -> None:
    if (sanitizer := shutil.which("compute-sanitizer")) is None:
        pytest.skip("needs compute-sanitizer")
    code = """
import torch
from tests.cuda.test_device import leaf, step
for shape in ((4, 17, 5, 7), (8, 64, 9, 9), (64, 3, 32, 32)):
    for dtype in (torch.float32, torch.bfloat16):
        step(leaf(*shape, dtype=dtype))
torch.cuda.synchronize()
"""
    for tool in ("memcheck", "racecheck"):
        done = subprocess.run([sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", code],
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
