"""Random numbers that no other thread sees, and that follow from a seed."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan.random
from fastgan.random import current, drawing_from, noticed, private

X = torch.linspace(-1, 1, 24).view(2, 3, 4)


def recurrent() -> Tensor:
    return nn.GRU(4, 5, num_layers=2, dropout=0.5, batch_first=True)(X)[0]


def attended() -> Tensor:
    return F.scaled_dot_product_attention(X, X, X, dropout_p=0.5)


# Each draws by another operation, or by the same one called otherwise.
DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(3),
    "rand with a dtype": lambda: torch.rand(3, 2, dtype=torch.float64),
    "randn": lambda: torch.randn(2, 3),
    "randint": lambda: torch.randint(10**6, (5,)),
    "randint from": lambda: torch.randint(-5, 10**6, (5,)),
    "randperm": lambda: torch.randperm(50),
    "rand_like": lambda: torch.rand_like(X),
    "randn_like": lambda: torch.randn_like(X, dtype=torch.float64),
    "randint_like": lambda: torch.randint_like(X, 10**6),
    "normal_": lambda: torch.empty(5).normal_(1, 2),
    "normal": lambda: torch.normal(X, 2.0),
    "normal of a size": lambda: torch.normal(1.0, 2.0, (3,)),
    "uniform_": lambda: torch.empty(5).uniform_(-3, 3),
    "random_": lambda: torch.empty(5).random_(),
    "random_ to": lambda: torch.empty(5).random_(10**6),
    "bernoulli": lambda: torch.bernoulli(X.abs()),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "multinomial": lambda: torch.multinomial(X[0].abs() + 0.1, 3),
    "poisson": lambda: torch.poisson(9 + X),
    "binomial": lambda: torch.binomial(torch.full((9,), 50.0), torch.full((9,), 0.5)),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(5)).sample(),
    "rrelu": lambda: F.rrelu(X, training=True),
    "dropout": lambda: F.dropout(X, 0.5),
    "dropout in place": lambda: F.dropout(X.clone(), 0.5, inplace=True),
    "dropout2d": lambda: F.dropout2d(X[None], 0.5),
    "alpha dropout": lambda: F.alpha_dropout(X, 0.5, training=True),
    "attention": attended,
    "recurrent": recurrent,
    "weights": lambda: nn.Sequential(nn.Linear(5, 5), nn.Conv2d(3, 4, 3), nn.Embedding(3, 4))[1].weight,
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(9)),
    "orthogonal_": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
}


@pytest.fixture(params=list(DRAWS))
def draw(request: pytest.FixtureRequest) -> Callable[[], Tensor]:
    return DRAWS[request.param]


def global_state() -> bytes:
    return bytes(torch.get_rng_state().tolist())


class TestPrivate:
    def test_moves_nothing_and_gives_what_a_seed_gives(self, draw: Callable[[], Tensor]) -> None:
        torch.manual_seed(7)
        expected = draw(), draw()
        torch.manual_seed(1)
        before = global_state()
        with private(7):
            got = draw(), draw()
        assert global_state() == before
        assert all(torch.equal(a, b) for a, b in zip(expected, got))

    def test_in_inference_mode(self, draw: Callable[[], Tensor]) -> None:
        before = global_state()
        with torch.inference_mode(), private(7):
            got = draw()
        assert global_state() == before
        with torch.inference_mode(), private(7):
            assert torch.equal(draw(), got)

    def test_a_generator_that_was_given_is_drawn_from(self) -> None:
        with private(7):
            got = torch.randn(3, generator=torch.Generator().manual_seed(3))
        assert torch.equal(got, torch.randn(3, generator=torch.Generator().manual_seed(3)))

    def test_dropout_that_forgets_nothing_draws_nothing(self) -> None:
        with private(7):
            F.dropout(X, 0.5, training=False)
            F.scaled_dot_product_attention(X, X, X)
            nn.Dropout(0.5).eval()(X)
            got = torch.rand(3)
        with private(7):
            assert torch.equal(torch.rand(3), got)

    def test_dropout_as_cuda_has_it(self) -> None:
        with private(7):
            out, kept = torch.native_dropout(torch.ones(1000), 0.25, True)
            all_gone, _ = torch.native_dropout(torch.ones(9), 1.0, True)
        assert kept.dtype == torch.bool
        assert 650 < kept.sum() < 850
        assert torch.equal(out, kept / 0.75)
        assert not all_gone.any()

    def test_operations_that_take_no_generator(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As CUDA's attention; here those that an older torch has without."""
        monkeypatch.setattr(fastgan.random, "_taking_a_generator", lambda func: None)
        monkeypatch.setattr(fastgan.random, "_draw", fastgan.random._draw.__wrapped__)
        before = global_state()
        with private(7):
            first = torch.rand_like(X), torch.randn_like(X), torch.randint(10**6, (5,)), torch.randint(10**6, (5,))
        assert global_state() == before
        with private(7):
            assert torch.equal(torch.rand_like(X), first[0])
        assert not torch.equal(first[2], first[3])

    def test_in_a_backward_pass(self) -> None:
        class Noisy(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, grad):
                return grad * torch.rand_like(grad)

        x = X.clone().requires_grad_()
        before = global_state()
        with private(7):
            Noisy.apply(x).sum().backward()
        assert global_state() == before

    def test_puts_back_what_raises(self) -> None:
        with pytest.raises(ZeroDivisionError), private():
            _ = 1 / 0
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        assert torch.equal(torch.rand(3), expected)
        assert torch._C._len_torch_dispatch_stack() == 0

    def test_within_another(self) -> None:
        with private(1):
            first = torch.rand(3)
            with private(1):
                assert torch.equal(torch.rand(3), first)
            assert not torch.equal(torch.rand(3), first)

    def test_a_run_does_not_reach_into_it(self) -> None:
        run = torch.Generator()
        with drawing_from(lambda device: run), private():
            assert current(torch.device("cpu")) is None

    def test_other_threads_draw_what_they_would_draw(self) -> None:
        """And none sees that there is a mode: torch.compile asks."""
        torch.manual_seed(5)
        expected = [torch.rand(3) for _ in range(300)]
        torch.manual_seed(5)
        stop, seen = threading.Event(), set()

        def work(seed: int) -> None:
            while not stop.is_set():
                with private(seed):
                    nn.Linear(9, 9)
                    seen.add((seed, pickle.dumps(F.dropout(X, 0.5).tolist())))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        got = [torch.rand(3) for _ in range(300)]
        assert not torch.utils._python_dispatch.is_in_torch_dispatch_mode()
        stop.set()
        for thread in threads:
            thread.join()
        assert all(torch.equal(a, b) for a, b in zip(expected, got))
        assert len(seen) == 3
        assert not torch.utils._python_dispatch.is_in_torch_dispatch_mode()


