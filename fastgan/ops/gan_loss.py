"""The losses of a real-or-fake discriminator and of its generator, each in one op."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backend as _backend
from fastgan.ops.checks import checked_late
from fastgan.random import current
from fastgan.reference import gan_loss as reference
from fastgan.reference.gan_loss import KINDS

PLAYERS = ("discriminator", "generator")
_RELATIVISTIC = ("relativistic", "relativistic_average")
_NUMBER = {(kind, player): 2 * i + j for i, kind in enumerate(KINDS) for j, player in enumerate(PLAYERS)}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class GanLoss(NamedTuple):
    loss: Tensor  # scalar, float32 (float64 for float64 logits), differentiable with respect to the logits
    means: Tensor  # [4], same dtype, detached: D of the real and of the fake samples; share of each on its right side


def gan_loss(
    real_logits: Tensor | None,  # any shape
    fake_logits: Tensor | None,  # any shape
    *,
    kind: str = "non_saturating",
    player: str = "discriminator",
    label_smoothing: float = 0.0,
    label_noise: float = 0.0,
    label_flips: float = 0.0,
    generator: torch.Generator | None = None,
    backend: str = "auto",
) -> GanLoss:
    """The loss of one player, and what one logs beside it.

    With sp(x) = softplus(x) = log(1 + e^x), r the real logits and f the fake ones, each mean over its own logits:

    ====================  ========================================================  ================================
    kind                  discriminator                                             generator
    ====================  ========================================================  ================================
    non_saturating        mean sp(-r) + mean sp(f)                                  mean sp(-f)
    minimax               mean sp(-r) + mean sp(f)                                  -mean sp(f)
    least_squares         1/2 mean (r - 1)^2 + 1/2 mean f^2                         1/2 mean (f - 1)^2
    hinge                 mean relu(1 - r) + mean relu(1 + f)                       -mean f
    wasserstein           mean f - mean r                                           -mean f
    relativistic          mean sp(f - r)                                            mean sp(r - f)
    relativistic_average  1/2 mean sp(mean f - r) + 1/2 mean sp(f - mean r)         the same, r and f exchanged
    ====================  ========================================================  ================================

    Goodfellow et al. 2014 (arXiv:1406.2661; both first rows), Mao et al. 2017 (arXiv:1611.04076), Lim and Ye 2017
    (arXiv:1705.02894), Arjovsky et al. 2017 (arXiv:1701.07875), Jolicoeur-Martineau 2018 (arXiv:1807.00734; both last
    rows, the paired one also Huang et al. 2024, arXiv:2501.05441).

    The discriminator's labels (t = 1 for real, t = 0 for fake) can be disturbed, except for the relativistic kinds.
    Each label by itself is flipped with probability `label_flips`; then 1 becomes 1 - `label_smoothing`; then
    `label_noise` times a uniform number in [-1, 1) is added. A term is then t (term of a real logit) + (1 - t) (term
    of a fake one); with least_squares, 1/2 (x - t)^2.

    Arithmetic is float32 inside (float64 for float64). Twice differentiable. Inside a transform of torch.func it is a
    composition of PyTorch's own ops, which torch.func can see through.

    Args:
        real_logits, fake_logits: outputs of the discriminator without a sigmoid, of any shape, such as (N,), (N, 1)
            or (N, 1, H, W): float32, bfloat16, float16 or float64. The shapes may differ, except with the relativistic
            kinds. real_logits may be None for a generator's loss that is not relativistic; where given, its means are
            reported and it gets no gradient. Either may be None for a discriminator's that is not: the result is the
            other's part of the loss, by PyTorch's own ops.
        kind: see above.
        player: discriminator or generator.
        label_smoothing: in [0, 1).
        label_noise: >= 0.
        label_flips: a probability.
        generator: where the random numbers of label_noise and label_flips come from. None: within
            `fastgan.Trainer` the run's, else PyTorch's own.
        backend: auto, native or torch.

    Returns:
        loss, a scalar, and means [4], detached: D(real), D(fake), and the shares of real and of fake samples on their
        right side. D is the mean of sigmoid(logit), for the relativistic kinds of sigmoid(r - f) and sigmoid(f - r)
        (or of the differences from the means), and for the others of the logit itself. The right side of a real
        sample is above 0 (1/2 for least_squares), that of a fake one below; for the relativistic kinds this is asked
        of the differences. wasserstein has no sides: NaN, as is whatever belongs to logits that were not given.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: empty logits, a wrong shape, device, name or number, an option that the loss does not have.
        RuntimeError: the named backend is not usable here.
    """
    path = _backend.choose("gan_loss", fake_logits.device.type if isinstance(fake_logits, Tensor) else "cpu", backend)
    part = player == "discriminator" and (real_logits is None or fake_logits is None)
    if part or torch._C._are_functorch_transforms_active():
        path = "torch"
    plain = label_smoothing == label_noise == label_flips == 0
    if path == "native" and plain and generator is None and not torch.compiler.is_compiling():
        return checked_late(_native, _check, real_logits, fake_logits, kind, player)
    _check(real_logits, fake_logits, kind, player, label_smoothing, label_noise, label_flips, generator)
    random = None
    if label_noise or label_flips:
        given = [logits for logits in (real_logits, fake_logits) if logits is not None]
        count = sum(logits.numel() for logits in given)
        device = given[0].device
        random = torch.rand(2, count, generator=generator or current(device), device=device)
    labels = None if plain else (label_smoothing, label_noise, label_flips)
    return (_native if path == "native" else _composed)(real_logits, fake_logits, kind, player, random, labels)


def _native(real, fake, kind, player, random=None, labels=None):
    if real is None:
        if not fake.is_contiguous():
            fake = _dense(fake)
    else:
        if not (real.is_contiguous() and fake.is_contiguous() and real.dtype == fake.dtype):
            real, fake = _alike(real, fake, kind)
        if player == "generator" and kind not in _RELATIVISTIC:
            real = real.detach()
    apply = _GanLoss.apply if torch.compiler.is_compiling() else _apply
    return GanLoss(*apply(real, fake, random, _NUMBER[kind, player], labels))


def _composed(real, fake, kind, player, random, labels):
    return GanLoss(*reference.gan_loss(real, fake, kind=kind, player=player, **_named(random, labels)))


def _named(random, labels):
    if labels is None:
        return {}
    return {"random": random, **dict(zip(("label_smoothing", "label_noise", "label_flips"), labels))}


def _dense(x: Tensor) -> Tensor:
    """x itself where its values fill their memory, in whatever order of the dimensions."""
    return x.contiguous() if reference.as_it_lies(x) is None else x


def _alike(real: Tensor, fake: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Dense, of one dtype and, where they are compared one by one, in one order of memory."""
    dtype = common_dtype(real, fake)
    real, fake = _dense(real.to(dtype)), _dense(fake.to(dtype))
    if kind == "relativistic" and real.stride() != fake.stride():
        real, fake = real.contiguous(), fake.contiguous()
    return real, fake


