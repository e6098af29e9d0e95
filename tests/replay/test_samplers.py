"""The trees of prioritized sampling."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from trainers.replay.samplers import Prioritized, Tree


@pytest.mark.parametrize("capacity", [1, 2, 5, 15, 16, 17, 100, 256])
def test_trees_combine_ranges(capacity: int) -> None:
    rng = np.random.default_rng(0)
    sums, minima = Tree(capacity, np.add, 0.0), Tree(capacity, np.minimum, np.inf)
    leaves = np.zeros(capacity)
    for _ in range(20):
        index = rng.integers(capacity, size=3)
        values = rng.random(3)
        leaves[index] = values  # of an index that comes twice the last value stays
        for tree in (sums, minima):
            tree[torch.from_numpy(index)] = torch.from_numpy(values)
    assert sums[torch.arange(capacity)].tolist() == leaves.tolist()
    written = np.where(leaves > 0, leaves, np.inf)
    ends = {1, 2, 15, 16, 17, 32, 33, capacity - 1, capacity} if capacity > 100 else range(300)
    for begin in [each - 1 for each in ends if 0 < each <= capacity]:
        for end in [each for each in ends if begin < each <= capacity]:
            assert sums.query(begin, end) == pytest.approx(leaves[begin:end].sum())
            assert minima.query(begin, end) == written[begin:end].min()


@pytest.mark.parametrize("capacity", [5, 4096, 4097, 70_001, 65_536])
def test_a_value_is_found_among_the_sums(capacity: int) -> None:
    """Of few leaves, and of so many that it is on the way down that it is found."""
    tree, rng = Tree(capacity, np.add, 0.0), np.random.default_rng(0)
    leaves = rng.integers(0, 4, capacity) / 4.0  # some are zero; their sums have no rounding
    tree[torch.arange(capacity)] = torch.from_numpy(leaves)
    sums = leaves.cumsum()
    values = np.concatenate([rng.uniform(0.01, sums[-1], 500), sums[leaves > 0][:200]])
    assert tree.scan_lower_bound(values).tolist() == np.searchsorted(sums, values).tolist()


def test_nothing_of_weight_zero_is_found() -> None:
    """Not below all, nor beyond all, where rounding may have put a value."""
    tree = Tree(5_000, np.add, 0.0)
    tree[torch.tensor([7, 4_300])] = torch.tensor([0.1, 0.2], dtype=torch.float64)
    assert tree.scan_lower_bound(np.array([0.0, 0.1, 0.11, 0.31])).tolist() == [7, 7, 4_300, 4_300]


def test_it_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torchrl")
    with caplog.at_level(logging.WARNING, "torchrl"):
        log.propagate, before = True, log.propagate
        Prioritized(10, alpha=0.6, beta=0.4)
        log.propagate = before
    assert not caplog.records
    assert not log.disabled


def test_priorities_stay_on_the_host_when_the_frames_are_on_a_gpu() -> None:
    sampler = Prioritized(8, alpha=1.0, beta=1.0)
    sampler.extend(torch.arange(4))
    sampler.update_priority(torch.arange(4), torch.tensor([0.0, 0.0, 5.0, 0.0]))

    class OnGPU(list[int]):
        device, ndim = torch.device("cuda"), 1

    storage: Any = OnGPU(range(4))
    index, _ = sampler.sample(storage, 64)
    assert sampler.device.type == "cpu"
    assert (index == 2).float().mean() > 0.9
