"""What each of two processes runs for test_distributed: each case trains a fused and an unfused network."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan import backend, fuse
from tests.fusion.comparing import is_fused, loss_of
from tests.fusion.fusion_networks import build
from tests.fusion.rank_launcher import RANKS

STEPS = 3
Result = dict[str, Any]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01, eps=1e-3)


def parts(rank: int, step: int, name: str = "sequential") -> tuple[Tensor, Tensor]:
    """The real and the fake images of one rank in one step."""
    x = build(name)[1] + step
    return tuple(t.chunk(2)[rank] for t in (x, x * 3 + 1))


def seen(model: nn.Module, *outputs: Tensor) -> Result:
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return {"outputs": [t.detach() for t in outputs], "gradients": gradients, "state": state}


def both(train: Callable[..., Any]) -> Callable[[int], Result]:
    """A case of a function of a rank and of whether to fuse."""
    return lambda rank: {"fused": train(rank, True), "plain": train(rank, False)}


def discriminator(
    rank: int,
    fused: bool,
    *,
    when: str = "before",
    through: Callable[..., Tensor] = lambda model, x: model(x),
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    no_sync: bool = False,
    **options: Any,
) -> list[Result]:
    """Two passes, of real and of fake images, before one backward, three times."""
    network = wrap(build("sequential")[0])
    if fused and when == "before":
        fuse(network)
    model = DistributedDataParallel(network, **options)
    if fused and when == "after":
        fuse(model)
    assert is_fused(network) is fused
    optimizer, results = optimizer_of(model), []
    for step in range(STEPS):
        optimizer.zero_grad()
        with model.no_sync() if no_sync else contextlib.nullcontext():  # accumulates, to be shared with the next
            if no_sync:
                loss_of(model(parts(rank, step + 7)[0])).backward()
        real, fake = (through(model, x) for x in parts(rank, step))
        (F.softplus(-real).mean() + F.softplus(fake).mean()).backward()
        results.append(seen(model.module, real, fake))
        optimizer.step()
    return results


class Unused(nn.Module):
    """A network with a part that its forward leaves out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unused = build("residual")[0]

    def forward(self, x):
        return self.network(x)


