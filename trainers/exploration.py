"""Policies as they collect: what they would do, and sometimes something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import nn
from torchrl.envs.utils import ExplorationType, exploration_type

from trainers.numpy_nets import Array


class EpsilonGreedy(nn.Module):
    """A policy's action, or with probability ``epsilon`` any: for collection only.

    It acts in numpy where the policy does. Where TorchRL's exploration type is deterministic, the
    action is the policy's.

    Args:
        policy: writes ``action``, the number of one.
        num_actions: how many there are.
        epsilon: the probability; free to be changed.
    """

    def __init__(self, policy: nn.Module, num_actions: int, epsilon: float = 1.0) -> None:
        super().__init__()
        self.policy: Any = policy
        self.num_actions = num_actions
        self.epsilon = epsilon

    @property
    def acts_in_numpy(self) -> bool:
        """Whether :meth:`act` can be asked."""
        return getattr(self.policy, "acts_in_numpy", False)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        data = self.policy(data)
        if exploration_type() is ExplorationType.DETERMINISTIC:
            return data
        action = data["action"]
        noise = torch.rand(*action.shape, 2, device=action.device)
        picked = (noise[..., 1] * self.num_actions).long()
        return data.set("action", torch.where(noise[..., 0] < self.epsilon, picked, action))

    def noise(self, *shape: int) -> Array:
        """For so many actions two uniform numbers each: whether to pick any, and which."""
        return torch.rand(*shape, 2).numpy()

    def act(self, observation: Array, noise: Array | None) -> Array:
        """Actions ``[B]`` for ``observation`` ``[B, n]``; the policy's own without noise."""
        if noise is None:
            return self.policy.act(observation, None)
        random = noise[:, 0] < self.epsilon
        picked = (noise[:, 1] * self.num_actions).astype(np.int64)
        if random.all():
            return picked
        return np.where(random, picked, self.policy.act(observation, None))

    def describe(self, rollout: TensorDictBase) -> None:
        """Write all else that the policy writes."""
        self.policy.describe(rollout)
