"""The random numbers of a run: its own, so that other threads neither see them nor disturb them."""

import logging
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.losses import Lazy, gradient_penalty
from fastgan.nn import Dropout
from fastgan.random import current, drawing_from, noticed
from fastgan.systems import names
from fastgan.systems.dcgan import DCGAN
from fastgan.training import Trainer
from fastgan.training.step import Step
from tests.systems.every import rows, small
from tests.training.states import same, state

SETTINGS = {"batch_size": 8, "samples": 4, "log_every": 2, "checkpoint_every": 2, "sample_every": 3, "device": "cpu"}
DRAWING = {"dropout": 0.3, "label_noise": 0.1, "label_flips": 0.05, "augment": "color,translation,cutout", "r1": 1.0}


class Own(DCGAN):
    """A system of the user's."""

    def logits(self, images):
        return super().logits(F.dropout(images, 0.2))


class Noisy(DCGAN):
    """Noise in samples too."""

    def generate(self, latent, labels=None):
        images = super().generate(latent, labels)
        return (images + 0.1 * torch.randn_like(images)).clamp(-1, 1)


class Sometimes(DCGAN):
    """Draws where the penalty is not due."""

    def penalties(self, real, fake):
        if not self.r1.due:
            real = real + 0.1 * torch.randn(real.shape)
        yield from super().penalties(real, fake)


class Penalised(DCGAN):
    def __init__(self, config):
        super().__init__(config)
        self.penalty = Lazy(gradient_penalty, every=2)

    def penalties(self, real, fake):
        penalty = self.penalty(self.logits, real, fake)
        if penalty.requires_grad:
            yield penalty, {}


class Checkpointed(DCGAN):
    def __init__(self, config):
        super().__init__(config)
        forward = self.discriminator.forward
        self.discriminator.forward = lambda images: self.call(forward, images)

    def call(self, forward, images):
        return checkpoint(forward, images, use_reentrant=False)


class Hidden(DCGAN):
    """Dropout as PyTorch has it."""

    def __init__(self, config):
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, Dropout):
                module.__class__ = torch.nn.Dropout


class Called(Hidden, Checkpointed):
    """The same without being repeated."""

    def call(self, forward, images):
        return forward(images)


@pytest.fixture
def make(tiny, pictures, tmp_path):
    def make(out, kind=DCGAN, seed=0, options=DRAWING, **settings):
        config = tiny(**options).config
        torch.manual_seed(0)
        return Trainer(fastgan.fuse(kind(config)), pictures, out=tmp_path / out, seed=seed, **{**SETTINGS, **settings})

    return make


def weights(trainer):
    return {name: value.clone() for name, value in trainer.system.state_dict().items()}


class TestThreads:
    def test_two_runs_beside_each_other_and_one_who_draws(self, make):
        alone = []
        for seed in (0, 1):
            trainer = make(f"alone{seed}", seed=seed)
            trainer.fit(6)
            alone.append(weights(trainer))
        assert not same(*alone)
        torch.manual_seed(9)
        expected = [torch.rand(2) for _ in range(200)]

        trainers = [make(f"beside{seed}", seed=seed) for seed in (0, 1)]
        torch.manual_seed(9)
        threads = [threading.Thread(target=trainer.fit, args=(6,)) for trainer in trainers]
        for thread in threads:
            thread.start()
        drawn = []
        while any(thread.is_alive() for thread in threads):
            if len(drawn) < 200:
                drawn.append(torch.rand(2))
            threads[0].join(0.01)
        assert drawn
        assert all(map(torch.equal, drawn, expected))
        for trainer, before in zip(trainers, alone):
            assert same(weights(trainer), before)
        again = make("again")
        again.fit(6)
        assert same(weights(again), alone[0])

    @pytest.mark.parametrize("name", names())
    def test_no_system_here_draws_from_the_global_generator(self, name):
        options = {"latent": 100}
        plain = small(name, **options).config
        wanted = {
            "dropout": 0.3,
            "label_noise": 0.1,
            "label_flips": 0.1,
            "augment": "color,cutout",
            "r1": 1.0,
            "r1_every": 2,
        }
        for option, value in wanted.items():
            if hasattr(plain, option):
                try:
                    small(name, **options, **{option: value})
                except (ValueError, TypeError):
                    continue
                options[option] = value
        if name == "sgan":
            options |= {"classes": 2, "labels_per_class": 2, "labelled_batch": 4}
        elif name == "acgan":
            options["classes"] = 2
        elif name == "autoencoder":
            options["adversarial"] = True
        elif name == "context-encoder":
            options["holes"] = "random"
        system = small(name, **options)
        found, asked = [], []
        own = torch.Generator()

        def source(device):
            asked.append(device)
            return own

        before = torch.get_rng_state()
        with drawing_from(source), noticed(lambda operation, device: found.append(operation)):
            system.begin(iter([rows(system, 8)] * 20))
            step = Step(system)
            for _ in range(3):
                step(rows(system, 8 * system.batches))
        assert not found
        assert bool(asked) == (name != "srgan")  # where nothing is drawn
        assert torch.equal(torch.get_rng_state(), before)


