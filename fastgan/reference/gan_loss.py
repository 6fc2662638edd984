"""The losses of a real-or-fake discriminator and of its generator: the specification of `fastgan.ops.gan_loss`, its
fallback and its test oracle.

Every loss is a mean over the real logits plus a mean over the fake ones. A term belongs to a target t, 1 for real and
0 for fake:
    cross entropy   t sp(-x) + (1 - t) sp(x), where sp(x) = softplus(x) = log(1 + e^x)
    least squares   (x - t)^2 / 2
    hinge           t relu(1 - x) + (1 - t) relu(1 + x)
    linear          t (-x) + (1 - t) x
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x). By itself torch.nn.functional.softplus goes over to x at 20, which float64 can tell from the truth.

    -logsigmoid(-x) is the same function, but its second derivative cancels where this one's does not.
    """
    return F.softplus(x, threshold=40)


def _linear(x: Tensor, t: float | Tensor) -> Tensor:
    return (1 - 2 * t) * x


def _cross_entropy(x: Tensor, t: float | Tensor) -> Tensor:
    if not isinstance(t, Tensor) and t in (0, 1):  # 0 * inf is not a number
        return softplus(-x if t else x)
    return t * softplus(-x) + (1 - t) * softplus(x)


def _least_squares(x: Tensor, t: float | Tensor) -> Tensor:
    return (x - t).square() / 2


def _hinge(x: Tensor, t: float | Tensor) -> Tensor:
    if not isinstance(t, Tensor) and t in (0, 1):
        return F.relu(1 - x if t else 1 + x)
    return t * F.relu(1 - x) + (1 - t) * F.relu(1 + x)


_Term = Callable[[Tensor, "float | Tensor"], Tensor]

# Name -> the discriminator's term, the generator's term, the target that the generator wants, the factor of its term.
# The order of the names is their number in csrc/include/gan_loss.h.
KINDS: dict[str, tuple[_Term, _Term, int, int]] = {
    "non_saturating": (_cross_entropy, _cross_entropy, 1, 1),
    "minimax": (_cross_entropy, _cross_entropy, 0, -1),
    "least_squares": (_least_squares, _least_squares, 1, 1),
    "hinge": (_hinge, _linear, 1, 1),
    "wasserstein": (_linear, _linear, 1, 1),
    "relativistic": (_cross_entropy, _cross_entropy, 1, 1),
    "relativistic_average": (_cross_entropy, _cross_entropy, 1, 1),
}


def computed_in(*logits: Tensor | None) -> torch.dtype:
    """float64 where any of the logits are, else float32."""
    return torch.float64 if any(x is not None and x.dtype == torch.float64 for x in logits) else torch.float32


def as_it_lies(x: Tensor) -> Tensor | None:
    """x with its dimensions in the order that memory has them, which makes it contiguous; None where it has gaps."""
    permuted = x.permute(sorted(range(x.dim()), key=x.stride, reverse=True))
    return permuted if permuted.is_contiguous() else None


def in_memory_order(x: Tensor) -> Tensor:
    """All values as a vector: as they lie in memory if they lie there without gaps, else row by row."""
    dense = as_it_lies(x)
    return (x if dense is None else dense).reshape(-1)


def targets(
    real: bool,
    label_smoothing: float,
    label_noise: float,
    label_flips: float,
    random: Tensor | None,  # [2, count] uniform in [0, 1): for the flips and for the noise
    dtype: torch.dtype,
) -> float | Tensor:
    """What each logit should be: one number, or a vector [count].

    A label is first flipped, then smoothed if it is 1 (one-sided: Salimans et al. 2016, arXiv:1606.03498, section
    3.4), then blurred.
    """
    if random is None:
        return 1 - label_smoothing if real else 0.0
    is_real = (random[0] < label_flips) != real
    return is_real.to(dtype) * (1 - label_smoothing) + label_noise * (2 * random[1].to(dtype) - 1)


def loss(
    real: Tensor | None,
    fake: Tensor | None,
    *,
    kind: str,
    player: str,
    label_smoothing: float = 0.0,
    label_noise: float = 0.0,
    label_flips: float = 0.0,
    random: Tensor | None = None,  # [2, real and then fake logits], in their memory order
) -> Tensor:
    """The scalar, differentiable with respect to the logits. Arguments as in `fastgan.ops.gan_loss`."""
    dtype = computed_in(real, fake)
    discriminator_term, generator_term, wanted, factor = KINDS[kind]
    if kind.startswith("relativistic"):
        assert real is not None
        assert fake is not None
        real, fake = real.to(dtype), fake.to(dtype)
        if player == "generator":
            real, fake = fake, real
        if kind == "relativistic":
            return softplus(fake - real).mean()
        return (softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()) / 2
    if player == "generator":
        assert fake is not None
        return factor * generator_term(fake.to(dtype), wanted).mean()
    total: float | Tensor = 0.0
    first = 0
    for x, is_real in ((real, True), (fake, False)):
        if x is None:
            continue
        mine = None if random is None else random[:, first : first + x.numel()]
        t = targets(is_real, label_smoothing, label_noise, label_flips, mine, dtype)
        total = total + discriminator_term(in_memory_order(x).to(dtype), t).mean()
        first += x.numel()
    assert isinstance(total, Tensor)
    return total


@torch.no_grad()
def means(real: Tensor | None, fake: Tensor | None, *, kind: str) -> Tensor:
    """[4]: D of the real and of the fake samples, share of the real and of the fake ones on the right side."""
    dtype = computed_in(real, fake)
    halves = [None if x is None else x.detach().to(dtype) for x in (real, fake)]
    device = next(x.device for x in halves if x is not None)
    values = [torch.full((), float("nan"), dtype=dtype, device=device)] * 4
    if kind.startswith("relativistic"):
        r, f = halves
        assert r is not None
        assert f is not None
        halves = [r - f, f - r] if kind == "relativistic" else [r - f.mean(), f - r.mean()]
    threshold = 0.5 if kind == "least_squares" else 0.0
    probability = KINDS[kind][0] is _cross_entropy
    for i, x in enumerate(halves):
        if x is not None:
            values[i] = (x.sigmoid() if probability else x).mean()
            if kind != "wasserstein":
                values[2 + i] = ((x > threshold) if i == 0 else (x < threshold)).to(dtype).mean()
    return torch.stack(values)


def gan_loss(
    real: Tensor | None,
    fake: Tensor | None,
    *,
    kind: str,
    player: str,
    label_smoothing: float = 0.0,
    label_noise: float = 0.0,
    label_flips: float = 0.0,
    random: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The formulas, term by term: loss and means. Arguments as in `fastgan.ops.gan_loss`."""
    scalar = loss(
        real, fake, kind=kind, player=player, label_smoothing=label_smoothing, label_noise=label_noise,
        label_flips=label_flips, random=random,
    )  # fmt: skip
    return scalar, means(real, fake, kind=kind)
