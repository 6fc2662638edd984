"""A history of pictures: what it gives back is old or new, and each old one once."""

import pytest
import torch

from fastgan.random import drawing_from
from fastgan.systems import ImagePool


def numbered(first, count):
    return torch.arange(first, first + count, dtype=torch.float32).view(-1, 1, 1, 1)


def run(pool, batches, size=4):
    return [pool(numbered(1 + i * size, size)).flatten().tolist() for i in range(batches)]


def test_gives_back_what_it_is_given_until_it_is_full():
    assert run(ImagePool(8, (1, 1, 1)), 2) == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("size", [3, 4, 6, 10, 50])
def test_every_picture_is_shown_once_or_kept(size):
    """An exchange gives an old picture back and keeps the new one: none is lost, none is there twice."""
    pool = ImagePool(size, (1, 1, 1))
    shown = [number for row in run(pool, 30) for number in row]
    stored = pool.images[:-1].flatten()[: int(pool.filled)].tolist()
    assert int(pool.filled) == size
    first = min(size, 4)  # of a first batch larger than the pool the rest goes by
    kept_at_first = shown[: size if size % 4 == 0 or size > 4 else first]
    assert len(set(stored)) == size
    assert pool.images[-1].eq(0).all()
    # What filled the pool was shown at once, too; after that nothing is shown twice but those.
    later = shown[len(kept_at_first) :]
    assert len(later) == len(set(later))
    assert set(stored) | set(shown) == set(range(1, 121))


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
def test_the_share_that_is_exchanged(share, expected):
    pool = ImagePool(50, (1, 1, 1), share)
    shown = run(pool, 250)
    old = sum(number <= 1 + i * 4 - 1 for i, row in enumerate(shown) for number in row) / (4 * 237)
    assert old == pytest.approx(expected, abs=0.05)


def test_old_pictures_are_drawn_from_all_places():
    pool = ImagePool(6, (1, 1, 1), 1.0)
    pool(numbered(1, 6))
    seen = set()
    for _ in range(60):
        copy = ImagePool(6, (1, 1, 1), 1.0)
        copy.load_state_dict(pool.state_dict())
        seen |= set(copy(numbered(7, 1)).flatten().tolist())
    assert seen == {1, 2, 3, 4, 5, 6}


def test_its_numbers_are_the_runs_and_its_state_is_the_whole_of_it():
    def shown(pool, seed):
        generator = torch.Generator().manual_seed(seed)
        with drawing_from(lambda device: generator):
            return run(pool, 20)

    first, again, other = (ImagePool(10, (1, 1, 1)) for _ in range(3))
    before = torch.get_rng_state()
    assert shown(first, 0) == shown(again, 0) != shown(other, 1)
    assert torch.equal(before, torch.get_rng_state())
    resumed = ImagePool(10, (1, 1, 1))
    resumed.load_state_dict(first.state_dict())
    assert shown(resumed, 2) == shown(first, 2)


def test_nothing_kept_and_no_gradient():
    fresh = torch.randn(3, 2, 4, 4, requires_grad=True)
    assert torch.equal(ImagePool(0, (2, 4, 4))(fresh), fresh)
    assert not ImagePool(0, (2, 4, 4))(fresh).requires_grad
    assert not ImagePool(5, (2, 4, 4))(fresh).requires_grad
    assert ImagePool(5, (2, 4, 4))(fresh.bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: ImagePool(-1, (1, 2, 2)), "size must be an integer of at least 0, not -1"),
        (lambda: ImagePool(1, (1, 2, 2), 1.5), r"share must lie in \[0, 1\], not 1.5"),
        (lambda: ImagePool(4, (1, 2, 2))(torch.zeros(2, 3, 2, 2)), r"shape \(1, 2, 2\), not \(3, 2, 2\)"),
    ],
)
def test_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