def common_dtype(*logits: Tensor) -> torch.dtype:
    if any(x.dtype not in _DTYPES for x in logits):
        raise TypeError  # in words by the op's _check, like all that is wrong here
    return functools.reduce(torch.promote_types, (x.dtype for x in logits))


class _GanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, real, fake, random, number, labels):
        loss, means, grad_real, grad_fake = _call(real, fake, random, number, labels)
        ctx.save_for_backward(real, fake, random)
        ctx.grads = grad_real, grad_fake
        ctx.settings = number, labels
        ctx.mark_non_differentiable(means)
        ctx.set_materialize_grads(False)
        return loss, means

    @staticmethod
    def backward(ctx, grad_loss, _):
        if grad_loss is None:
            return (None,) * 5
        wanted = ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph=True: this gradient will itself be differentiated
            real, fake = _differentiable_backward(grad_loss, *ctx.saved_tensors, wanted=wanted, settings=ctx.settings)
            return real, fake, None, None, None
        # The gradients of the forward pass are given away, so that nobody can change what a second backward pass
        # (retain_graph=True) would find; it computes them anew.
        grads, ctx.grads = ctx.grads, None
        if grads is None:
            grads = _call(*ctx.saved_tensors, *ctx.settings)[2:]
        # They are in the type of the arithmetic; autograd rounds them to that of the logits, once.
        if not is_one(grad_loss):
            grads = grads[0] * grad_loss, grads[1] * grad_loss
        return grads[0] if wanted[0] else None, grads[1] if wanted[1] else None, None, None, None


def _call(real, fake, random, number, labels):
    if labels is None:
        return torch.ops.fastgan.gan_loss.default(real, fake, number)
    return torch.ops.fastgan.gan_loss_labels.default(real, fake, number, random, *labels)


def is_one(grad_loss: Tensor) -> bool:
    """Whether there is nothing left to multiply with, where that can be known without waiting for a device."""
    if torch.compiler.is_compiling() or not grad_loss.is_cpu:
        return False
    try:
        return grad_loss.item() == 1
    except RuntimeError:  # a batch of gradients (is_grads_batched=True), or a tensor without values
        return False


# What torch.autograd.Function.apply calls in the end, without the two microseconds that it first takes to look for the
# wrappers of torch.func.
_apply = super(torch.autograd.Function, _GanLoss).apply


