"""Policies as they collect: what they would do, and sometimes something else.

They act on TensorDicts, and in numpy where the policy does. What is random is drawn by torch on the
host, so that both ways are the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import nn
from torchrl.envs.utils import ExplorationType, exploration_type

from trainers.networks.numpy_nets import Array


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
        noise = torch.rand(*action.shape, 2).to(action.device)
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
        if not random.any():  # mostly so, in the end
            return self.policy.act(observation, None)
        picked = (noise[:, 1] * self.num_actions).astype(np.int64)
        if random.all():
            return picked
        return np.where(random, picked, self.policy.act(observation, None))

    def describe(self, rollout: TensorDictBase) -> None:
        """Write all else that the policy writes."""
        self.policy.describe(rollout)


class GaussianNoise(nn.Module):
    """Adds independent Gaussian noise to a policy's actions, clipped to their bounds.

    Args:
        policy: writes ``action``; its own randomness stays.
        spec: the bounded spec of the actions ``[n]``.
        std: of the noise, where every action's range counts as [-1, 1].
    """

    def __init__(self, policy: nn.Module, spec: Any, std: float) -> None:
        super().__init__()
        self.policy: Any = policy
        self.std = np.float32(std)
        self._low, self._high = (bound.cpu().numpy() for bound in (spec.space.low, spec.space.high))
        self._half_range = (self._high - self._low) / 2

    @property
    def acts_in_numpy(self) -> bool:
        """Whether the policy does."""
        return getattr(self.policy, "acts_in_numpy", False)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        action = self.policy(data)["action"]
        rows = action.reshape(-1, action.shape[-1])
        noisy = self._noisy(rows.cpu().numpy(), torch.randn(rows.shape).numpy())
        return data.set("action", torch.from_numpy(noisy).to(action.device).view_as(action))

    def noise(self, *shape: int) -> Array:
        """What so many actions are drawn with, ``[*shape, ...]``: the policy's own, and ours."""
        own = self.policy.noise(*shape)
        return np.concatenate([own, torch.randn(*shape, len(self._low)).numpy()], -1)

    def act(self, observation: Array, noise: Array | None) -> Array:
        """Actions for ``observation`` ``[B, n]``; without ``noise`` the policy's likeliest ones."""
        if noise is None:
            return self.policy.act(observation, None)
        number = len(self._low)
        action = self.policy.act(observation, noise[..., :-number])
        return self._noisy(action, noise[..., -number:])

    def describe(self, rollout: TensorDictBase) -> None:
        """Write all else that the policy writes."""
        self.policy.describe(rollout)

    def _noisy(self, action: Array, noise: Array) -> Array:
        noisy = action + self._half_range * self._disturbance(noise)
        return np.minimum(np.maximum(noisy, self._low), self._high)

    def _disturbance(self, noise: Array) -> Array:
        """Of standard normal ``[B, n]``, what is added, in halves of the range."""
        return self.std * noise


class OrnsteinUhlenbeck(GaussianNoise):
    """Adds noise that wanders: each step's is near the one before (Lillicrap et al. 2016).

    ``x += -theta x dt + sigma sqrt(dt) N(0, 1)`` for every action of every environment, from 0 at
    the beginning of an episode. :class:`~trainers.collection.collectors.GymCollector` tells which
    episodes begin, and saves ``exploration_state`` with its own state; of another collector,
    TorchRL's ``is_init`` tells.

    Args:
        policy: writes ``action``.
        spec: the bounded spec of the actions ``[n]``.
        sigma: how strong the noise is, where every action's range counts as [-1, 1].
        theta: how fast it goes back to 0.
        dt: time from step to step.

    Attributes:
        exploration_state: the noise of the last step ``[num_envs, n]``; None before the first.
    """

    def __init__(
        self, policy: nn.Module, spec: Any, sigma: float, theta: float = 0.15, dt: float = 0.01
    ) -> None:
        super().__init__(policy, spec, sigma * math.sqrt(dt))
        self.exploration_state: Array | None = None
        self._stays = np.float32(1.0 - theta * dt)

    def forward(self, data: TensorDictBase) -> TensorDictBase:
        """Write ``action`` for the observations in ``data``."""
        begins = data.get("is_init", None)
        if begins is not None:
            self.begin_episodes(begins.reshape(-1).cpu().numpy())
        return super().forward(data)

    def begin_episodes(self, mask: Array) -> None:
        """Environments begin new episodes where ``mask`` ``[num_envs]`` is true."""
        before = self.exploration_state
        if before is not None:
            self.exploration_state = np.where(mask[:, None], np.float32(0.0), before)

    def _disturbance(self, noise: Array) -> Array:
        before = self.exploration_state
        new = self.std * noise
        self.exploration_state = new if before is None else self._stays * before + new
        return self.exploration_state
