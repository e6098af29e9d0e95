"""A rollout is taken apart into minibatches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from tensordict import TensorDictBase

from trainers.trainer import Trainer


class Minibatches:
    """Every frame of a rollout once an epoch, in random order.

    Register it at ``process_optim_batch``: an epoch begins with its first minibatch, so whatever
    hooks have written into the rollout before, a user's too, is in it.

    Args:
        size: frames of a minibatch at most; where it does not divide a rollout, minibatches are of
            nearly equal sizes, since a step on what is left would count as much as any other.
    """

    name = "minibatches"

    def __init__(self, size: int) -> None:
        self.size = size
        self._minibatches: Iterator[TensorDictBase] = iter(())

    def __call__(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """The next minibatch ``[size]`` of the incoming rollout, whatever its batch dimensions."""
        if trainer.updates_in_epoch == 0:
            self._shuffle(batch)
        return next(self._minibatches)

    def _shuffle(self, rollout: TensorDictBase) -> None:
        frames = rollout.reshape(-1)
        order = torch.randperm(len(frames), device=frames.device)
        # All at once: minibatches are then views, which cost no copy of every entry.
        number = math.ceil(len(frames) / self.size)
        whole, rest = divmod(len(frames), number)
        sizes = [whole + 1] * rest + [whole] * (number - rest)
        self._minibatches = iter(frames[order].split(sizes))
