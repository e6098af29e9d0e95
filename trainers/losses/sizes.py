"""Sizes of errors, which priorities are made of, where TorchRL's losses write squares."""

from __future__ import annotations

from typing import Any

from tensordict import TensorDictBase
from torchrl.objectives import DQNLoss, SACLoss


def writes_squares(loss: Any) -> bool:
    """Whether it is TorchRL's own of DQN, or of the first version of SAC.

    A loss derived from these writes what it likes. Those of TD3 and DDPG are asked in parts:
    :func:`~trainers.losses.deterministic.critics_part`.
    """
    return type(loss) is DQNLoss or (type(loss) is SACLoss and loss._version == 1)


def with_sizes(loss: Any, batch: TensorDictBase) -> TensorDictBase:
    """The losses of ``batch``, in which the sizes of the errors stand afterwards."""
    losses = loss(batch)
    key = loss.tensor_keys.priority
    batch.set(key, batch[key].sqrt())
    return losses