class TestNoticed:
    def test_every_draw_is_named(self, draw: Callable[[], Tensor]) -> None:
        found: list[tuple[str, torch.device]] = []
        torch.manual_seed(3)
        with noticed(lambda name, device: found.append((name, device))):
            got = draw()
        torch.manual_seed(3)
        assert torch.equal(draw(), got)
        assert found
        assert all(device.type == "cpu" for _, device in found)

    def test_what_takes_a_generator_is_not(self) -> None:
        found: list[str] = []
        random = torch.Generator()
        with noticed(lambda name, device: found.append(name)):
            torch.rand(3, generator=random)
            torch.empty_like(X).bernoulli_(0.5, generator=random)
            torch.empty(5).random_(10**6, generator=random)
            F.dropout(X, 0.5, training=False)
        assert not found

    def test_before_it_draws(self) -> None:
        def seed(name: str, device: torch.device) -> None:
            torch.manual_seed(11)

        with noticed(seed):
            got = torch.rand(3)
        torch.manual_seed(11)
        assert torch.equal(torch.rand(3), got)


class TestCurrent:
    def test_only_in_this_thread(self) -> None:
        run = torch.Generator()
        answers: list[torch.Generator | None] = []
        with drawing_from(lambda device: run if device.type == "cpu" else None):
            assert current(torch.device("cpu")) is run
            assert current(torch.device("meta")) is None
            thread = threading.Thread(target=lambda: answers.append(current(torch.device("cpu"))))
            thread.start()
            thread.join()
        assert answers == [None]
        assert current(torch.device("cpu")) is None
