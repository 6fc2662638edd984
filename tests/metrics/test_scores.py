"""evaluate: everything on the same images; and the path length."""

import dataclasses
import json
import math

import pytest
import torch

from fastgan.data import ImageData, load
from fastgan.metrics import evaluate, path_length, registry
from fastgan.metrics.scores import Scores
from fastgan.systems import create

DIGITS = load("digits", 32)


def halves():
    """The digits, shuffled, in two."""
    order = torch.randperm(len(DIGITS), generator=torch.Generator().manual_seed(0))
    return DIGITS.images[order[:900]], DIGITS.images[order[900:1796]]


def features(images):
    """Quick ones: every other pixel."""
    return images[:, :, ::2, ::2].flatten(1).float()


class TestEvaluate:
    @pytest.mark.slow
    def test_orders_what_it_must_order(self):
        """Other digits of the data, noise on them, half of the classes, one picture."""
        real, other = halves()
        noisy = (other.float() + 40 * torch.randn(other.shape)).clamp(0, 255).to(torch.uint8)
        labels = DIGITS.labels[torch.randperm(len(DIGITS), generator=torch.Generator().manual_seed(0))]
        few = other[labels[900:1796] < 5]
        data = ImageData(real, labels[:900], DIGITS.classes)
        fakes = other, noisy, few, other[:1].expand(99, -1, -1, -1)
        fine, worse, half, one = (evaluate(fake, data).values for fake in fakes)
        for name in "frechet", "kernel", "sliced_wasserstein":
            assert fine[name] < worse[name], name
            assert fine[name] < half[name] < one[name], name
        for name in "recall", "coverage":
            assert fine[name] > 0.8, name
            assert fine[name] > half[name] > one[name], name
        assert fine["precision"] > 0.8 > worse["precision"]
        assert half["precision"] > 0.8
        assert fine["density"] == pytest.approx(1, abs=0.2)
        assert (fine["classes_covered"], one["classes_covered"]) == (10, 1)
        assert 5 <= half["classes_covered"] <= 8  # the classifier errs
        assert fine["class_divergence"] < 0.02 < half["class_divergence"] < one["class_divergence"]
        assert half["class_divergence"] == pytest.approx(math.log(2), abs=0.08)
        assert fine["novelty"] == pytest.approx(1, abs=0.25)
        assert "path_length" not in fine  # images have no latents

    def test_copies(self):
        real, _ = halves()
        values = evaluate(real[:300], real, features=features).values
        assert (values["novelty"], values["copies"]) == (0, 1)

    def test_a_system_by_its_latents(self):
        system = create("dcgan", resolution=16, channels=1, width=4, latent=8).eval()
        data = load("digits", 16)
        scores = evaluate(system, data, samples=70, features=features, seed=3)
        assert scores.protocol == {"real": 1797, "generated": 70, "features": "the user's", "seed": 3}
        random = torch.Generator().manual_seed(3)
        images = torch.cat([system.sample(count, generator=random) for count in (64, 6)])
        same = evaluate(images, data, features=features, seed=3).values
        assert {name: value for name, value in scores.values.items() if name != "path_length"} == same
        assert scores.values["path_length"] > 0
        assert evaluate(system, data, samples=70, features=features, seed=3) == scores

    def test_a_function(self):
        asked = []

        def generate(count):
            asked.append(count)
            return torch.rand(count, 1, 32, 32) * 2 - 1

        evaluate(generate, DIGITS, samples=100, features=features, metrics=["frechet"])
        assert asked == [64, 36]

    def test_points(self):
        ring = load("ring")
        few = dataclasses.replace(ring, points=ring.points[:2000], labels=ring.labels[:2000])
        values = evaluate(ring.points[2000:4000][ring.labels[2000:4000] < 4], few).values
        assert values["modes_covered"] == 4
        assert values["high_quality"] > 0.98
        assert values["precision"] > 0.9
        assert 0.45 < values["recall"] < 0.55
        assert evaluate(ring.points, ring, metrics=["frechet"]).values["frechet"] == pytest.approx(0, abs=1e-9)

    def test_metrics_by_name(self):
        real, other = halves()
        names = ["recall", "kernel"]
        assert list(evaluate(other, real, features=features, metrics=names).values) == names

    def test_features_that_know_nothing(self):
        """What means nothing is left out, unless it is asked for, and one line says why."""

        class Blind:
            accuracy, chance, blind = 0.28, 0.25, True

            def __call__(self, images):
                return features(images)

            def describe(self):
                return {"features": "blind"}

        real, other = halves()
        scores = evaluate(other, real, features=Blind())
        assert list(scores.values) == ["frechet", "kernel", "novelty", "copies", "sliced_wasserstein"]
        assert "the features tell 28 % of held-out images right, chance is 25 %" in str(scores)
        asked = evaluate(other, real, features=Blind(), metrics=["precision"])
        assert list(asked.values) == ["precision"]
        assert "mean little" in asked.protocol["note"]

    def test_reads_and_writes(self):
        scores = Scores({"frechet": 1.25, "class_divergence": math.inf, "classes_covered": 3}, {"real": 7})
        assert json.loads(scores.json())["metrics"] == {"frechet": 1.25, "class_divergence": None, "classes_covered": 3}
        first, *_, last = str(scores).splitlines()
        assert first.split(maxsplit=2) == ["frechet", "1.25", registry.described("frechet")]
        assert last.split() == ["real", "7"]

    @pytest.mark.parametrize(
        ("fake", "options", "error", "message"),
        [
            (torch.full((30, 1, 16, 16), -1.0), {}, ValueError, r"has shape \(1, 16, 16\) .*, the data \(1, 32, 32\)"),
            (torch.full((19, 1, 32, 32), -1.0), {}, ValueError, "20 images or more are needed"),
            (torch.full((30, 1, 32, 32), -1.0), {"samples": 31}, ValueError, "31 images or more are needed"),
            (torch.full((30, 1, 32, 32), -1.0), {"samples": 5}, ValueError, "samples must be at least 20, not 5"),
            (
                torch.full((30, 1, 32, 32), -1.0),
                {"metrics": ["fvd"]},
                ValueError,
                r"no metric fvd; accepted: frechet \(fid\), kernel \(kid\), precision",
            ),
            (torch.full((30, 1, 32, 32), -1.0), {"metrics": []}, ValueError, "no metric is named"),
            (
                torch.full((30, 1, 32, 32), -1.0),
                {"metrics": ["path_length"]},
                ValueError,
                "path_length.*needs.*a system",
            ),
            (torch.full((30, 1, 32, 32), -1.0), {"metrics": ["high_quality"]}, ValueError, "needs points of a mixture"),
            (torch.full((30, 1, 32, 32), torch.nan), {}, FloatingPointError, "the generator has diverged"),
            (lambda count: torch.zeros(3, 1, 32, 32), {}, ValueError, r"when asked for 64, it gave \(3, 1, 32, 32\)"),
            ("digits", {}, TypeError, "generator must be a system, a function or images, not str"),
        ],
    )
    def test_says_what_is_wrong(self, fake, options, error, message):
        with pytest.raises(error, match=message):
            evaluate(fake, DIGITS, features=features, **options)

    def test_too_few_data(self):
        with pytest.raises(ValueError, match="the data must have at least 20 images, not 5"):
            evaluate(torch.zeros(30, 1, 8, 8), torch.zeros(5, 1, 8, 8, dtype=torch.uint8))


class TestPathLength:
    def test_of_a_turning_generator(self):
        """g(z) = its direction, f the identity: the way turns evenly, by its angle in all."""
        latents = torch.randn(80, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        unit = latents / latents.norm(dim=1, keepdim=True)
        angles = (unit[0::2] * unit[1::2]).sum(1).acos()
        length = path_length(lambda z: z / z.norm(dim=1, keepdim=True), latents, lambda images: images)
        assert length == pytest.approx(angles.square().mean().item(), rel=1e-4)

    def test_scale_of_features_does_not_count(self):
        latents = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
        one, ten = (path_length(lambda z: z, latents, lambda x, by=by: x * by) for by in (1, 10))
        assert one == pytest.approx(ten, rel=1e-4)

    def test_rough_is_longer(self):
        latents = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
        smooth = path_length(lambda z: z, latents, lambda x: x)
        assert path_length(lambda z: z + 0.2 * (20 * z).sin(), latents, lambda x: x) > 2 * smooth

    def test_odd_ends(self):
        with pytest.raises(ValueError, match="an even number of them, not 3"):
            path_length(lambda z: z, torch.zeros(3, 2), lambda x: x)