class Checkpointed(nn.Module):
    def __init__(self, network: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.network, self.reentrant = network, reentrant

    def forward(self, x):
        if self.reentrant:
            x = x.clone().requires_grad_()
        return checkpoint(self.network, x, use_reentrant=self.reentrant)


def gan(rank: int, fused: bool) -> list[Result]:
    """Generator and discriminator, each wrapped: a step of D with an R1 penalty through its module, a step of G."""
    networks = [build(name)[0] for name in ("generator", "sequential")]
    if fused:
        for network in networks:
            fuse(network)
    generator, critic = (DistributedDataParallel(network) for network in networks)
    of_generator, of_critic = optimizer_of(generator), optimizer_of(critic)
    results = []
    for step in range(STEPS):
        latent = build("generator")[1].chunk(2)[rank] * (step + 1)
        real = parts(rank, step)[0].requires_grad_()
        fake = generator(latent)
        of_critic.zero_grad()
        on_real, on_fake = critic(real), critic(fake.detach())
        (gradient,) = torch.autograd.grad(critic.module(real).sum(), real, create_graph=True)
        penalty = gradient.square().sum([1, 2, 3]).mean()
        (F.softplus(-on_real).mean() + F.softplus(on_fake).mean() + 5 * penalty).backward()
        results.append(seen(critic.module, on_real, on_fake, penalty))
        of_critic.step()
        of_generator.zero_grad()
        F.softplus(-critic(fake)).mean().backward()
        results.append(seen(generator.module, fake))
        of_generator.step()
    return results


def uneven(rank: int, fused: bool) -> Result:
    """One rank has a batch more, within join."""
    network, _ = build("sequential")
    if fused:
        fuse(network)
    model = DistributedDataParallel(network)
    optimizer = optimizer_of(model)
    with model.join():
        for step in range(STEPS + rank):
            optimizer.zero_grad()
            loss_of(model(parts(rank, step)[0])).backward()
            optimizer.step()
    return seen(network)


class Synchronised(nn.Module):
    """Convolutions and vectors, three activations of which one has a weight, a running average over all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.BatchNorm2d(4, momentum=None), nn.PReLU(4))
        self.body, self.norm, self.act = nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False), nn.SiLU()
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        h = self.second(self.first(x)).flatten(1)
        return self.head(self.act(self.norm(self.body(h))))


def synchronised() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Synchronised().double()


def native() -> nn.Module:
    """The same with fastgan's own modules in place of norms and activations, of the same names."""
    network = synchronised()
    group = dist.group.WORLD
    for place, (norm, act) in ((network.first, (1, 2)), (network.second, (1, 2))):
        old = place[norm]
        slope = 0.25 if isinstance(place[act], nn.PReLU) else 0.2
        name = "prelu" if isinstance(place[act], nn.PReLU) else "leaky_relu"
        place[norm] = fastgan.nn.NormAct2d(4, name, slope, momentum=old.momentum, process_group=group).double()
        if name == "prelu":
            place[norm].slope = nn.Parameter(place[act].weight.detach().clone())
        place[act] = nn.Identity()
    network.norm = fastgan.nn.NormAct1d(5, "silu", affine=False, process_group=group).double()
    network.act = nn.Identity()
    return network


# nn.SyncBatchNorm, which PyTorch itself refuses on CPUs, made before and after fuse; fastgan.nn's own modules, by
# themselves and in DistributedDataParallel.
SYNCHRONISED = ("before", "after") if backend.choose("norm_act", "cpu") == "native" else ()
SYNCHRONISED += ("native", "wrapped")
# Local sizes of a batch: equal, unequal, and one rank with a single sample, whose statistics alone are none.
SIZES = {"equal": (4, 4), "unequal": (3, 5), "single": (1, 7)}


def batch(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 3, 5, 5, generator=generator, dtype=torch.float64) * (step + 1)


def synchronised_steps(
    network: nn.Module,
    cut: Callable[[Tensor], Tensor],
    share: Callable[[nn.Module], Any] = lambda network: None,
    forward: nn.Module | None = None,
) -> list[Result]:
    """Three steps on what `cut` leaves of a batch, with gradients that `share` sums over the ranks; then an eval().

    `forward` is the network in DistributedDataParallel, which shares the gradients itself: their mean.
    """
    optimizer, forward, factor = optimizer_of(network), forward or network, 1 if forward is None else RANKS
    results = []
    for step in range(STEPS):
        optimizer.zero_grad()
        x = cut(batch(step)).requires_grad_()
        output = forward(x)
        weights = cut(torch.linspace(-1, 1, 8, dtype=torch.float64))[:, None]
        # The penalty is differentiated twice, across the ranks too.
        (gradient,) = torch.autograd.grad((output * weights).sum(), x, create_graph=True)
        (factor * ((output * weights).sum() + gradient.square().sum())).backward()
        share(network)
        results.append(seen(network, output, gradient, x.grad / factor))
        optimizer.step()
    results.append(seen(network, network.eval()(cut(batch(0)))))
    return results


def synchronised_case(rank: int, sizes: tuple[int, int], how: str) -> list[Result]:
    network = native() if how in ("native", "wrapped") else synchronised()
    if how == "before":
        network = fuse(nn.SyncBatchNorm.convert_sync_batchnorm(network))
    elif how == "after":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(fuse(network))
    assert is_fused(network) is (how in ("before", "after"))

    def cut(x):
        return x.split(sizes)[rank].clone()

    if how == "wrapped":
        return synchronised_steps(network, cut, forward=DistributedDataParallel(network))
    return synchronised_steps(network, cut, lambda network: [dist.all_reduce(p.grad) for p in network.parameters()])


CASES: dict[str, Callable[[int], Any]] = {
    "default": both(discriminator),
    "fused after wrapping": both(functools.partial(discriminator, when="after")),
    "no broadcast": both(functools.partial(discriminator, broadcast_buffers=False)),
    "static graph": both(functools.partial(discriminator, static_graph=True)),
    "views of buckets": both(functools.partial(discriminator, gradient_as_bucket_view=True)),
    "unused parameters": both(functools.partial(discriminator, wrap=Unused, find_unused_parameters=True)),
    "no_sync": both(functools.partial(discriminator, no_sync=True)),
    "no_sync, no broadcast": both(functools.partial(discriminator, no_sync=True, broadcast_buffers=False)),
    "checkpoint": both(functools.partial(discriminator, wrap=lambda m: Checkpointed(m, False))),
    "reentrant checkpoint": both(
        functools.partial(discriminator, wrap=lambda m: Checkpointed(m, True), static_graph=True)
    ),
    "gan": both(gan),
    "uneven": both(uneven),
    **{
        f"{how} {sizes}": functools.partial(synchronised_case, sizes=SIZES[sizes], how=how)
        for how in SYNCHRONISED
        for sizes in SIZES
    },
}
