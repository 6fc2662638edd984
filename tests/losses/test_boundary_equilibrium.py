"""BEGAN's losses, and the trajectory of k against numbers worked out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastgan.losses import BoundaryEquilibrium

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def scalar(value: float, **how) -> torch.Tensor:
    return torch.tensor(value, **how)


def test_k_by_hand():
    loss = BoundaryEquilibrium(gamma=0.5, lambda_k=0.1)
    # (L(x), L(G(z)))  ->  gamma L(x) - L(G(z)), k and M
    for real, fake, k, measure in [
        (4.0, 1.0, 0.1, 5.0),  # 2 - 1 = 1
        (2.0, 3.0, 0.0, 4.0),  # 1 - 3 = -2: k would be -0.1
        (10.0, 1.0, 0.4, 14.0),  # 5 - 1 = 4
        (1.0, 0.25, 0.425, 1.25),  # 0.5 - 0.25
        (20.0, 1.0, 1.0, 29.0),  # 10 - 1 = 9: k would be 1.325
        (1.0, 1.0, 0.95, 1.5),  # 0.5 - 1
    ]:
        assert loss.update(scalar(real), scalar(fake)).item() == pytest.approx(measure)
        assert loss.k.item() == pytest.approx(k)


def test_paper_defaults():
    loss = BoundaryEquilibrium()
    assert (loss.gamma, loss.lambda_k, loss.k.item()) == (0.5, 0.001, 0)
    loss.update(scalar(2.0), scalar(0.5))
    assert loss.k.item() == pytest.approx(0.0005)


def test_losses_and_gradients():
    loss = BoundaryEquilibrium(k=0.3)
    real, fake = scalar(2.0, requires_grad=True), scalar(0.5, requires_grad=True)
    value = loss.discriminator(real, fake)
    assert value.item() == pytest.approx(2 - 0.3 * 0.5)
    value.backward()
    assert (real.grad.item(), fake.grad.item()) == (1, pytest.approx(-0.3))
    fake.grad = None
    loss.generator(fake).backward()
    assert loss.generator(fake).item() == 0.5
    assert fake.grad.item() == 1


def test_error_is_the_mean_absolute_difference():
    images, restored = torch.randn(2, 3, 2, 4, 4, dtype=F64).unbind()
    restored.requires_grad_()
    value = BoundaryEquilibrium.error(images, restored)
    assert value.item() == pytest.approx((images - restored).abs().sum().item() / 96)
    value.backward()
    torch.testing.assert_close(restored.grad, (restored - images).sign() / 96)
    half = BoundaryEquilibrium.error(images.bfloat16(), restored.bfloat16())
    assert half.dtype == F32
    assert torch.equal(half, BoundaryEquilibrium.error(images.bfloat16().float(), restored.bfloat16().float()))


def test_k_is_no_part_of_the_graph():
    loss = BoundaryEquilibrium(k=0.5)
    real, fake = scalar(3.0, requires_grad=True), scalar(1.0, requires_grad=True)
    value = loss.discriminator(real, fake)
    measure = loss.update(real, fake)  # before the backward pass, which must see the k of its own loss
    assert not loss.k.requires_grad
    assert not measure.requires_grad
    assert list(loss.parameters()) == []
    value.backward()
    assert fake.grad.item() == -0.5


def test_state_dict_and_checkpoint(tmp_path):
    loss = nn.ModuleDict({"began": BoundaryEquilibrium(lambda_k=0.1)})
    loss["began"].update(scalar(4.0), scalar(1.0))
    assert set(loss.state_dict()) == {"began.k"}
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    other = nn.ModuleDict({"began": BoundaryEquilibrium(lambda_k=0.1)})
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        assert torch.equal(other["began"].k, loss["began"].k)
        assert other["began"].k.item() > 0
        copied, before = copy.deepcopy(loss), loss["began"].k.item()
        for module in (loss, other):
            module["began"].update(scalar(3.0), scalar(1.0))
        assert loss["began"].k.item() == pytest.approx(before + 0.05)
        assert copied["began"].k.item() == before


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_k_keeps_its_precision_in_a_half_precision_system(dtype):
    system = nn.ModuleDict({"network": nn.Linear(2, 2), "began": BoundaryEquilibrium(k=0.7001)}).to(dtype)
    loss = system["began"]
    assert system["network"].weight.dtype == dtype
    assert loss.k.dtype == F32
    assert loss.k.item() == pytest.approx(0.7001, abs=1e-7)
    for _ in range(10):
        loss.update(scalar(2.0, dtype=dtype), scalar(0.5, dtype=dtype))
    assert loss.k.item() == pytest.approx(0.7001 + 10 * 0.0005, abs=1e-6)
    assert system.double()["began"].k.dtype == F64
    assert system.to("meta")["began"].k.device.type == "meta"


def test_result_has_the_errors_dtype():
    loss = BoundaryEquilibrium(lambda_k=0, k=0.25)
    for dtype, expected in ((F32, F32), (F64, F64), (BF16, F32), (F16, F32)):
        for module in (loss, copy.deepcopy(loss).double()):
            real, fake = scalar(1.0, dtype=dtype), scalar(1.0, dtype=dtype)
            assert module.discriminator(real, fake).dtype == expected
            assert module.discriminator(real, fake).item() == 0.75
            assert module.generator(fake).dtype == expected
            assert module.update(real, fake).dtype == expected


def test_no_call_waits_for_the_device():
    """A meta tensor has no values: whatever asked for one would raise."""
    loss = BoundaryEquilibrium().to("meta")
    real, fake = (loss.error(torch.empty(4, 3, device="meta"), torch.empty(4, 3, device="meta")) for _ in range(2))
    assert loss.discriminator(real, fake).is_meta
    assert loss.generator(fake).is_meta
    assert loss.update(real, fake).is_meta


def test_repr():
    assert repr(BoundaryEquilibrium(gamma=0.7)) == "BoundaryEquilibrium(gamma=0.7, lambda_k=0.001)"


def test_says_what_is_wrong():
    loss, one = BoundaryEquilibrium(), scalar(1.0)
    images = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="images and reconstructions must have the same shape"):
        loss.error(images, images[:, :1])
    with pytest.raises(TypeError, match=r"images must be a floating-point tensor, not torch\.uint8"):
        loss.error(images.byte(), images)
    for method in (loss.discriminator, loss.update):
        with pytest.raises(ValueError, match=r"real_error must be a scalar, as error\(\) returns it, not .*\(4,\)"):
            method(torch.ones(4), one)
        with pytest.raises(ValueError, match="fake_error must be a scalar"):
            method(one, torch.ones(1))
        with pytest.raises(TypeError, match="fake_error must be a floating-point tensor, not float"):
            method(one, 1.0)
    with pytest.raises(TypeError, match=r"fake_error must be a floating-point tensor, not torch\.int64"):
        loss.generator(scalar(1))
    for name in ("gamma", "k"):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], not 1.5"):
            BoundaryEquilibrium(**{name: 1.5})
    with pytest.raises(ValueError, match=r"lambda_k must be a finite number of at least 0, not -0\.1"):
        BoundaryEquilibrium(lambda_k=-0.1)