def _differentiable_backward(
    grad_loss: Tensor,
    real: Tensor | None,
    fake: Tensor,
    random: Tensor | None,
    *,
    wanted: tuple[bool, ...],
    settings: tuple,
) -> list[Tensor | None]:
    """The gradient of the reference, as a differentiable function of grad_loss and the logits."""
    # Of aliases: gradients of the tensors themselves would run their hooks, and one tensor on both sides has two.
    real, fake = None if real is None else real[...], fake[...]
    number, labels = settings
    kind, player = list(_NUMBER)[number]
    loss = reference.loss(real, fake, kind=kind, player=player, **_named(random, labels))
    inputs = [x for x, needed in zip((real, fake), wanted) if x is not None and needed]
    grads = iter(torch.autograd.grad(loss, inputs, grad_loss, create_graph=True))
    return [next(grads) if needed else None for needed in wanted[:2]]


@_backend.shape_function("gan_loss")
def _(real, fake, number):
    dtype = reference.computed_in(fake)
    unused = real is None or (number % 2 == 1 and list(_NUMBER)[number][0] not in _RELATIVISTIC)
    grad_real = fake.new_empty(0, dtype=dtype) if unused else torch.empty_like(real, dtype=dtype)
    scalar, means = (fake.new_empty(shape, dtype=dtype) for shape in ((), (4,)))
    return scalar, means, grad_real, torch.empty_like(fake, dtype=dtype)


@_backend.shape_function("gan_loss_labels")
def _(real, fake, number, random, smoothing, noise, flips):
    dtype = reference.computed_in(fake)
    scalar, means = (fake.new_empty(shape, dtype=dtype) for shape in ((), (4,)))
    return scalar, means, torch.empty_like(real, dtype=dtype), torch.empty_like(fake, dtype=dtype)


def _check(
    real: Any,
    fake: Any,
    kind: Any,
    player: Any,
    label_smoothing: Any = 0.0,
    label_noise: Any = 0.0,
    label_flips: Any = 0.0,
    generator: Any = None,
) -> None:
    """Every complaint that a user of gan_loss can meet."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"gan_loss: unknown kind {kind!r}; accepted: {', '.join(KINDS)}")
    if player not in PLAYERS:
        raise ValueError(f"gan_loss: unknown player {player!r}; accepted: {', '.join(PLAYERS)}")
    relativistic = kind in _RELATIVISTIC
    for name, x in (("real_logits", real), ("fake_logits", fake)):
        if x is not None:
            check_logits("gan_loss", name, x)
        elif relativistic or (player == "generator" and name == "fake_logits"):
            raise ValueError(f"gan_loss: the {player}'s {kind} loss needs {name}, not None")
        elif real is fake:
            raise ValueError(f"gan_loss: the {player}'s {kind} loss needs real_logits, fake_logits or both, not None")
    if real is not None and fake is not None:
        if real.device != fake.device:
            raise ValueError(
                f"gan_loss: real_logits are on {real.device} and fake_logits on {fake.device}; move them to one device"
            )
        if relativistic and real.shape != fake.shape:
            raise ValueError(
                f"gan_loss: real_logits have shape {tuple(real.shape)} and fake_logits {tuple(fake.shape)}; {kind} "
                "compares them one by one, so the shapes must be equal"
            )
    for name, value, accepted, fits in (
        ("label_smoothing", label_smoothing, "in [0, 1)", lambda v: 0 <= v < 1),
        ("label_noise", label_noise, "finite and >= 0", lambda v: 0 <= v < math.inf),
        ("label_flips", label_flips, "a probability in [0, 1]", lambda v: 0 <= v <= 1),
    ):
        if not isinstance(value, (float, int)) or not fits(value):
            raise ValueError(f"gan_loss: {name} must be {accepted}, not {value!r}")
        if value and (relativistic or player == "generator"):
            whose = f"the {kind} losses have" if relativistic else "the generator's losses have"
            raise ValueError(f"gan_loss: {name}={value!r}, but {whose} no labels to change; leave it 0")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"gan_loss: generator must be a torch.Generator or None, not {type(generator).__name__}")


def check_logits(op: str, name: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor or None, not {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(
            f"{op}: {name} are {x.dtype}; accepted: float32, bfloat16, float16, float64. Convert them first."
        )
    if x.layout is not torch.strided or x.is_nested:
        raise TypeError(
            f"{op}: {name} are nested or {x.layout}; accepted: dense. Convert them first, as by to_dense()."
        )
    if x.numel() == 0:
        raise ValueError(f"{op}: {name} are empty, of shape {tuple(x.shape)}; the mean over no logits is undefined")
