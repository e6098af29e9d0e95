"""Advantages, and sums over time without a loop over time."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn


class GAE(nn.Module):
    """Generalised advantage estimation (Schulman et al. 2016, equation 16).

    Called like TorchRL's, on rollouts ``[..., T]`` in the order of time, it writes ``advantage``,
    ``value_target`` (their sum with the value) and ``state_value``, all ``[..., T, 1]``. The value
    of a next state is taken from the frame after it; only where an episode or the rollout ends is
    the network asked for it, so it is asked half as often as by TorchRL's. After a truncation the
    advantage counts the value of the episode's own last observation, after a termination nothing.

    Args:
        value_network: writes ``state_value`` for ``observation``.
        gamma: discount.
        lmbda: weight of longer estimates.
    """

    def __init__(self, value_network: Any, gamma: float, lmbda: float) -> None:
        super().__init__()
        self.value_network = value_network
        self.gamma = gamma
        self.lmbda = lmbda

    @torch.no_grad()
    def forward(self, rollout: TensorDictBase) -> TensorDictBase:
        """Write advantages and value targets into ``rollout``."""
        following = _Following(rollout)
        value = _value(self.value_network, rollout["observation"], rollout.batch_size)
        next_value = following.values(value, self.value_network)
        error = following.reward + self.gamma * ~following.terminated * next_value - value
        decay = ~following.done * (self.gamma * self.lmbda)
        advantage = discounted_sum(error.squeeze(-1), decay.squeeze(-1)).unsqueeze(-1)
        rollout.set("advantage", advantage)
        rollout.set("value_target", advantage + value)
        return rollout.set("state_value", value)


class VTrace(nn.Module):
    """V-trace: returns of the present policy from what an older one did.

    Espeholt et al. 2018, "IMPALA", https://arxiv.org/abs/1802.01561, equation 1, with importance
    weights of at most 1. The weight of a frame is in its ``advantage``, as in the paper's policy
    gradient. Called like :class:`GAE`, on rollouts with ``action_log_prob`` as it was then.

    TorchRL's estimator (0.14.1) draws a new action and weights by the probability of that one.

    Args:
        value_network: writes ``state_value`` for ``observation``.
        actor: the present policy; has ``get_dist``.
        gamma: discount.
        weighs: else the weight is left out of the ``advantage``, for a loss that has it itself, as
            PPO's have by their ratio.
    """

    def __init__(self, value_network: Any, actor: Any, gamma: float, weighs: bool = True) -> None:
        super().__init__()
        self.value_network = value_network
        self.actor = actor
        self.gamma = gamma
        self.weighs = weighs

    @torch.no_grad()
    def forward(self, rollout: TensorDictBase) -> TensorDictBase:
        """Write advantages and value targets into ``rollout``."""
        following = _Following(rollout)
        distribution = self.actor.get_dist(rollout.select(*self.actor.in_keys))
        log_ratio = distribution.log_prob(rollout["action"]) - rollout["action_log_prob"]
        weight = log_ratio.exp().clamp(max=1.0).unsqueeze(-1)
        value = _value(self.value_network, rollout["observation"], rollout.batch_size)
        next_value = following.values(value, self.value_network)
        gamma = self.gamma * ~following.terminated
        error = weight * (following.reward + gamma * next_value - value)
        decay = ~following.done * self.gamma * weight
        target = value + discounted_sum(error.squeeze(-1), decay.squeeze(-1)).unsqueeze(-1)
        next_target = target.roll(-1, -2)
        next_target[following.ends] = next_value[following.ends]
        advantage = following.reward + gamma * next_target - value
        rollout.set("advantage", weight * advantage if self.weighs else advantage)
        rollout.set("value_target", target)
        return rollout.set("state_value", value)


class _Following:
    """What came after each frame of a rollout ``[..., T]``."""

    def __init__(self, rollout: TensorDictBase) -> None:
        following: Any = rollout["next"]
        self.observation, self.reward = following["observation"], following["reward"]
        self.done, self.terminated = following["done"], following["terminated"]
        ends = self.done.clone()
        ends[..., -1, :] = True
        self.ends = ends.squeeze(-1)
        """Where the frame after it in the rollout is not what came next, ``[..., T]``."""

    def values(self, value: Tensor, network: Any) -> Tensor:
        """Of the next states, ``[..., T, 1]``, from the ``value`` of the states."""
        next_value = value.roll(-1, -2)
        last = self.observation[self.ends]
        next_value[self.ends] = _value(network, last, last.shape[:1])
        return next_value


def _value(network: Any, observation: Tensor, batch_size: torch.Size) -> Tensor:
    return network(TensorDict({"observation": observation}, batch_size))["state_value"]


def discounted_sum(values: Tensor, discounts: Tensor) -> Tensor:
    """``sum[t] = values[t] + discounts[t] * sum[t + 1]`` along the last dimension.

    By doubling (Hillis and Steele 1986): every pass takes in twice as many steps, so there are
    log2(T) of them. In float64, returned in the type of ``values``.
    """
    total, weight = values.to(torch.float64, copy=True), discounts.double()
    steps = values.shape[-1]
    reach = 1
    while reach < steps:
        total[..., :-reach] += weight[..., : steps - reach] * total[..., reach:]
        weight = weight[..., :-reach] * weight[..., reach:]
        reach *= 2
    return total.to(values.dtype)
