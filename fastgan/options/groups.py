"""Options that several systems have, in families of which a system composes what it uses, and no others."""

from __future__ import annotations

from dataclasses import dataclass

from fastgan.options.fields import Options, option

POWERS_OF_TWO = (16, 32, 64, 128, 256)
AUGMENTATIONS = ("color", "translation", "cutout")  # fastgan.nn.DifferentiableAugment has them
DECAYS = ("none", "linear", "cosine", "halve")
UPSAMPLING = ("transposed", "resize")  # fastgan.networks.upsampling has them


@dataclass(frozen=True)
class Networks(Options):
    """Of every system that makes images from latents."""

    resolution: int = option(64, "pixels a side", least=1)
    channels: int = option(3, "of an image", least=1)
    latent: int = option(100, "size of z", least=1)
    width: int = option(64, "of the networks", least=1)
    learning_rate: float = option(2e-4, "of both networks", above=0, on_resume="differs", flag="--lr")


@dataclass(frozen=True)
class Translation(Options):
    """Of systems that make pictures of pictures, which discriminators of patches judge."""

    resolution: int = option(256, "pixels a side", least=1)
    channels: int = option(3, "of a picture", least=1)
    width: int = option(64, "channels of the largest maps", least=1)
    discriminator_width: int | None = option(None, "none: width", least=1)
    layers: int = option(
        3, "of stride 2 in a discriminator: 3 see patches of 70x70 pixels, 1 of 16x16, 0 single pixels", least=0
    )
    learning_rate: float = option(2e-4, "of all networks", above=0, on_resume="differs", flag="--lr")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers and self.resolution < 3 << self.layers:
            most = max(0, (self.resolution // 3).bit_length() - 1)
            raise ValueError(
                f"layers must be at most {most} for pictures of {self.resolution} pixels a side, not {self.layers}: a "
                "discriminator of more sees no patch in them"
            )


@dataclass(frozen=True)
class Upsampling(Options):
    """Of generators that double the size of their maps."""

    upsampling: str = option(
        "transposed",
        "transposed convolutions; or resize: to twice the size, then 3x3 convolutions, against checkerboards (Odena "
        "2016)",
        choices=UPSAMPLING,
    )


@dataclass(frozen=True)
class Players(Options):
    """Of a generator against a discriminator, which are updated in turn."""

    discriminator_width: int | None = option(None, "none: width", least=1)
    discriminator_learning_rate: float | None = option(
        None, "none: learning_rate (two time-scales: Heusel et al. 2017)", above=0, on_resume="differs"
    )
    discriminator_steps: int = option(
        1, "updates of the discriminator, each on images of its own, before one of the generator", least=1,
        on_resume="differs",
    )  # fmt: skip
    generator_batches: int = option(
        1, "as many images as for one of those updates, in the generator's", least=1, on_resume="differs"
    )
    clip_gradients: float = option(
        0.0, "the most that the norm of a network's gradient may be; 0: anything", least=0, on_resume="differs"
    )


@dataclass(frozen=True)
class Adam(Options):
    betas: tuple[float, float] = option((0.5, 0.999), "of Adam, both networks", least=0, below=1, on_resume="differs")


@dataclass(frozen=True)
class Forgetting(Options):
    dropout: float = option(
        0.0, "the share of its features that the discriminator forgets after each block", least=0, below=1
    )


@dataclass(frozen=True)
class LabelNoise(Options):
    label_smoothing: float = option(
        0.0, "a real image's target is 1 less this (Salimans et al. 2016)", least=0, below=1, on_resume="live"
    )
    label_noise: float = option(0.0, "targets are moved by up to this", least=0, on_resume="live")
    label_flips: float = option(0.0, "the share of targets that are exchanged", least=0, most=1, on_resume="live")


@dataclass(frozen=True)
class Augmentation(Options):
    augment: str = option(
        "", "changes of what the discriminator sees, by Zhao et al. 2020", parts=AUGMENTATIONS,
        on_resume="live",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augment and getattr(self, "resolution", 0) == 1:
            raise ValueError(f"augment changes images; of points (resolution 1) it must be empty, not {self.augment!r}")


@dataclass(frozen=True)
class R1(Options):
    r1: float = option(
        0.0, "gamma of the gradient penalty on real images (Mescheder et al. 2018)", least=0, on_resume="live"
    )
    r1_every: int = option(
        16, "steps between two of them, each as many times as strong (Karras et al. 2020)", least=1, on_resume="live"
    )


@dataclass(frozen=True)
class Decay(Options):
    decay: str = option(
        "none", "of the learning rates, from step decay_from on: to 0, or to a half again and again", choices=DECAYS,
        on_resume="differs",
    )  # fmt: skip
    decay_from: int = option(0, "steps", least=0, on_resume="differs")
    decay_steps: int = option(
        0, "steps from there until 0, or from one halving to the next", least=0, on_resume="differs"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.decay != "none") is not (self.decay_steps > 0):
            raise ValueError(
                f"decay {self.decay!r} and decay_steps {self.decay_steps} do not belong together: a decay takes a "
                "number of steps, and no decay takes none"
            )


ALL: tuple[type[Options], ...] = (
    Networks, Translation, Players, Adam, Forgetting, LabelNoise, Augmentation, R1, Decay
)  # fmt: skip
