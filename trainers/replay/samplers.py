"""Prioritized sampling that does not depend on TorchRL's compiled extension."""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
            # On the host wherever the frames are: else it would make its own trees on their GPU.
            super().__init__(max_capacity, alpha, beta, dtype=torch.float64, device="cpu")
        finally:
            log.disabled = before

    def _init(self) -> None:
        self._sum_tree = Tree(self._max_capacity, np.add, 0.0)
        self._min_tree = Tree(self._max_capacity, np.minimum, np.inf)
        self._max_priority = (None, None)


class Tree:
    """A tree over float64 values: every node holds its ``WIDTH`` children, combined.

    The nodes are a function of the leaves alone, so trees with equal leaves are equal bit for bit.
    In memory siblings are neighbours: one with many children is as fast to read as one with two,
    and the way from a leaf to the root a quarter as long.

    Args:
        capacity: number of leaves.
        combine: ``np.add`` or another associative function of two arrays.
        neutral: what leaves hold at first, and what changes nothing when combined.
    """

    WIDTH = 16

    def __init__(self, capacity: int, combine: np.ufunc, neutral: float) -> None:
        self._combine, self._neutral = combine, neutral
        self._levels = [np.full(level, neutral) for level in self.shapes(capacity)]
        # The lowest level whose nodes are faster added up than descended to.
        self._few = next(i for i, level in enumerate(self._levels) if level.size <= 4096)
        self._leaves = self._levels[0].reshape(-1)
        parents = [level.reshape(-1) for level in self._levels[1:]]
        self._steps = list(zip(self._levels, parents, strict=False))  # children, parents

    @classmethod
    def shapes(cls, capacity: int) -> list[tuple[int, int]]:
        """Of the levels from the leaves up, ``[parents, WIDTH]``."""
        shapes, nodes = [], capacity
        while not shapes or nodes > 1:
            nodes = -(-nodes // cls.WIDTH)
            shapes.append((nodes, cls.WIDTH))
        return shapes

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self._leaves[index.numpy()])

    def __setitem__(self, index: Tensor, values: Tensor) -> None:
        node = index.numpy()
        self._leaves[node] = values.numpy()
        for children, parents in self._steps:
            node = node // self.WIDTH
            parents[node] = self._combine.reduce(children[node], axis=1)

    def query(self, begin: int, end: int) -> float:
        """The values of ``[begin, end)``, combined."""
        parts = [self._reduced(nodes) for nodes in self._covering(begin, end)]
        return float(self._reduced(parts))

    def _covering(self, begin: int, end: int) -> Iterator[np.ndarray]:
        """The fewest nodes that hold all of ``[begin, end)`` together."""
        for level in self._levels[:-1]:
            nodes = level.reshape(-1)
            # The parents of whose children none is missing.
            first, last = -(-begin // self.WIDTH), end // self.WIDTH
            if first >= last:
                yield nodes[begin:end]
                return
            yield nodes[begin : first * self.WIDTH]
            yield nodes[last * self.WIDTH : end]
            begin, end = first, last
        yield self._levels[-1].reshape(-1)[begin:end]

    def _reduced(self, values: Any) -> Any:
        return self._combine.reduce(values, initial=self._neutral)

    def scan_lower_bound(self, values: Any) -> Tensor:
        """In a tree of sums: the first index up to which the leaves add up to each value."""
        sums = self._levels[self._few].cumsum()
        rest = _within(np.array(values, dtype=np.float64), sums[-1])
        node = np.searchsorted(sums, rest)
        rest -= np.where(node > 0, sums[node - 1], 0.0)
        each = np.arange(len(rest))
        for level in reversed(self._levels[: self._few]):
            sums = level.take(node, axis=0).T.cumsum(axis=0)  # [WIDTH, values]
            rest = _within(rest, sums[-1])
            child = (sums < rest).sum(axis=0)
            rest -= np.where(child > 0, sums[child - 1, each], 0.0)
            node = self.WIDTH * node + child
        return torch.from_numpy(node)


def _within(rest: np.ndarray, total: Any) -> np.ndarray:
    """Above zero and no more than ``total``, from which rounding may have kept it."""
    return np.minimum(np.maximum(rest, np.finfo(np.float64).tiny), total)
