"""Advantages and value targets, slowly."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor


def slow_advantage(
    rollout: TensorDictBase, value: Any, kind: str, gamma: float, lmbda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets ``[num_envs, T, 1]``, one frame at a time.

    ``value`` is asked for the value of one observation at a time. Where an episode or the rollout
    ends, and nothing has terminated, the value of its own last observation stands for the rest.
    """
    advantages, targets = (torch.zeros(*rollout.batch_size, 1) for _ in range(2))
    num_envs, steps = rollout.batch_size
    for env in range(num_envs):
        following = 0.0  # the next frame's advantage, or its target
        for step in reversed(range(steps)):
            frame = rollout[env, step]
            reward = float(frame["next", "reward"])
            here, there = (
                float(value(o).detach())
                for o in (frame["observation"], frame["next", "observation"])
            )
            if frame["next", "terminated"]:
                there = 0.0
            cut = bool(frame["next", "done"]) or step == steps - 1
            if kind == "gae":
                error = reward + gamma * there - here
                advantage = error + (0.0 if cut else gamma * lmbda * following)
                target, following = advantage + here, advantage
            else:
                weight = {"td0": 0.0, "td1": 1.0, "td_lambda": lmbda}[kind]
                rest = there if cut else (1 - weight) * there + weight * following
                target = following = reward + gamma * rest
                advantage = target - here
            advantages[env, step], targets[env, step] = advantage, target
    return advantages, targets
