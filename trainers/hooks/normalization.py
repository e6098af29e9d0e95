"""Observations and rewards are brought to one scale."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from trainers.advantages import discounted_sum
from trainers.networks.normalization import RunningNorm
from trainers.saving.restoring import Continuity
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
        self._continuity = Continuity()

    def __call__(self, trainer: Trainer, rollout: TensorDictBase) -> TensorDictBase:
        reward, done = rollout["next", "reward"], rollout["next", "done"]
        broken = self._continuity.is_broken(trainer.collector)
        if broken or self._returns.shape != reward[..., 0, :].shape:
            self._returns = torch.zeros_like(reward[..., 0, :], dtype=torch.float64)
        self.statistics.to(reward.device).update(self._discounted(reward, done))
        scaled = (reward / self.statistics.std).clamp(-self.clip, self.clip)
        return rollout.set(("next", "reward"), scaled.to(reward.dtype))

    def _discounted(self, reward: Tensor, done: Tensor) -> Tensor:
        """What each frame's episode has brought so far, ``[..., T, 1]``, older rewards for less."""
        values = reward.squeeze(-1).to(torch.float64, copy=True)
        going_on = self.gamma * ~done.squeeze(-1)
        values[..., 0] += self._returns.to(reward.device).squeeze(-1)
        # Backwards in time, since what a frame takes in is what lies before it.
        carried = going_on.roll(1, -1)
        total = discounted_sum(values.flip(-1), carried.flip(-1)).flip(-1)
        self._returns = (going_on * total)[..., -1:]
        return total.unsqueeze(-1)

    def state_dict(self) -> dict[str, Any]:
        """The statistics, and the returns of the open episodes."""
        return {"statistics": self.statistics.state_dict(), "returns": self._returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; open episodes only if the collector goes on with them."""
        self._continuity.resumed()
        self.statistics.load_state_dict(state["statistics"])
        self._returns = state["returns"]
