"""How much better was an action than expected?"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase

from trainers.trainer import Trainer


class Advantage:
    """Writes ``advantage``, ``value_target`` and ``state_value`` into the rollout.

    Register it at ``pre_epoch``, where it sees whole rollouts ``[..., T]`` in the order of time.
    The values are those of the critic as it is then; registered with ``when=first_epoch`` they are
    computed once an iteration.

    Args:
        estimator: one of TorchRL's value estimators, or anything that is called like them.
    """

    name = "advantage"

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> TensorDictBase:
        with torch.no_grad():
            return self.estimator(rollout)


def first_epoch(trainer: Trainer) -> bool:
    """Condition for ``register_hook(when=...)``: once an iteration, before its first epoch."""
    return trainer.epoch == 0


class NormalizeAdvantage:
    """Brings a rollout's advantages to mean 0 and standard deviation 1; after they are written.

    Without a baseline they are returns, and their mean is then one.
    """

    name = "normalize_advantage"

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        advantage: Any = rollout["advantage"]
        if advantage.numel() > 1:
            std = advantage.std().clamp_min(torch.finfo(advantage.dtype).resolution)
            rollout["advantage"] = (advantage - advantage.mean()) / std
