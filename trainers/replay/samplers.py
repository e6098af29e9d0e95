"""Prioritized sampling that does not depend on TorchRL's compiled extension."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.data.replay_buffers.samplers import PrioritizedSampler


class Prioritized(PrioritizedSampler):
    """TorchRL's ``PrioritizedSampler`` (Schaul et al. 2016) on trees of its own.

    TorchRL's are in an extension that loads only beside the one version of torch that it was
    compiled with; without them its sampler cannot be made.

    Args:
        max_capacity: of the buffer.
        alpha: exponent of the priorities; 0 is uniform.
        beta: exponent of the importance weights; 1 corrects entirely.
    """

    def __init__(self, max_capacity: int, alpha: float, beta: float) -> None:
        log = logging.getLogger("torchrl")
        log.disabled, before = True, log.disabled  # it warns of the trees that are not used
        try:
            super().__init__(max_capacity, alpha, beta, dtype=torch.float64)
        finally:
            log.disabled = before

    def _init(self) -> None:
        self._sum_tree = Tree(self._max_capacity, np.add, 0.0)
        self._min_tree = Tree(self._max_capacity, np.minimum, np.inf)
        self._max_priority = (None, None)


class Tree:
    """A segment tree over float64 values: every node holds its two children, combined.

    The nodes are a function of the leaves alone, so trees with equal leaves are equal bit for bit.

    Args:
        capacity: number of leaves.
        combine: ``np.add`` or another associative function of two arrays.
        neutral: what leaves hold at first, and what changes nothing when combined.
    """

    def __init__(self, capacity: int, combine: np.ufunc, neutral: float) -> None:
        self._combine, self._neutral = combine, neutral
        self._first_leaf = 1 << max(1, (capacity - 1).bit_length())
        self._nodes = np.full(2 * self._first_leaf, neutral)

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self._nodes[self._first_leaf + index.numpy()])

    def __setitem__(self, index: Tensor, values: Tensor) -> None:
        node = self._first_leaf + index.numpy()
        self._nodes[node] = values.numpy()
        while node[0] > 1:  # all of them are on one level
            node = node >> 1
            self._nodes[node] = self._combine(self._nodes[2 * node], self._nodes[2 * node + 1])

    def query(self, begin: int, end: int) -> float:
        """The values of ``[begin, end)``, combined."""
        result = np.float64(self._neutral)
        begin, end = begin + self._first_leaf, end + self._first_leaf
        while begin < end:
            if begin & 1:
                result = self._combine(result, self._nodes[begin])
                begin += 1
            if end & 1:
                end -= 1
                result = self._combine(result, self._nodes[end])
            begin, end = begin >> 1, end >> 1
        return float(result)

    def scan_lower_bound(self, values: Any) -> Tensor:
        """In a tree of sums: the first index up to which the leaves add up to each value."""
        rest = np.array(values, dtype=np.float64)
        node = np.ones(rest.shape, dtype=np.int64)
        while node[0] < self._first_leaf:
            left = self._nodes[2 * node]
            beyond = rest > left
            rest -= np.where(beyond, left, 0.0)
            node = 2 * node + beyond
        return torch.from_numpy(node - self._first_leaf)
