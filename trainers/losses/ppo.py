"""PPO's losses: of TorchRL's values and gradients, for small networks on the CPU much faster."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.objectives import ClipPPOLoss, PPOLoss

from trainers.losses.actor_critic import Entry, NumpyActorCritic, Objective, mean, squares
from trainers.losses.forward import plain_forward
from trainers.networks.numpy_nets import Array

_RESOLUTION = torch.finfo(torch.float32).resolution


@plain_forward
class FastPPOLoss(NumpyActorCritic, PPOLoss):
    """TorchRL's ``PPOLoss`` for the shipped networks; see :class:`NumpyActorCritic`."""

    capturable = True

    def _get_entropy(self, dist: Any, adv_shape: torch.Size) -> Tensor:
        # TorchRL's own lets the host look whether it is finite, which a captured update cannot.
        return dist.entropy().unsqueeze(-1)

    def is_usual(self, advantage: Tensor | None, shape: torch.Size) -> bool:
        """Of rollouts ``[..., T]`` TorchRL reports some numbers column by column."""
        return len(shape) == 1 and super().is_usual(advantage, shape)

    def objective(self, log_prob: Array, advantage: Array, entry: Entry) -> Objective:
        """By the ratio to the policy that acted."""
        log_ratio = log_prob - entry(self.tensor_keys.sample_log_prob)
        gain, d_gain, report = self._surrogate(log_ratio, self._normalized(advantage))
        return gain, d_gain, report | {"kl_approx": -mean(log_ratio)}

    def _normalized(self, advantage: Array) -> Array:
        if not self.normalize_advantage or len(advantage) < 2:
            return advantage
        std = math.sqrt(squares(advantage) / (len(advantage) - 1))
        return (advantage - mean(advantage)) / max(std, _RESOLUTION)

    def _surrogate(self, log_ratio: Array, advantage: Array) -> Objective:
        gain = np.exp(log_ratio) * advantage
        return gain, gain, {}


@plain_forward
class FastClipPPOLoss(FastPPOLoss, ClipPPOLoss):
    """TorchRL's ``ClipPPOLoss`` likewise."""

    def _surrogate(self, log_ratio: Array, advantage: Array) -> Objective:
        ratio = np.exp(log_ratio)
        gain = ratio * advantage
        if self._asymmetric_clip:
            below, above = self.number("clip_epsilon_low"), self.number("clip_epsilon_high")
        else:
            below = above = self.number("clip_epsilon")
        low, high = math.log1p(-below), math.log1p(above)
        clipped = np.minimum(np.maximum(log_ratio, low), high)
        clipped_gain = np.exp(clipped) * advantage
        number, total = len(ratio), float(np.add.reduce(ratio))
        report = {
            "clip_fraction": np.count_nonzero(clipped != log_ratio) / number,
            "ESS": total * total / ratio.dot(ratio) / number,
            "max_ratio": np.maximum.reduce(ratio),
            "mean_ratio": total / number,
        }
        return np.minimum(gain, clipped_gain), gain * (gain <= clipped_gain), report
