"""A rollout is taken apart into minibatches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from tensordict import TensorDictBase

from trainers.trainer import Trainer


class Minibatches:
    """Every frame of a rollout once an epoch, in random order.

    Register :meth:`shuffle` at ``pre_epoch``, after what writes into the rollout, and :meth:`take`
    at ``process_optim_batch``.

    Args:
        size: frames of a minibatch; an epoch's last one has what is left.
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
        self._minibatches = iter(frames[order].split(self.size))

    def take(self, trainer: Trainer, batch: TensorDictBase) -> TensorDictBase:
        """The next minibatch ``[size]``; the incoming one (the rollout) is dropped."""
        return next(self._minibatches)
