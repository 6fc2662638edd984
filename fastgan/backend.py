"""What can run here, and why not something faster.

Backends, fastest first: `native` (the compiled extension), `torch` (plain PyTorch, always there); KERNELS says which an
op has. Nothing is probed at import; the first use of an op loads the library of its device, once, and a failure is
remembered with its reason.

FASTGAN_BACKEND=auto|native|torch, and for a block of code `using`, set what backend="auto" means for the ops that have
kernels of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import math
import os
import platform
import shlex
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import forward_ad

_LIBRARIES = {"cpu": "libfastgan_cpu.so", "cuda": "libfastgan_cuda.so"}


@dataclass(frozen=True)
class Status:
    """Whether something is usable, and the reason if it is not."""

    usable: bool
    reason: str = ""


@functools.cache
def library(device: str) -> Status:
    """Loads the compiled ops of a device type ("cpu" or "cuda") on the first call."""
    if device not in _LIBRARIES:
        return Status(False, f"fastgan has no compiled ops for device type {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        return Status(False, "torch finds no CUDA device")
    path = Path(__file__).with_name(_LIBRARIES[device])
    if not path.exists():
        build = f"pip install --force-reinstall --no-deps {shlex.quote(_source())}"
        build = f"FASTGAN_BUILD_CUDA=1 {build}" if device == "cuda" else build
        return Status(
            False,
            f"{path.name} was not built; `{build}` builds it where torch and a C++ compiler"
            + (" and nvcc are" if device == "cuda" else " are"),
        )
    if device == "cuda":
        if not (schema := library("cpu")).usable:  # it holds the schema of every op
            return schema
        # A library that was compiled beside a CPU-only torch does not name this one, whose symbols are private so far.
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cuda.so"), mode=ctypes.RTLD_GLOBAL)
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return Status(False, f"{path.name} could not be loaded with torch {torch.__version__}: {error}")
    if device == "cpu":
        for op, function in _shape_functions.items():
            if hasattr(torch.ops.fastgan, op):  # a library built before that op runs the others
                torch.library.register_fake(f"fastgan::{op}", function)
    return Status(True)


def _source() -> str:
    """Where fastgan can be built from: the sources it was installed from, as pip keeps it; no index has it."""
    here = Path(__file__).resolve().parents[1]
    if (here / "setup.py").is_file():
        return str(here)
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    url = ""
    with contextlib.suppress(PackageNotFoundError, ValueError):
        url = json.loads(distribution("fastgan").read_text("direct_url.json") or "{}").get("url", "")
    if not url.startswith("file:"):
        return url or "FOLDER_OF_THE_SOURCES"
    path = Path(url2pathname(urlparse(url).path))
    return str(path) if (path / "setup.py").is_file() else "FOLDER_OF_THE_SOURCES"


_shape_functions: dict[str, Callable[..., Any]] = {}


def shape_function(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers what an op returns without computing it, for torch.compile: once the op itself exists."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*arguments: Any) -> Any:
            # A meta tensor among real ones brings the call here too; it would return what the memory held.
            if any(type(t) in (torch.Tensor, torch.nn.Parameter) and not t.is_meta for t in arguments):
                raise ValueError(f"{op}: some tensors are on the meta device and some are not")
            return function(*arguments)

        _shape_functions[op] = guarded
        if hasattr(torch.ops.fastgan, op):
            torch.library.register_fake(f"fastgan::{op}", guarded)
        return function

    return register


_using: ContextVar[str] = ContextVar("fastgan.backend.using", default="auto")


@contextlib.contextmanager
def using(backend: str) -> Iterator[None]:
    """Inside the block, backend="auto" means `backend`, for the ops that have it. In this thread and task alone.

        with fastgan.backend.using("torch"):
            loss = step(images)         # what the same networks do, and take, on PyTorch's own operations

    "torch" composes every op of PyTorch's, and convolutions and linear layers are PyTorch's own; the backward pass of
    what ran inside does as its forward. It is for comparisons, and to see whether a kernel is to blame. What
    torch.compile or a CUDA graph holds stays as it was chosen when it was made.

    Raises ValueError for an unknown name; an op inside raises RuntimeError where its kernel is not usable here.
    """
    token = _using.set(_known(backend, "backend"))
    try:
        yield
    finally:
        _using.reset(token)


def inside() -> str:
    """The backend of the innermost `using` around this call; "auto" outside of any."""
    return _using.get()


# torch.compiler.assume_constant_result without its import of torch._dynamo, which takes a second: the answer is asked
# while compiling, not traced.
inside._dynamo_marked_constant = True  # type: ignore[attr-defined]


def wanted(backend: str = "auto") -> str:
    """What a backend name asks for: "auto" is that of `using`, or else FASTGAN_BACKEND, where one of them is set.
    ValueError for an unknown name."""
    source = "backend"
    if backend == "auto":
        backend = inside()
    if backend == "auto":
        backend, source = os.environ.get("FASTGAN_BACKEND", "auto"), "FASTGAN_BACKEND"
    return _known(backend, source)


def _known(backend: str, source: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"{source}={backend!r} is not a backend; accepted: {', '.join(BACKENDS)}")
    return backend


# Op -> the backends that have kernels for it, fastest first. What PyTorch's operations compute alone has "torch".
KERNELS: dict[str, tuple[str, ...]] = {
    "bias_act": ("native", "torch"),
    "class_loss": ("native", "torch"),
    "conv_pool": ("torch",),
    "gan_loss": ("native", "torch"),
    "norm_act": ("native", "torch"),
    "resize_conv": ("torch",),
}

_chosen: dict[tuple[str, str, str], str] = {}


def choose(op: str, device: str, backend: str = "auto") -> str:
    """The backend that runs `op` on a device type: one of KERNELS[op].

    With backend="auto" the fastest usable one; RuntimeError, with the reason, for a named one that the op does not have
    or that is not usable here. The answer is remembered for the life of the process.
    """
    if backend == "auto" and (chosen := _using.get()) != "auto" and chosen in KERNELS[op]:
        backend = chosen
    path = _chosen.get((op, device, backend))
    if path is None:
        path = _chosen[op, device, backend] = _choose(op, device, backend)
    return path


choose._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as that of inside


def _choose(op: str, device: str, backend: str) -> str:
    asked, kernels = wanted(backend), KERNELS[op]
    if backend == "auto" and asked not in kernels:  # FASTGAN_BACKEND is about other ops
        asked = "auto"
    if asked == "auto":
        return next(name for name in kernels if not _WHY_NOT[name](op, device))
    reason = _WHY_NOT[asked](op, device) if asked in kernels else f"{op} has no {asked} kernel"
    if reason:
        raise RuntimeError(
            f"backend={asked!r} is not usable for {op} on {device}: {reason}. "
            'Use backend="auto" to run on the fastest usable path; `fastgan doctor` shows them all.'
        )
    return asked


def _why_not_native(op: str, device: str) -> str:
    if not (status := library(device)).usable:
        return status.reason
    # The library of that device must have the op; its schema may come from another's.
    known = hasattr(torch.ops.fastgan, op)
    if known and torch._C._dispatch_has_kernel_for_dispatch_key(f"fastgan::{op}", device.upper()):
        return ""
    return f"the compiled library has no {op} for {device}"


# Backend -> why an op that has kernels of it cannot run on them on a device type, or "".
_WHY_NOT: dict[str, Callable[[str, str], str]] = {"native": _why_not_native, "torch": lambda op, device: ""}
BACKENDS = ("auto", *_WHY_NOT)


def no_kernels() -> str:
    """Why no op has a kernel of its own on any device here, or "": there are some, or FASTGAN_BACKEND chose."""
    if wanted() != "auto" or any(choose(op, device) != "torch" for device in _devices() for op in KERNELS):
        return ""
    return f"no compiled kernels, so that little is faster than plain PyTorch: {library('cpu').reason}"


def _devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def recorded() -> bool:
    """Whether PyTorch's own operations must run now, because something records or transforms single operations.

    torch.jit.trace, torch.export and torch.onnx.export, whose result should need PyTorch alone; torch.func's transforms
    and forward-mode differentiation, which an op with a backward of its own has no rules for.
    """
    return (
        torch._C._get_tracing_state() is not None
        or torch.compiler.is_exporting()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def traced() -> bool:
    """Whether torch.jit.trace runs, which warns of every shape that is looked at."""
    return torch._C._get_tracing_state() is not None


def build_config() -> dict[str, str]:
    """How the compiled part was built; empty where it is absent."""
    try:
        compiled = importlib.import_module("fastgan._C")
    except ImportError:
        return {}
    return {**compiled.build_config(), "cpu_capability": compiled.cpu_capability()}


def autocast_dtype(device: str | torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32.

    CUDA: compute capability 8.0 and later. CPU: AVX512-BF16 or AMX, as oneDNN reports them.
    """
    device = torch.device(device)
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and _cpu_multiplies_bfloat16()
    return torch.bfloat16 if fast else torch.float32


