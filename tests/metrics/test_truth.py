"""PSNR, SSIM and L1 against values computed with scikit-image 0.26 and against their definitions."""

import math

import pytest
import torch

from fastgan.metrics.truth import l1, psnr, psnr_y, ssim


def pictures(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves, and the same disturbed by other waves: the same on every machine."""
    rows, columns = torch.meshgrid(torch.arange(32.0).double(), torch.arange(28.0).double(), indexing="ij")
    truth = torch.stack([(0.3 * rows + 0.2 * k * columns).sin() for k in range(1, channels + 1)])
    noise = torch.stack([(2.1 * rows * (k + 1) + 1.7 * columns).cos() for k in range(channels)])
    return (0.8 * truth + 0.15 * noise)[None].clamp(-1, 1), (0.9 * truth)[None]


class TestValues:
    def test_l1(self):
        made, truth = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), -0.5)
        assert l1(made, truth).tolist() == [0.5]

    def test_psnr(self):
        made, truth = torch.full((1, 1, 4, 4), 0.2, dtype=torch.float64), torch.zeros(1, 1, 4, 4)
        assert psnr(made, truth).item() == pytest.approx(20.0)
        assert psnr(truth, truth).item() == math.inf

    def test_luma_weighs_green_most(self):
        truth = torch.zeros(1, 3, 4, 4)
        made = truth.repeat(3, 1, 1, 1) + 0.2 * torch.eye(3)[:, :, None, None]
        values = [psnr_y(one[None], truth).item() for one in made]
        assert values == pytest.approx([20 - 20 * math.log10(weight) for weight in (0.299, 0.587, 0.114)])

    def test_ssim_of_equal_pictures(self):
        made, _ = pictures()
        assert ssim(made, made).item() == pytest.approx(1)

    def test_ssim_by_hand(self):
        """Of flat pictures only the means count."""
        made, truth = torch.full((1, 1, 16, 16), 0.0), torch.full((1, 1, 16, 16), 0.5)
        a, b, c = 0.5, 0.75, 1e-4
        assert ssim(made, truth).item() == pytest.approx((2 * a * b + c) / (a * a + b * b + c))

    @pytest.mark.parametrize(
        ("channels", "peak", "likeness"), [(1, 23.908485918403, 0.907828610651), (3, 23.900710560939, 0.940824962839)]
    )
    def test_scikit_image(self, channels, peak, likeness):
        made, truth = pictures(channels)
        assert psnr(made, truth).item() == pytest.approx(peak, abs=1e-9)
        assert ssim(made, truth).item() == pytest.approx(likeness, abs=1e-9)


class TestRegions:
    def test_only_what_lies_inside_counts(self):
        truth = torch.zeros(2, 3, 16, 16)
        made = truth.clone()
        made[:, :, :8] = 0.5
        region = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
        region[0, :, :8] = True
        region[1, :, 8:] = True
        assert l1(made, truth, region).tolist() == [0.25, 0]
        assert psnr(made, truth, region)[1] == math.inf
        assert ssim(made, truth, region)[0] < ssim(made, truth, region)[1]

    def test_a_picture_without_any_is_nan(self):
        images = torch.zeros(1, 1, 4, 4)
        assert l1(images, images, torch.zeros(1, 1, 4, 4, dtype=torch.bool)).isnan().all()


class TestErrors:
    @pytest.mark.parametrize("metric", [l1, psnr, psnr_y, ssim])
    def test_shapes_and_types(self, metric):
        images = torch.zeros(2, 3, 16, 16)
        with pytest.raises(ValueError, match=r"one shape, not \(2, 3, 16, 16\) and \(1, 3, 16, 16\)"):
            metric(images, images[:1])
        with pytest.raises(TypeError, match="truth must be floating-point"):
            metric(images, images.byte())
        with pytest.raises(ValueError, match=r"region must be \(2, 1, 16, 16\) of bool, not \(2, 1, 16, 16\)"):
            metric(images, images, images[:, :1])

    def test_too_small_for_a_window(self):
        images = torch.zeros(1, 3, 10, 16)
        with pytest.raises(ValueError, match="sides of at least 11 pixels"):
            ssim(images, images)

    def test_luma_of_two_channels(self):
        images = torch.zeros(1, 2, 4, 4)
        with pytest.raises(ValueError, match="1 or 3 channels"):
            psnr_y(images, images)
