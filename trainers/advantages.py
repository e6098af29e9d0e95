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
        done, terminated = rollout["next", "done"], rollout["next", "terminated"]
        value = self._value(rollout["observation"])
        ends = done.clone()
        ends[..., -1, :] = True
        ends = ends.squeeze(-1)
        next_value = value.roll(-1, -2)
        next_value[ends] = self._value(rollout["next", "observation"][ends])
        error = rollout["next", "reward"] + self.gamma * ~terminated * next_value - value
        decay = ~done * (self.gamma * self.lmbda)
        advantage = discounted_sum(error.squeeze(-1), decay.squeeze(-1)).unsqueeze(-1)
        rollout.set("advantage", advantage)
        rollout.set("value_target", advantage + value)
        return rollout.set("state_value", value)

    def _value(self, observation: Tensor) -> Tensor:
        data = TensorDict({"observation": observation}, observation.shape[:-1])
        return self.value_network(data)["state_value"]


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
