"""sgan against the layers, the losses and the first weights of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.data import Batch
from fastgan.systems import create
from tests.systems.plain_loop import N, batch_norm, leaves, same_after_three_steps

SMALL = {"resolution": 16, "channels": 1, "width": 2, "latent": 6, "classes": 3, "labels_per_class": 2}


def small(**options):
    torch.manual_seed(0)
    return create("sgan", **{**SMALL, "labelled_batch": N, **options})


def batches(labels, count=4, side=16):
    """Batches of two images that are their own number."""
    images = (torch.arange(2.0 * count)[:, None, None, None] / (2 * count)).expand(-1, 1, side, side)
    images = images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    for start in range(0, 2 * count, 2):
        rows = slice(start, start + 2)
        yield Batch(image=images[rows], **({} if labels is None else {"label": labels[rows]}))


class TestArchitecture:
    def test_32(self):
        system = create("sgan")
        deconvolutions = [m for m in system.generator.modules() if isinstance(m, nn.ConvTranspose2d)]
        assert [tuple(m.weight.shape) for m in deconvolutions] == [(512, 256, 5, 5), (256, 128, 5, 5), (128, 3, 5, 5)]
        convolutions = [m for m in system.discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0]) for m in convolutions] == [
            (96, 3, 1, 1), (96, 3, 1, 1), (96, 3, 2, 1),
            (192, 3, 1, 1), (192, 3, 1, 1), (192, 3, 2, 1),
            (192, 3, 1, 0), (192, 1, 1, 0), (192, 1, 1, 0),
        ]  # fmt: skip
        assert [m.p for m in system.discriminator.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
        deconvolved = 512 * 256 * 25 + 256 + 256 * 128 * 25 + 128 + 128 * 3 * 25 + 2 * 3
        assert trained(system.generator) == 100 * 8192 + 8192 + deconvolved
        wide = [(3, 96), (96, 96), (96, 96), (96, 192), (192, 192), (192, 192), (192, 192)]
        convolved = sum(9 * a * b + 2 * b for a, b in wide) + 2 * (192 * 192 + 2 * 192)
        assert trained(system.discriminator) == convolved + 1920 + 2 * 10

    @pytest.mark.parametrize(("resolution", "channels"), [(16, 3), (32, 1), (64, 3)])
    def test_sizes(self, resolution, channels):
        system = small(resolution=resolution, channels=channels)
        samples = system.sample(3)
        assert samples.shape == (3, channels, resolution, resolution)
        assert samples.abs().max() <= 1
        assert system.classify(samples).shape == (3, 3)

    def test_every_site_is_fused(self):
        report = fastgan.explain(small())
        assert report.fused == report.places
        assert sum(row.pattern == "ParametrizedConv2d -> LeakyReLU" for row in report) == 9
        assert sum("BatchNorm" in row.pattern for row in report) == 2

    def test_batch_normalisation_has_no_scale(self):
        norms = [m for m in small().generator.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert [norm.weight.requires_grad for norm in norms] == [False] * 2
        assert all(norm.bias.requires_grad for norm in norms)

    def test_latents_are_uniform(self):
        z = small(latent=1000).latent(100)
        assert z.min() >= 0
        assert z.max() <= 1
        assert z.mean().item() == pytest.approx(0.5, abs=0.01)


def trained(network):
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class TestBegin:
    labels = torch.tensor([2, 0, 0, 0, 1, 2, 1, 1])

    def test_keeps_the_first_of_each_class(self):
        system = small()
        system.begin(batches(self.labels))
        first = [1, 2, 4, 6, 0, 5]
        assert [round(float(image.mean()) * 8) for image in system.images] == first
        images, labels = system.labelled()
        for image, label in zip(images, labels.tolist()):
            assert round(float(image.mean()) * 8) in first[2 * label : 2 * label + 2]

    def test_labelled_images_are_saved(self):
        system, other = small(), small()
        system.begin(batches(self.labels))
        other.load_state_dict(system.state_dict())
        assert torch.equal(other.images, system.images)

    def test_first_weights_standardise(self):
        system = small(width=8, dropout=0.0)
        system.begin(batches(self.labels))
        images = torch.cat([batch.image for batch in batches(self.labels)])
        x = system.discriminator.features[1](system.discriminator.features[0](images))
        assert x.mean((0, 2, 3)).abs().max() < 1e-5
        assert (x.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4
        logits = system.discriminator(images)
        assert logits.mean(0).abs().max() < 1e-5
        assert (logits.std(0, correction=0) - 0.1).abs().max() < 1e-4

    def test_is_the_same_in_every_process_and_draws_nothing(self):
        systems = small(), small()
        states = []
        for seed, system in enumerate(systems):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            system.begin(batches(self.labels))
            assert torch.equal(torch.get_rng_state(), state)
            states.append(system.state_dict())
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

    def test_no_step_without_it(self):
        system = small()
        with pytest.raises(RuntimeError, match="sgan has no labelled images yet: call begin"):
            system.prepare(Batch(image=torch.rand(4, 1, 16, 16)))

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="sgan needs data with labels, 2 images of each class"):
            small().begin(batches(None))
        with pytest.raises(ValueError, match=r"the data have a class 2: classes must be at least 3, not 2"):
            small(classes=2).begin(batches(self.labels))
        with pytest.raises(ValueError, match="class 0 has 3 images, labels_per_class is 4"):
            small(labels_per_class=4).begin(batches(self.labels))


@pytest.mark.parametrize("generator_loss", ["feature_matching", "logits"])
def test_three_steps(generator_loss):
    system = small(generator_loss=generator_loss, learning_rate=1e-3)
    system.begin(batches(TestBegin.labels))
    labelled = system.images.double()

    def weight(p, name):
        v, over = p[f"{name}.parametrizations.weight.original1"], [0, 2, 3] if name == "7" else [1, 2, 3]
        over = over if v.dim() == 4 else [1]
        return p[f"{name}.parametrizations.weight.original0"] * v / v.square().sum(over, keepdim=True).sqrt()

    def plain(g, d):
        def generate(z):
            x = F.relu(batch_norm(z @ g["0.weight"].T, g, "1")).reshape(N, 8, 4, 4)
            x = F.relu(batch_norm(F.conv_transpose2d(x, g["4.weight"], None, 2, 2, 1), g, "5"))
            return torch.tanh(F.conv_transpose2d(x, weight(g, "7"), g["7.bias"], 2, 2, 1))

        def features(x):
            x = F.dropout(x, 0.2)
            for layer, stride, padding in ((1, 1, 1), (3, 1, 1), (5, 2, 1), (8, 1, 1), (10, 1, 1), (12, 2, 1),
                                           (15, 1, 0), (17, 1, 0), (19, 1, 0)):  # fmt: skip
                name = f"features.{layer}"
                x = F.leaky_relu(F.conv2d(x, weight(d, name), d[f"{name}.bias"], stride, padding), 0.2)
                x = F.dropout(x, 0.5) if stride == 2 else x
            return x.mean((2, 3))

        def logits(x):
            return features(x) @ weight(d, "classes").T + d["classes.bias"]

        optimizers = [torch.optim.Adam(leaves(p), lr=1e-3, betas=(0.5, 0.999)) for p in (d, g)]

        def step(real):
            fake = generate(torch.rand(N, 6, dtype=torch.float64))
            chosen = torch.randint(6, (N,))
            l_lab, l_unl, l_gen = logits(labelled[chosen]), logits(real), logits(fake.detach())
            z_unl, z_gen = l_unl.logsumexp(1), l_gen.logsumexp(1)
            loss_lab = -l_lab[torch.arange(N), chosen // 2].mean() + l_lab.logsumexp(1).mean()
            loss_unl = -0.5 * z_unl.mean() + 0.5 * F.softplus(z_unl).mean() + 0.5 * F.softplus(z_gen).mean()
            optimizers[0].zero_grad()
            (loss_lab + loss_unl).backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            f_gen = features(fake)
            if generator_loss == "logits":
                z = (f_gen @ weight(d, "classes").T + d["classes.bias"]).logsumexp(1)
                loss = F.softplus(-z).mean()
            else:
                loss = (features(real).mean(0).detach() - f_gen.mean(0)).abs().mean()
            loss.backward()
            optimizers[1].step()

        return step

    same_after_three_steps(system, plain)


class TestClassify:
    def test_eval_mode_and_no_state_changes(self):
        system = small().train()
        images = torch.rand(4, 1, 16, 16)
        assert torch.equal(system.classify(images), system.classify(images))
        assert system.training
        assert not system.classify(images).requires_grad

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 16, 16\), not \(2, 3, 16, 16\)"):
            small().classify(torch.zeros(2, 3, 16, 16))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 16, 32, 64, 128, 256, not 48"),
        ("classes", 1, "classes must be at least 2, not 1"),
        ("labels_per_class", 0, "labels_per_class must be at least 1, not 0"),
        ("labelled_batch", 0, "labelled_batch must be at least 1, not 0"),
        ("generator_loss", "l1", "generator_loss must be one of feature_matching, logits, not 'l1'"),
        ("label_smoothing", 0.1, "no option 'label_smoothing': the discriminator learns classes"),
        ("label_flips", 0.1, "no option 'label_flips': the discriminator"),
        ("label_noise", 0.1, "no option 'label_noise': the discriminator"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        create("sgan", **{option: value})


def test_is_not_conditional():
    with pytest.raises(ValueError, match="sgan is not conditional"):
        small().sample(2, labels=torch.zeros(2, dtype=torch.int64))
