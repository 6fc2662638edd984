"""The symptoms of a sick run, in values made for each."""

import pytest
import torch

from fastgan.systems.remedies import ADVERSARIAL
from fastgan.systems.signs import diversity
from fastgan.training.health import COLLAPSE, FOOLED, OSCILLATION, STRONG, VANISHING, Watch

GRACE, HOLD, SPAN = 20, 5, 20  # lines of the log
FIRST_REMEDY = {STRONG: "r1=1", FOOLED: "discriminator_steps=2", VANISHING: "r1=1", COLLAPSE: "r1=1"}

HEALTHY = {
    "discriminator/real_right": 0.8,
    "discriminator/fake_right": 0.75,
    "discriminator/real": 0.6,
    "discriminator/fake": 0.4,
    "generator/loss": 1.0,
    "generator/gradient": 1.0,
    "diversity/spread": 0.9,
    "diversity/nearest": 0.8,
}
SICK = {
    STRONG: {"discriminator/real_right": 1.0, "discriminator/fake_right": 0.999},
    FOOLED: {"discriminator/fake_right": 0.02, "discriminator/fake": 0.7},
    VANISHING: {"generator/gradient": 1e-5},
    COLLAPSE: {"diversity/spread": 0.1},
}


def looks(values_by_look, every=50):
    """What is told, with the number of the look, after the beginning of a run that goes well."""
    eye = Watch()
    assert not [s for number in range(GRACE) for s in eye.look(every * (number + 1 - GRACE), HEALTHY)]
    return [(number, s) for number, v in enumerate(values_by_look) for s in eye.look(every * (number + 1), v)]


def test_a_healthy_run_has_no_symptom():
    assert looks([HEALTHY] * 100) == []


@pytest.mark.parametrize("name", SICK)
def test_each_symptom_is_told_once_after_it_has_lasted(name):
    told = looks([HEALTHY] * 3 + [{**HEALTHY, **SICK[name]}] * 30)
    assert [(number, s.name, s.since) for number, s in told] == [(3 + HOLD - 1, name, 200)]
    assert ADVERSARIAL[name][0].text == FIRST_REMEDY[name]
    assert str(told[0][1]).startswith(f"{name} since step 200: ")


def test_the_beginning_of_a_run_is_none():
    eye = Watch()
    sick = {**HEALTHY, **SICK[COLLAPSE], **SICK[STRONG]}
    assert [s.since for n in range(GRACE + 2 * HOLD) for s in eye.look(n, sick)] == [GRACE, GRACE]


@pytest.mark.parametrize("name", SICK)
def test_a_passing_sign_is_not_told_and_a_returning_one_is_told_again(name):
    sick = {**HEALTHY, **SICK[name]}
    assert looks([HEALTHY, *[sick] * (HOLD - 1), HEALTHY] * 5) == []
    assert [s.since for _, s in looks([HEALTHY, *[sick] * HOLD] * 2)] == [100, 100 + 50 * (HOLD + 1)]


def test_one_who_cannot_tell_is_not_fooled():
    alike = {"discriminator/fake_right": 0.0, "discriminator/fake": 0.07, "discriminator/real": 0.071}
    assert looks([{**HEALTHY, **alike}] * 30) == []


def test_collapse_onto_few_samples_shows_in_the_nearest():
    (told,) = looks([{**HEALTHY, "diversity/nearest": 0.01}] * HOLD)
    assert told[1].name == COLLAPSE
    assert "0.01 times" in told[1].seen


def test_swinging_losses_oscillate_and_noisy_ones_do_not():
    swinging = [{**HEALTHY, "generator/loss": 1.0 + 0.9 * (-1) ** n} for n in range(2 * SPAN + HOLD)]
    assert [(number, s.name) for number, s in looks(swinging)] == [(SPAN // 2 + HOLD - 1, OSCILLATION)]
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist()
    assert looks([{**HEALTHY, "generator/loss": 1.0 + 0.3 * value} for value in noise]) == []
    falling = [{**HEALTHY, "generator/loss": 10.0 * 0.9**n} for n in range(60)]
    assert looks(falling) == []


def test_values_that_are_missing_are_no_symptom():
    assert looks([{}] * 50) == []


class TestDiversity:
    def test_of_the_same_images_is_one(self):
        images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        for value in diversity(images, images).values():
            assert value.item() == pytest.approx(1)

    def test_against_loops(self):
        generator = torch.Generator().manual_seed(1)
        real, fake = torch.randn(6, 2, 8, 8, generator=generator), 0.5 * torch.randn(9, 2, 8, 8, generator=generator)
        means, nearest = [], []
        for rows in (real, fake[:6]):
            distances = [[(a - b).square().sum().sqrt().item() for b in rows] for a in rows]
            others = [[d for j, d in enumerate(line) if j != i] for i, line in enumerate(distances)]
            means.append(sum(map(sum, others)) / 30)
            nearest.append(sorted(min(line) for line in others)[2])
        got = diversity(real, fake)
        assert got["spread"].item() == pytest.approx(means[1] / means[0], rel=1e-5)
        assert got["nearest"].item() == pytest.approx(nearest[1] / nearest[0], rel=1e-5)

    def test_equal_samples_and_copies_of_few(self):
        generator = torch.Generator().manual_seed(2)
        real = torch.randn(32, 1, 28, 28, generator=generator)
        equal = diversity(real, real[:1].expand(32, -1, -1, -1))
        assert equal["spread"].item() == pytest.approx(0, abs=1e-6)
        few = diversity(real, real[:4].repeat(8, 1, 1, 1))
        assert few["spread"].item() > 0.5
        assert few["nearest"].item() == pytest.approx(0, abs=1e-6)

    def test_points(self):
        points = torch.randn(50, 2, generator=torch.Generator().manual_seed(3))
        assert diversity(points, points * 2)["spread"].item() == pytest.approx(2, rel=1e-5)