@functools.cache
def cpu_multiplies_tiles() -> bool:
    """Whether the processor has AMX, which multiplies bfloat16 matrices several times as fast as AVX512-BF16."""
    return hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@functools.cache
def _cpu_multiplies_bfloat16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch; processors with AMX have AVX512-BF16 too
        return torch.cpu._is_avx512_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def info() -> str:
    """A table: versions, devices, what was built, and the path that each op takes here."""
    config = build_config()
    rows = [
        ("fastgan", config.get("version") or _version()),
        ("python", platform.python_version()),
        ("torch", torch.__version__),
        ("processor", f"{platform.machine()}, {torch.get_num_threads()} threads, kernels for "
         + config.get("cpu_capability", "none (extension not built)")),
        ("autocast on cpu", str(autocast_dtype("cpu")).removeprefix("torch.")),
        ("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "torch finds no CUDA device"),
        ("compiled with", f"{config['compiler']}, torch {config['torch_headers']} headers (runs on torch >= "
         f"{config['torch_target']})" if config else "not compiled"),
        ("cuda library", config.get("cuda_archs") or config.get("cuda_reason") or "not compiled"),
    ]  # fmt: skip
    for op in KERNELS:
        for device in _devices():
            path = choose(op, device)
            rows.append((f"{op} on {device}", f"{path}{_why_not_faster(op, device, path)}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _why_not_faster(op: str, device: str, path: str) -> str:
    """In parentheses, or "" for the fastest."""
    faster = KERNELS[op][: KERNELS[op].index(path)]
    if not faster:
        return ""
    if (asked := wanted()) != "auto":
        return f" (FASTGAN_BACKEND={asked})"
    return f" ({'; '.join(_WHY_NOT[name](op, device) for name in faster)})"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastgan")
    except PackageNotFoundError:
        return "from a source tree"


def cores(root: Path = Path("/")) -> int:
    """How many cores this process may use: its affinity and, in a container, its share of CPU time, rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([count, *(max(1, math.ceil(share)) for share in _cpu_shares(root))])


def _cpu_shares(root: Path) -> Iterator[float]:
    """Every limit on CPU time that control groups (version 1 or 2) set here, in cores."""
    try:
        own = [line.split(":", 2)[2] for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except (OSError, IndexError):
        own = []
    groups = root / "sys/fs/cgroup"
    for path in {"/", *own}:
        group = groups / path.lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(groups))):
            with contextlib.suppress(OSError, ValueError):
                quota, period = (folder / "cpu.max").read_text().split()
                yield int(quota) / int(period)  # "max" is no number
        for controller in ("cpu", "cpu,cpuacct"):
            folder = groups / controller / path.lstrip("/")
            with contextlib.suppress(OSError, ValueError):
                quota, period = ((folder / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
                if int(quota) > 0:
                    yield int(quota) / int(period)
