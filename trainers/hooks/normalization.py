"""Observations and rewards are brought to one scale."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from trainers.normalization import RunningNorm
from trainers.trainer import Trainer


class UpdateNormalizer:
    """Takes a rollout's observations into the statistics of the networks' normaliser.

    Register it at ``post_steps``: during the epochs the policy stays what it was when it acted, and
    the first ratio of an iteration is 1.
    """

    def __init__(self, norm: RunningNorm, key: str = "observation") -> None:
        self.norm = norm
        self.key = key

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> None:
        self.norm.update(rollout[self.key])


class ScaleReward:
    """Divides rewards by the running standard deviation of the discounted return.

    Register it at ``pre_epoch``, once an iteration: what is logged at ``post_collect`` is the raw
    reward. Engstrom et al. 2020, "Implementation Matters in Deep RL", https://arxiv.org/abs/2005.12729.

    Args:
        gamma: discount of the return.
        clip: bound of the scaled rewards.
    """

    name = "scale_reward"

    def __init__(self, gamma: float, clip: float = 10.0) -> None:
        self.gamma = gamma
        self.clip = clip
        self.statistics = RunningNorm([])
        self._returns = torch.zeros(0)  # of the open episodes, one of each environment
        self._resumed = False

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> TensorDictBase:
        reward, done = rollout["next", "reward"], rollout["next", "done"]
        restarted = self._resumed and not getattr(trainer.collector, "resumed_exactly", False)
        self._resumed = False
        if restarted or self._returns.shape != reward[..., 0, :].shape:
            self._returns = torch.zeros_like(reward[..., 0, :], dtype=torch.float64)
        self.statistics.to(reward.device).update(self._discounted(reward, done))
        scaled = (reward / self.statistics.std).clamp(-self.clip, self.clip)
        return rollout.set(("next", "reward"), scaled.to(reward.dtype))

    def _discounted(self, reward: Tensor, done: Tensor) -> Tensor:
        """What each frame's episode has brought so far, ``[..., T, 1]``, older rewards for less."""
        total, seen = self._returns.to(reward.device), []
        for now, ends in zip(reward.unbind(-2), done.unbind(-2), strict=True):
            total = total + now
            seen.append(total)
            total = self.gamma * total * ~ends
        self._returns = total
        return torch.stack(seen, -2)

    def state_dict(self) -> dict[str, Any]:
        """The statistics, and the returns of the open episodes."""
        return {"statistics": self.statistics.state_dict(), "returns": self._returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; open episodes only if the collector goes on with them."""
        self._resumed = True
        self.statistics.load_state_dict(state["statistics"])
        self._returns = state["returns"]
