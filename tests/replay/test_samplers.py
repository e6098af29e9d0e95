"""The trees of prioritized sampling."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from trainers.replay.samplers import Prioritized, Tree


@pytest.mark.parametrize("capacity", [1, 2, 5, 8, 100])
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
    for begin in range(capacity):
        for end in range(begin + 1, capacity + 1):
            assert sums.query(begin, end) == pytest.approx(leaves[begin:end].sum())
            assert minima.query(begin, end) == written[begin:end].min()


def test_a_value_is_found_among_the_sums() -> None:
    tree = Tree(5, np.add, 0.0)
    leaves = torch.tensor([0.5, 0.0, 2.0, 1.0, 0.25], dtype=torch.float64)
    tree[torch.arange(5)] = leaves
    values = np.linspace(0.01, 3.75, 200)
    expected = np.searchsorted(leaves.cumsum(0).numpy(), values)
    assert tree.scan_lower_bound(values).tolist() == expected.tolist()


def test_it_makes_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torchrl")
    with caplog.at_level(logging.WARNING, "torchrl"):
        log.propagate, before = True, log.propagate
        Prioritized(10, alpha=0.6, beta=0.4)
        log.propagate = before
    assert not caplog.records
    assert not log.disabled
