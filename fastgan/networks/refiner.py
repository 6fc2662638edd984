"""The refiner and the discriminator of SimGAN: Shrivastava et al., "Learning from Simulated and Unsupervised Images
through Adversarial Training", 2017, section 3.1."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Refiner(nn.Module):
    """(N, channels, H, W) in [-1, 1] -> the same, of any size: residual blocks without normalization or striding.

    Each pixel of the result depends on those at most `halo` away from it: local changes, not another content.
    """

    def __init__(self, channels: int = 1, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.halo = 1 + 2 * blocks
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.ReLU(),
            *(Residual(width) for _ in range(blocks)),
            nn.Conv2d(width, channels, 1),
            nn.Tanh(),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


class Residual(nn.Module):
    """relu(x + conv(relu(conv(x)))), 3x3 both"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(True), nn.Conv2d(width, width, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch(x))


def local_discriminator(channels: int = 1, width: int = 96) -> nn.Sequential:
    """(N, channels, H, W) -> (N, 2, H / 4, W / 4) logits of the classes refined and real, each of a patch of 23x23
    pixels that overlaps others. H / 4 is rounded up.

    width: channels of its first layer; the others have two thirds and a third of them.
    """
    second, third = max(1, 2 * width // 3), max(1, width // 3)
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, 2, 1),
        nn.ReLU(True),
        nn.Conv2d(width, second, 3, 2, 1),
        nn.ReLU(True),
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(second, third, 3, 1, 1),
        nn.ReLU(True),
        nn.Conv2d(third, third, 1),
        nn.ReLU(True),
        nn.Conv2d(third, 2, 1),
    )