class TestSystemOfTheUsers:
    @pytest.mark.parametrize("kind", [Own, Noisy, Sometimes, Hidden, Checkpointed])
    def test_that_draws_from_the_global_generator(self, make, tmp_path, pictures, kind, caplog):
        caplog.set_level(logging.INFO, "fastgan")
        torch.manual_seed(11)
        expected = torch.rand(3)
        straight = make("straight", kind)
        torch.manual_seed(11)
        straight.fit(7)
        assert torch.equal(torch.rand(3), expected)
        said = [record for record in caplog.messages if "global generator" in record]
        assert len(said) == 1
        assert "fastgan.random.current" in said[0]
        for stop in (1, 4):
            out = f"stopped{stop}"
            torch.manual_seed(3)
            make(out, kind).fit(stop)
            torch.manual_seed(4)
            system = make(f"other{stop}", kind).system
            Trainer.resume(tmp_path / out, system=system, data=pictures).fit(7)
            got, wanted = state(tmp_path / out), state(tmp_path / "straight")
            for key in wanted:
                assert same(wanted[key], got[key]), key
            for picture in (tmp_path / "straight" / "samples").iterdir():
                assert (tmp_path / out / "samples" / picture.name).read_bytes() == picture.read_bytes()

    def test_that_does_not(self, make, caplog):
        caplog.set_level(logging.INFO, "fastgan")
        trainer = make("run", Penalised)
        before = torch.get_rng_state()
        trainer.fit(4)
        assert torch.equal(torch.get_rng_state(), before)
        assert not any("global generator" in message for message in caplog.messages)

    def test_dropout_that_is_repeated_in_the_backward_pass_is_the_same_again(self, make):
        trained = []
        for kind in (Called, Checkpointed):
            trainer = make(kind.__name__, kind, options={"dropout": 0.3})
            trainer.fit(3)
            trained.append(list(trainer.system.parameters()))
        assert all(map(torch.equal, *trained))

    def test_the_callers_generator_comes_back_whatever_raises(self, make, monkeypatch):
        trainer = make("run", Own)
        before = torch.get_rng_state()
        monkeypatch.setattr(trainer.train_step, "after", [lambda values: 1 / 0])
        with pytest.raises(ZeroDivisionError):
            trainer.fit(2)
        assert torch.equal(torch.get_rng_state(), before)
        assert current(torch.device("cpu")) is None
        assert trainer.system.stream is None


def test_a_checkpoint_of_before(make, tmp_path, pictures):
    """Its one state of the global generator is that of the run's own."""
    straight = make("straight")
    straight.fit(4)
    trainer = make("old")
    trainer.fit(2)
    saved = state(tmp_path / "old")
    for rank in saved["random"]["ranks"]:
        for name in ("globals", "shared"):
            del rank[name]
    from fastgan.runs import checkpoint as files

    files.save(tmp_path / "old" / "checkpoint.pt", saved)
    Trainer.resume(tmp_path / "old", data=pictures).fit(4)
    assert same(state(tmp_path / "old")["system"], state(tmp_path / "straight")["system"])


class TestDropout:
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("inplace", [False, True])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_is_pytorchs(self, share, inplace, layout):
        x = torch.randn(4, 6, 5, 5).to(memory_format=layout)
        results = []
        for generator in (None, torch.Generator()):
            (generator or torch).manual_seed(5)
            leaf = x.clone().requires_grad_()
            with drawing_from((lambda device: generator) if generator else None):  # noqa: B023
                y = Dropout(share, inplace)(leaf * 1)
            y.square().sum().backward()
            results.append((y.detach(), leaf.grad))
        assert same(*results)
        assert results[0][0].stride() == results[1][0].stride()

    def test_in_eval_mode(self):
        x = torch.randn(4, 6)
        assert Dropout(0.5).eval()(x) is x

    def test_is_fused_around_like_pytorchs(self):
        """A network with it has the same places."""

        def network(kind):
            return torch.nn.Sequential(
                torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.LeakyReLU(0.2, True), kind(0.3),
                torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), kind(0.3),
                torch.nn.Flatten(), torch.nn.Linear(64, 1),
            )  # fmt: skip

        reports = [str(fastgan.explain(network(kind))) for kind in (torch.nn.Dropout, Dropout)]
        assert reports[0] == reports[1]
