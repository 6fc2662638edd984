"""Switches of FastGAN hold for the thread that sets them, and for the length of a block."""

from __future__ import annotations

import threading

import torch
from torch import nn
from torch.testing import assert_close

from fastgan import fuse, paired, recomputation
from fastgan.losses import lazy
from fastgan.nn.norm_act import _parts, in_parts
from fastgan.tuning import choices


def in_another_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_no_switch_is_seen_by_another_thread():
    with in_parts(2), recomputation.recompute(), lazy.counted() as counts, choices.recording() as asked:
        assert (_parts.get(), recomputation.active()) == (2, True)
        assert in_another_thread(lambda: (_parts.get(), recomputation.active())) == (1, False)
        in_another_thread(lambda: lazy.Lazy(lambda x: x.sum())(torch.ones(1)))
        in_another_thread(lambda: choices.choice("op", (1,), "torch"))
        assert (counts, asked) == ({}, {})
    assert (_parts.get(), recomputation.active()) == (1, False)


def test_no_switch_stays_on_when_two_threads_overlap():
    """The first to enter leaves first: with a global, the second would put back what it had found."""
    entered, left = threading.Event(), threading.Event()

    def second():
        with in_parts(2), recomputation.recompute():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=second)
    with in_parts(2), recomputation.recompute():
        thread.start()
        entered.wait(10)
    left.set()
    thread.join()
    assert (_parts.get(), recomputation.active()) == (1, False)


def discriminator():
    return fuse(
        nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4), nn.Flatten(0))
    ).double()


def test_paired_in_two_threads_leaves_other_networks_alone():
    """Each half of a batch has statistics of its own in `paired`, and nowhere else."""
    real, fake = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    batch = torch.cat([real, fake])
    plain = discriminator()
    expected = plain(batch)
    stop = threading.Event()

    def loop():
        network = discriminator()
        while not stop.is_set():
            paired(network, real, fake, one_pass=True)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    found = [plain(batch) for _ in range(100)]
    stop.set()
    for thread in threads:
        thread.join()
    for result in (*found, plain(batch)):
        assert_close(result, expected, rtol=1e-12, atol=1e-12)


def test_paired_with_a_compiled_discriminator():
    """torch.compile cannot ask a context variable: two passes, and the same numbers."""
    torch.manual_seed(0)
    network = discriminator()
    real, fake = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    expected = network(real), network(fake)
    compiled = torch.compile(network, backend="eager")
    for one_pass in (None, True, False):
        assert_close(paired(compiled, real, fake, one_pass=one_pass), expected, rtol=1e-9, atol=1e-11)
    assert_close((compiled(real), compiled(fake)), expected, rtol=1e-9, atol=1e-11)
