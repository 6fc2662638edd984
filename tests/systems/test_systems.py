"""Systems by name, their configuration, and what all of them promise."""

import pytest
import torch

from fastgan.systems import create, names
from fastgan.systems.base import evaluating


class TestCreate:
    def test_every_name_makes_a_system(self):
        for name in names():
            assert create(name).name == name

    def test_unknown_name_suggests(self):
        with pytest.raises(ValueError, match=r"no system 'dcgam' \(did you mean dcgan or \w*gan"):
            create("dcgam")

    def test_unknown_option_suggests_and_lists(self):
        with pytest.raises(ValueError, match=r"no option 'lerning_rate' \(did you mean learning_rate or .*resolution"):
            create("dcgan", lerning_rate=1e-3)

    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("width", "wide", "width must be a whole number, not 'wide'"),
            ("width", True, "width must be a whole number, not True"),
            ("width", 8.0, "width must be a whole number, not 8.0"),
            ("betas", (0.5,), r"betas must be 2 values \(a number, a number\), not \(0.5,\)"),
            ("learning_rate", None, "learning_rate must be a number, not None"),
        ],
    )
    def test_wrong_type(self, option, value, message):
        with pytest.raises(TypeError, match=message):
            create("dcgan", **{option: value})

    def test_numbers_as_a_file_has_them(self):
        config = create("dcgan", resolution=16, width=8, learning_rate=1, betas=[0, 0.9]).config
        assert config.learning_rate == 1.0
        assert config.betas == (0.0, 0.9)


class TestSample:
    @pytest.fixture
    def system(self):
        torch.manual_seed(0)
        return create("dcgan", resolution=16, channels=1, width=8, latent=5)

    def test_same_generator_state_same_images(self, system):
        first, second = (system.sample(3, generator=torch.Generator().manual_seed(7)) for _ in range(2))
        assert torch.equal(first, second)
        assert first.shape == (3, 1, 16, 16)
        assert first.abs().max() <= 1
        assert not torch.equal(first, system.sample(3, generator=torch.Generator().manual_seed(8)))

    def test_an_image_does_not_depend_on_the_others(self, system):
        latent = system.latent(4)
        assert torch.allclose(system.sample(4, latent=latent)[:1], system.sample(1, latent=latent[:1]), atol=1e-6)

    def test_changes_no_state(self, system):
        system.train()
        before = {name: value.clone() for name, value in system.state_dict().items()}
        assert not system.sample(2).requires_grad
        assert system.training
        assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())

    def test_says_what_is_wrong(self, system):
        with pytest.raises(ValueError, match="count must be at least 1, not 0"):
            system.sample(0)
        with pytest.raises(ValueError, match="count is 3 but latent has 2 rows"):
            system.sample(3, latent=torch.zeros(2, 5))
        with pytest.raises(ValueError, match=r"latent must have shape \(N, 5\), not \(2, 6\)"):
            system.sample(2, latent=torch.zeros(2, 6))
        with pytest.raises(ValueError, match="not conditional"):
            system.sample(2, labels=torch.zeros(2, dtype=torch.int64))


def test_evaluating_restores_every_mode():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    module[1].eval()
    with evaluating(module):
        assert not module[0].training
    assert module[0].training
    assert not module[1].training
