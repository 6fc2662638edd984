"""A DCGAN on the 8x8 digits of scikit-learn, enlarged to 32x32, in plain PyTorch."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
images = F.interpolate(digits, size=32, mode="bilinear").contiguous(memory_format=torch.channels_last)


def up(before, after, stride=2, padding=1):
    return [nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]


def down(before, after):
    return [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, inplace=True)]


generator = nn.Sequential(
    *up(100, 256, 1, 0), *up(256, 128), *up(128, 64), nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Tanh()
)
discriminator = nn.Sequential(
    nn.Conv2d(1, 64, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True), *down(64, 128), *down(128, 256), nn.Conv2d(256, 1, 4)
)
for network in (generator, discriminator):
    network.to(memory_format=torch.channels_last)

bce = nn.BCEWithLogitsLoss()
optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

for step in range(steps):
    real = images[torch.randint(len(images), (64,))]
    fake = generator(torch.randn(64, 100, 1, 1))

    optimizer_d.zero_grad()
    real_logits, fake_logits = discriminator(real), discriminator(fake.detach())
    loss_d = bce(real_logits, torch.ones_like(real_logits)) + bce(fake_logits, torch.zeros_like(fake_logits))
    loss_d.backward()
    optimizer_d.step()

    optimizer_g.zero_grad()
    fake_logits = discriminator(fake)
    loss_g = bce(fake_logits, torch.ones_like(fake_logits))
    loss_g.backward()
    optimizer_g.step()

    if step % 20 == 0 or step == steps - 1:
        print(f"step {step}: loss_d {loss_d.item():.4f} loss_g {loss_g.item():.4f}")
