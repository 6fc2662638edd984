"""The losses of a discriminator that names classes, and of its generator, each in one op."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backend as _backend
from fastgan.ops.checks import checked_late
from fastgan.ops.gan_loss import PLAYERS, check_logits, common_dtype, is_one
from fastgan.reference import class_loss as reference
from fastgan.reference.gan_loss import computed_in


class ClassLoss(NamedTuple):
    loss: Tensor  # scalar, float32 (float64 for float64 logits), differentiable with respect to the logits
    # [4], same dtype, detached: accuracy on the labelled real rows, accuracy on the labelled fake rows, D of the
    # unlabelled rows, D of the fake rows
    means: Tensor


def class_loss(
    real_logits: Tensor | None = None,  # [N, K]
    real_labels: Tensor | None = None,  # [N]
    *,
    unlabelled_logits: Tensor | None = None,  # [M, K]
    fake_logits: Tensor | None = None,  # [L, K]
    fake_labels: Tensor | None = None,  # [L]
    player: str = "discriminator",
    backend: str = "auto",
) -> ClassLoss:
    """The loss of one player over K class logits a sample, and what one logs beside it.

    With CE the cross entropy of softmax(row), sp(x) = log(1 + e^x) and Z = logsumexp(row), each mean over its rows:

    Auxiliary classifier (fake_labels given, or no fake rows; Odena et al. 2017, arXiv:1610.09585), for both players:
        mean CE(real) + mean CE(fake)
    K + 1 classes (fake rows without labels, or unlabelled rows; Salimans et al. 2016, arXiv:1606.03498, section 5,
    with the logit of the class "fake" fixed at 0, so that a sample is real with probability D = sigmoid(Z)):
        discriminator:  mean CE(real) + 1/2 mean sp(-Z of unlabelled) + 1/2 mean sp(Z of fake)
        generator:      mean sp(-Z of fake)
    Terms without rows are left out.

    Arithmetic is float32 inside (float64 for float64). Twice differentiable. Inside a transform of torch.func it is a
    composition of PyTorch's own ops, which torch.func can see through.

    Args:
        real_logits, unlabelled_logits, fake_logits: (rows, K) each, float32, bfloat16, float16 or float64, one K for
            all. With the generator's loss over K + 1 classes only the fake rows get a gradient; the means of the
            others are reported.
        real_labels, fake_labels: (rows,), int64, each in [0, K).
        player: discriminator or generator.
        backend: auto, native or torch.

    Returns:
        loss, a scalar, and means [4], detached: the share of real rows whose largest logit is that of their label, the
        same of the fake rows (where they have labels), and the mean D of the unlabelled and of the fake rows. NaN where
        there are no such rows.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: empty logits, a wrong shape, device or name, a label out of range (on CUDA a device assertion, as
            with PyTorch's cross_entropy), rows without their labels or labels without their rows.
        RuntimeError: the named backend is not usable here.
    """
    given = real_logits, real_labels, unlabelled_logits, fake_logits, fake_labels
    some = next((t for t in given if isinstance(t, Tensor)), None)
    path = _backend.choose("class_loss", "cpu" if some is None else some.device.type, backend)
    if torch._C._are_functorch_transforms_active():
        path = "torch"
    if path == "native" and not torch.compiler.is_compiling():
        return checked_late(_native, _check, *given, player)
    _check(*given, player)
    if path == "native":
        return _native(*given, player)
    return ClassLoss(*reference.class_loss(*given, player=player))


def _native(real, real_labels, unlabelled, fake, fake_labels, player):
    generator = PLAYERS.index(player) == 1
    logits = [x for x in (real, unlabelled, fake) if x is not None]
    labels = [t for t in (real_labels, fake_labels) if t is not None]
    if any(not t.is_contiguous() for t in (*logits, *labels)) or any(x.dtype != logits[0].dtype for x in logits):
        dtype = common_dtype(*logits)
        real, unlabelled, fake = (None if x is None else x.to(dtype).contiguous() for x in (real, unlabelled, fake))
        real_labels, fake_labels = (None if t is None else t.contiguous() for t in (real_labels, fake_labels))
    if generator and fake_labels is None:  # the others are there for their means
        real, unlabelled = (None if x is None else x.detach() for x in (real, unlabelled))
    apply = _ClassLoss.apply if torch.compiler.is_compiling() else _apply
    return ClassLoss(*apply(real, real_labels, unlabelled, fake, fake_labels, generator))


class _ClassLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        loss, means, *grads = torch.ops.fastgan.class_loss.default(*arguments)
        ctx.save_for_backward(*arguments[:5])
        ctx.generator = arguments[5]
        ctx.grads = grads
        ctx.mark_non_differentiable(means)
        ctx.set_materialize_grads(False)
        return loss, means

    @staticmethod
    def backward(ctx, grad_loss, _):
        if grad_loss is None:
            return (None,) * 6
        wanted = [ctx.needs_input_grad[i] for i in (0, 2, 3)]
        if torch.is_grad_enabled():  # create_graph=True: this gradient will itself be differentiated
            grads = _differentiable_backward(grad_loss, *ctx.saved_tensors, wanted=wanted, generator=ctx.generator)
        else:
            # Given away, and computed anew for a second backward pass, as in gan_loss.
            grads, ctx.grads = ctx.grads, None
            if grads is None:
                grads = torch.ops.fastgan.class_loss.default(*ctx.saved_tensors, ctx.generator)[2:]
            if not is_one(grad_loss):
                grads = [grad * grad_loss for grad in grads]
        grad_real, grad_unlabelled, grad_fake = (g if needed else None for g, needed in zip(grads, wanted))
        return grad_real, None, grad_unlabelled, grad_fake, None, None


_apply = super(torch.autograd.Function, _ClassLoss).apply  # as in gan_loss


def _differentiable_backward(
    grad_loss: Tensor,
    real: Tensor | None,
    real_labels: Tensor | None,
    unlabelled: Tensor | None,
    fake: Tensor | None,
    fake_labels: Tensor | None,
    *,
    wanted: list[bool],
    generator: bool,
) -> list[Tensor | None]:
    """The gradient of the reference, as a differentiable function of grad_loss and the logits."""
    # Of aliases: gradients of the tensors themselves would run their hooks, and one tensor in two places has two.
    real, unlabelled, fake = (None if x is None else x[...] for x in (real, unlabelled, fake))
    loss = reference.loss(real, real_labels, unlabelled, fake, fake_labels, player=PLAYERS[generator])
    inputs = [x for x, needed in zip((real, unlabelled, fake), wanted) if x is not None and needed]
    grads = iter(torch.autograd.grad(loss, inputs, grad_loss, create_graph=True))
    return [next(grads) if needed else None for needed in wanted]


@_backend.shape_function("class_loss")
def _(real, real_labels, unlabelled, fake, fake_labels, generator):
    some = next(x for x in (real, unlabelled, fake) if x is not None)
    dtype = computed_in(some)
    scalar, means, nothing = (some.new_empty(shape, dtype=dtype) for shape in ((), (4,), (0,)))
    only_fake = generator and fake_labels is None
    grads = [torch.empty_like(x, dtype=dtype) if x is not None and (x is fake or not only_fake) else nothing.clone()
             for x in (real, unlabelled, fake)]  # fmt: skip
    return scalar, means, *grads


def _check(real: Any, real_labels: Any, unlabelled: Any, fake: Any, fake_labels: Any, player: Any) -> None:
    """Every complaint that a user of class_loss can meet."""
    if player not in PLAYERS:
        raise ValueError(f"class_loss: unknown player {player!r}; accepted: {', '.join(PLAYERS)}")
    first: tuple[str, Tensor] | None = None
    for name, x in (("real_logits", real), ("unlabelled_logits", unlabelled), ("fake_logits", fake)):
        if x is None:
            continue
        check_logits("class_loss", name, x)
        if x.dim() != 2:
            raise ValueError(f"class_loss: {name} have shape {tuple(x.shape)}; expected (rows, classes)")
        if first is None:
            first = name, x
        elif x.shape[1] != first[1].shape[1]:
            raise ValueError(
                f"class_loss: {first[0]} have {first[1].shape[1]} classes and {name} {x.shape[1]}; they must agree"
            )
        elif x.device != first[1].device:
            raise ValueError(
                f"class_loss: {first[0]} are on {first[1].device} and {name} on {x.device}; move them to one device"
            )
    if first is None:
        raise ValueError("class_loss: no logits were given; give real_logits, unlabelled_logits or fake_logits")
    if player == "generator" and fake is None:
        raise ValueError("class_loss: the generator's loss needs fake_logits, not None")
    if fake_labels is not None and unlabelled is not None:
        raise ValueError(
            "class_loss: unlabelled_logits belong to the loss over K + 1 classes, whose fake rows have no labels; "
            "leave out unlabelled_logits or fake_labels"
        )
    if real is not None and real_labels is None:
        raise ValueError("class_loss: real_logits need real_labels; rows without labels go into unlabelled_logits")
    for name, x, labels in (("real", real, real_labels), ("fake", fake, fake_labels)):
        if labels is not None:
            _check_labels(name, x, labels)


def _check_labels(name: str, x: Tensor | None, labels: Any) -> None:
    if x is None:
        raise ValueError(f"class_loss: {name}_labels without {name}_logits")
    if not isinstance(labels, Tensor):
        raise TypeError(f"class_loss: {name}_labels must be a tensor or None, not {type(labels).__name__}")
    if labels.dtype != torch.int64:
        raise TypeError(f"class_loss: {name}_labels are {labels.dtype}; accepted: int64. Convert them by .long().")
    rows, classes = x.shape
    if labels.shape != (rows,):
        raise ValueError(
            f"class_loss: {name}_labels have shape {tuple(labels.shape)} for {rows} rows of {name}_logits; "
            f"expected ({rows},)"
        )
    if labels.device != x.device:
        raise ValueError(f"class_loss: {name}_labels are on {labels.device} and {name}_logits on {x.device}")
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = (labels < 0) | (labels >= classes)
        if wrong.any():
            at = int(wrong.nonzero()[0, 0])
            raise ValueError(
                f"class_loss: {name}_labels[{at}] is {labels[at].item()}, but there are {classes} classes; labels are "
                f"in [0, {classes})"
            )
