"""Training loops of others, unchanged, train a fused GAN as they train an unfused one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fastgan import fuse
from tests.fusion.comparing import assert_equal, is_fused
from tests.fusion.fusion_networks import build

STEPS = 3


def images() -> DataLoader:
    generator = torch.Generator().manual_seed(1)
    return DataLoader(TensorDataset(torch.rand(4 * STEPS, 3, 16, 16, generator=generator, dtype=torch.float64)), 4)


def latents() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(2)
    while True:
        yield torch.randn(4, 3, 1, 1, generator=generator, dtype=torch.float64)


def optimizers(generator: nn.Module, discriminator: nn.Module) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(network.parameters(), lr=0.01, eps=1e-3) for network in (generator, discriminator)]


@pytest.fixture
def lightning(tmp_path, monkeypatch):
    module = pytest.importorskip("lightning", reason="lightning is not installed")
    for name in ("lightning.pytorch", "lightning.fabric"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)
    monkeypatch.chdir(tmp_path)
    return module


class TestLightning:
    @pytest.fixture
    def gan(self, lightning):
        """Manual optimization of two networks with two optimizers, as in Lightning's own GAN example."""

        class GAN(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.automatic_optimization = False
                self.generator, self.discriminator = build("generator")[0], build("sequential")[0]
                self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh()).double()
                self.latents, self.losses = latents(), []
                nn.init.constant_(self.body[0].weight, 0.1)
                nn.init.zeros_(self.body[0].bias)

            def __getstate__(self):
                return super().__getstate__() | {"latents": None}

            def forward(self, latent):
                return self.body(self.generator(latent))

            def configure_optimizers(self):
                return [
                    torch.optim.Adam([*self.generator.parameters(), *self.body.parameters()], lr=0.01, eps=1e-3),
                    torch.optim.Adam(self.discriminator.parameters(), lr=0.01, eps=1e-3),
                ]

            def training_step(self, batch, index):
                of_generator, of_discriminator = self.optimizers()
                (real,) = batch
                self.toggle_optimizer(of_generator)
                fake = self(next(self.latents))
                generator_loss = F.softplus(-self.discriminator(fake)).mean()
                of_generator.zero_grad()
                self.manual_backward(generator_loss)
                self.clip_gradients(of_generator, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
                of_generator.step()
                self.untoggle_optimizer(of_generator)
                self.toggle_optimizer(of_discriminator)
                fake = fake.detach()
                loss = F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()
                of_discriminator.zero_grad()
                self.manual_backward(loss)
                of_discriminator.step()
                self.untoggle_optimizer(of_discriminator)
                self.log("loss", loss)
                self.losses += [loss.detach(), generator_loss.detach()]

            def validation_step(self, batch, index):
                self.losses.append(self.discriminator(self(next(self.latents))).mean())

        return GAN

    def fit(self, lightning, model, checkpoint=None, epochs=1):
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=1,
        )  # fmt: skip
        trainer.fit(model, images(), images(), ckpt_path=checkpoint)
        return trainer

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("what", ["networks", "module"])
    def test_trains_the_same(self, lightning, gan, what):
        """The two networks fused, or the LightningModule as a whole, forward and all."""
        fused, plain = gan(), gan()
        if what == "module":
            assert fuse(fused) is fused
            assert is_fused(fused.body)
        else:
            fuse(fused.generator)
            fuse(fused.discriminator)
        assert is_fused(fused.generator)
        assert is_fused(fused.discriminator)
        results = []
        for model in (fused, plain):
            self.fit(lightning, model)
            results.append((model.losses, dict(model.state_dict())))
        assert len(fused.losses) == 3 * STEPS + 1
        assert is_fused(fused)
        assert_equal(*results, rtol=1e-7, atol=1e-9)

    @pytest.mark.filterwarnings("ignore")
    def test_checkpoints_cross_over(self, lightning, gan, tmp_path):
        """A run saved by the unfused module resumes in the fused one, and the other way round, as in itself."""
        results = {}
        for saved_fused in (True, False):
            first = gan()
            if saved_fused:
                fuse(first)
            self.fit(lightning, first).save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
            for resumed_fused in (True, False):
                model = gan()
                if resumed_fused:
                    fuse(model)
                self.fit(lightning, model, tmp_path / "run.ckpt", epochs=2)
                assert len(model.losses) >= 3 * STEPS
                results[saved_fused, resumed_fused] = model.losses, dict(model.state_dict())
            loaded = fuse(gan.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=False))
            assert_equal(dict(loaded.state_dict()), dict(first.state_dict()))
        expected = results.pop((False, False))
        for result in results.values():
            assert_equal(result, expected, rtol=1e-7, atol=1e-9)


class TestAccelerate:
    @pytest.fixture
    def accelerate(self, monkeypatch):
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        module = pytest.importorskip("accelerate", reason="accelerate is not installed")
        yield module
        for state in (module.state.AcceleratorState, module.state.GradientState):
            state._reset_state()  # of the process, which the next test sets anew

    def train(self, accelerate, fused: bool, folder, precision="no", resume=False):
        accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=2)
        dtype = torch.float64 if precision == "no" else torch.float32
        networks = [build(name)[0].to(dtype) for name in ("generator", "sequential")]
        if fused:
            for network in networks:
                fuse(network)
        given = optimizers(*networks)
        generator, discriminator, of_generator, of_discriminator, batches = accelerator.prepare(
            *networks, *given, images()
        )
        if resume:
            accelerator.load_state(folder)
        losses = []
        for (real,), latent in zip(batches, latents()):
            with accelerator.accumulate(discriminator):
                fake = generator(latent.to(dtype))
                on_real, on_fake = discriminator(real.to(dtype)), discriminator(fake.detach())
                loss = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(discriminator.parameters(), 1.0)
                of_discriminator.step()
                of_discriminator.zero_grad()
            with accelerator.accumulate(generator):
                generator_loss = F.softplus(-discriminator(fake)).mean()
                accelerator.backward(generator_loss)
                of_generator.step()
                of_generator.zero_grad()
            losses += [loss.detach(), generator_loss.detach()]
        accelerator.save_state(folder)
        unwrapped = [accelerator.unwrap_model(network) for network in (generator, discriminator)]
        for network, given_network in zip(unwrapped, networks):
            assert network is given_network
            assert is_fused(network) is fused
        return losses, [dict(network.state_dict()) for network in unwrapped]

    @pytest.mark.slow
    def test_trains_the_same(self, accelerate, tmp_path):
        results = [self.train(accelerate, fused, tmp_path / str(fused)) for fused in (True, False)]
        assert_equal(*results, rtol=1e-7, atol=1e-9)

    def test_saved_states_cross_over(self, accelerate, tmp_path):
        self.train(accelerate, False, tmp_path / "first")
        results = []
        for fused in (True, False):
            folder = tmp_path / str(fused)
            shutil.copytree(tmp_path / "first", folder)
            results.append(self.train(accelerate, fused, folder, resume=True))
        assert_equal(*results, rtol=1e-7, atol=1e-9)

    def test_mixed_precision(self, accelerate, tmp_path):
        results = [self.train(accelerate, fused, tmp_path / str(fused), "bf16") for fused in (True, False)]
        assert_equal(*results, rtol=3e-2, atol=3e-2)
