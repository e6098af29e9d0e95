"""A rollout is taken apart into minibatches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from tensordict import TensorDictBase

from trainers.trainer import Trainer


class Minibatches:
    """Every frame of a rollout once an epoch, in random order.

    Register :meth:`shuffle` at ``pre_epoch``, after what writes into the rollout, and :meth:`take`
    at ``process_optim_batch``.

    Args:
        size: frames of a minibatch at most; where it does not divide a rollout, minibatches are of
            nearly equal sizes, since a step on what is left would count as much as any other.
    """

    name = "minibatches"

    def __init__(self, size: int) -> None:
        self.size = size
        self._minibatches: Iterator[TensorDictBase] = iter(())

    def shuffle(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        """Begin an epoch over ``rollout``, whatever its batch dimensions."""
        frames = rollout.reshape(-1)
        order = torch.randperm(len(frames), device=frames.device)
        # All at once: minibatches are then views, which cost no copy of every entry.
        number = math.ceil(len(frames) / self.size)
        whole, rest = divmod(len(frames), number)
        sizes = [whole + 1] * rest + [whole] * (number - rest)
        self._minibatches = iter(frames[order].split(sizes))

    def take(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """The next minibatch ``[size]``; the incoming one (the rollout) is dropped."""
        return next(self._minibatches)
