"""WGAN against its algorithm 1 in plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, leaves, same_after_three_steps


def test_networks_are_those_of_dcgan():
    wgan, dcgan = create("wgan"), create("dcgan")
    shapes = [{name: value.shape for name, value in system.state_dict().items()} for system in (wgan, dcgan)]
    assert shapes[0] == shapes[1]


def test_defaults_are_the_papers():
    config = create("wgan", resolution=16, width=2).config
    assert (config.learning_rate, config.clip, config.discriminator_steps) == (5e-5, 0.01, 5)


def test_three_steps():
    def plain(g, d):
        def generate(z):
            x = F.conv_transpose2d(z[:, :, None, None], g["0.conv.weight"])
            for layer in (0, 1):
                x = F.relu(batch_norm(x, g, f"{layer}.norm"))
                x = F.conv_transpose2d(x, g[f"{layer + 1}.conv.weight"], None, 2, 1)
            return torch.tanh(x)

        def critic(x):
            x = F.leaky_relu(F.conv2d(x, d["0.conv.weight"], None, 2, 1), 0.2)
            x = F.leaky_relu(batch_norm(F.conv2d(x, d["1.conv.weight"], None, 2, 1), d, "1.norm"), 0.2)
            return F.conv2d(x, d["2.weight"])

        optimizers = [torch.optim.RMSprop(leaves(p), lr=5e-5) for p in (d, g)]

        def step(real):
            fake = generate(torch.randn(N, 5, dtype=torch.float64))
            for number in range(5):
                with torch.no_grad():
                    for weight in leaves(d):
                        weight.clamp_(-0.01, 0.01)
                    fresh = generate(torch.randn(N, 5, dtype=torch.float64)) if number else fake.detach()
                optimizers[0].zero_grad()
                (critic(fresh).mean() - critic(real[number * N : (number + 1) * N]).mean()).backward()
                optimizers[0].step()
            optimizers[1].zero_grad()
            (-critic(fake).mean()).backward()
            optimizers[1].step()

        return step

    same_after_three_steps(create("wgan", resolution=16, channels=1, width=4, latent=5), plain)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("inf")])
def test_clip_must_be_positive(clip):
    with pytest.raises(ValueError, match=r"clip must be (above 0|a finite number), not"):
        create("wgan", clip=clip)


def test_betas_have_no_part():
    with pytest.raises(ValueError, match="no option 'betas': RMSprop"):
        create("wgan", betas=[0.0, 0.9])
