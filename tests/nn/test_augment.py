"""Augmentation: each change against its definition, its distribution, and that gradients pass."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.nn import DifferentiableAugment

POLICIES = ["color", "translation", "cutout", "color,translation,cutout"]


def augmented(policy, x):
    return DifferentiableAugment(policy).train()(x)


@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 1, 7, 5), (1, 2, 1, 1), (0, 3, 8, 8)])
    def test_shape_and_dtype(self, policy, dtype, shape):
        y = augmented(policy, torch.randn(shape).to(dtype))
        assert y.shape == shape
        assert y.dtype == dtype

    def test_gradients(self, policy):
        x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)

        def same_every_time(x):
            torch.manual_seed(3)
            return augmented(policy, x)

        assert torch.autograd.gradcheck(same_every_time, x)
        assert torch.autograd.gradgradcheck(same_every_time, x)

    def test_channels_last_gives_the_same(self, policy):
        x = torch.randn(4, 3, 16, 16)
        results = []
        for layout in (torch.contiguous_format, torch.channels_last):
            torch.manual_seed(3)
            results.append(augmented(policy, x.contiguous(memory_format=layout)))
        assert torch.allclose(*results, atol=1e-6)

    def test_changes_nothing_in_eval_mode(self, policy):
        x = torch.randn(2, 3, 8, 8)
        assert DifferentiableAugment(policy).eval()(x) is x

    def test_each_image_has_random_numbers_of_its_own(self, policy):
        x = torch.randn(1, 3, 16, 16).expand(64, -1, -1, -1)
        assert len({tuple(image.flatten().tolist()) for image in augmented(policy, x)}) > 20

    def test_does_not_change_its_input(self, policy):
        x = torch.randn(2, 3, 8, 8)
        before = x.clone()
        augmented(policy, x)
        assert torch.equal(x, before)


class TestColor:
    def test_ranges(self):
        # Of an image whose pixels are (-a, 0, a) in each place: brightness moves the mean, saturation and contrast
        # together scale the differences of a pixel's channels, contrast alone those of grey pixels.
        a = torch.tensor([-0.2, 0.0, 0.2])[None, :, None, None].expand(20_000, 3, 2, 2)
        y = augmented("color", a)
        means = y.mean((1, 2, 3))
        assert (means.min(), means.max()) == (pytest.approx(-0.5, abs=0.01), pytest.approx(0.5, abs=0.01))
        assert means.std() == pytest.approx(1 / 12**0.5, rel=0.03)  # uniform
        scales = (y[:, 2, 0, 0] - y[:, 0, 0, 0]) / 0.4
        assert scales.min() >= -1e-6
        assert scales.max() == pytest.approx(2 * 1.5, abs=0.1)
        assert scales.mean() == pytest.approx(1, abs=0.02)
        grey = torch.tensor([-0.3, 0.3])[None, None, :, None].expand(20_000, 3, 2, 2)
        z = augmented("color", grey)
        contrast = (z[:, 0, 1, 0] - z[:, 0, 0, 0]) / 0.6
        assert (contrast.min(), contrast.max()) == (pytest.approx(0.5, abs=0.01), pytest.approx(1.5, abs=0.01))
        assert contrast.std() == pytest.approx(1 / 12**0.5, rel=0.03)

    def test_grey_images_stay_grey(self):
        y = augmented("color", torch.randn(4, 1, 8, 8).expand(-1, 3, -1, -1))
        assert torch.allclose(y[:, 0], y[:, 1], atol=1e-6)
        assert torch.allclose(y[:, 0], y[:, 2], atol=1e-6)


class TestTranslation:
    @pytest.mark.parametrize(("height", "width"), [(8, 4), (5, 12)])
    def test_is_a_shift_with_black_outside(self, height, width):
        x = torch.rand(100, 1, height, width) + 1  # no pixel is 0
        most = int(height / 8 + 0.5), int(width / 8 + 0.5)
        met = set()
        for image, y in zip(x, augmented("translation", x)):
            shifts = [
                (down, right)
                for down in range(-most[0], most[0] + 1)
                for right in range(-most[1], most[1] + 1)
                if torch.equal(y, self.shifted(image, down, right))
            ]
            assert len(shifts) == 1
            met.update(shifts)
        assert len(met) == (2 * most[0] + 1) * (2 * most[1] + 1)

    @staticmethod
    def shifted(image, down, right):
        y = torch.zeros_like(image)
        _, height, width = image.shape
        for row in range(height):
            for column in range(width):
                if 0 <= row - down < height and 0 <= column - right < width:
                    y[:, row, column] = image[:, row - down, column - right]
        return y


class TestCutout:
    @pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10), (7, 5)])
    def test_is_a_rectangle_of_half_of_each_side(self, height, width):
        y = augmented("cutout", torch.ones(300, 2, height, width))
        assert torch.equal(y[:, 0], y[:, 1])
        full, centres = 0, set()
        for image in y[:, 0]:
            rows, columns = (image == 0).any(1).nonzero().flatten(), (image == 0).any(0).nonzero().flatten()
            assert 1 <= len(rows) <= height // 2
            assert 1 <= len(columns) <= width // 2
            assert (image == 0).sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            full += len(rows) == height // 2 and len(columns) == width // 2
            centres.add((int(rows[0]), int(columns[0]), len(rows), len(columns)))
        assert 0.1 < full / 300 < 0.9  # at the border a part of it lies outside
        assert len(centres) > height * width / 3


class TestPolicy:
    def test_order_is_fixed(self):
        # Brightness first, then black outside: the border of a moved image is 0 whatever the order they are named in.
        y = augmented("translation,color", torch.full((64, 1, 8, 8), 0.9))
        assert (F.pad(y[:, :, 1:-1, 1:-1], (1, 1, 1, 1)) == y).flatten(1).all(1).sum() < 64
        assert (y == 0).any()

    def test_none(self):
        x = torch.randn(2, 3, 4, 4)
        assert DifferentiableAugment("")(x) is x

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="augment: no policy 'flip'; accepted: color, translation, cutout, joined"):
            DifferentiableAugment("color, flip")

    def test_prints_its_policy(self):
        assert str(DifferentiableAugment("color, cutout")) == "DifferentiableAugment(color,cutout)"
