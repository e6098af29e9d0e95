"""Rollouts with the PPO policy: by our collector, or by a loop as one writes it by hand."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
import torch
from common import Marks, read_settings
from configured import configured
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn
from torch.distributions import Normal

from trainers.build import build
from trainers.run import set_up_torch


def ours() -> Iterator[object]:
    """The collector and the policy of `algo=ppo`."""
    config = configured(settings, settings.backend)
    set_up_torch(config)
    return iter(build(config).trainer.collector)


class Separate:
    """Environments in a list: faster than Gymnasium's vector."""

    def __init__(self, n):
        self.envs = [gymnasium.make(settings.env_id) for _ in range(n)]
        self.num_actions = self.envs[0].action_space.shape[0]

    def reset(self, seed):
        """The first observations."""
        return np.array(
            [env.reset(seed=seed + i)[0] for i, env in enumerate(self.envs)], np.float32
        )

    def step(self, actions, rollout, step, observation):
        """Into the rollout comes what came of it, into `observation` what to act on next."""
        for i, env in enumerate(self.envs):
            following, reward, terminated, truncated, _ = env.step(actions[i])
            rollout["next_observation"][step, i] = following
            rollout["reward"][step, i] = reward
            rollout["terminated"][step, i] = terminated
            rollout["truncated"][step, i] = truncated
            observation[i] = env.reset()[0] if terminated or truncated else following


class Vector:
    """Gymnasium's vector of environments in one process."""

    def __init__(self, n):
        self.envs = SyncVectorEnv(
            [lambda: gymnasium.make(settings.env_id)] * n, autoreset_mode=AutoresetMode.SAME_STEP
        )
        self.num_actions = self.envs.single_action_space.shape[0]

    def reset(self, seed):
        """The first observations."""
        return self.envs.reset(seed=seed)[0].astype(np.float32)

    def step(self, actions, rollout, step, observation):
        """Into the rollout comes what came of it, into `observation` what to act on next."""
        observation[:], reward, terminated, truncated, infos = self.envs.step(actions)
        rollout["next_observation"][step] = observation
        rollout["reward"][step] = reward
        rollout["terminated"][step] = terminated
        rollout["truncated"][step] = truncated
        for i in np.flatnonzero(terminated | truncated):
            rollout["next_observation"][step, i] = infos["final_obs"][i]


def by_hand(envs) -> Iterator[object]:
    """A policy in eager torch, and arrays that are filled step by step."""
    n, steps = settings.num_envs, settings.frames_per_batch // settings.num_envs
    observation = envs.reset(settings.seed)
    policy, width = nn.Sequential(), observation.shape[1]
    for hidden in settings.hidden:
        policy.extend([nn.Linear(width, hidden), nn.Tanh()])
        width = hidden
    policy.append(nn.Linear(width, envs.num_actions))
    log_std = nn.Parameter(torch.zeros(envs.num_actions))
    while True:
        rollout = {
            "observation": np.empty((steps, *observation.shape), np.float32),
            "next_observation": np.empty((steps, *observation.shape), np.float32),
            "action": np.empty((steps, n, envs.num_actions), np.float32),
            "log_prob": np.empty((steps, n), np.float32),
            "reward": np.empty((steps, n), np.float32),
            "terminated": np.empty((steps, n), bool),
            "truncated": np.empty((steps, n), bool),
        }
        for step in range(steps):
            with torch.no_grad():
                distribution = Normal(policy(torch.from_numpy(observation)), log_std.exp())
                drawn = distribution.sample()
                rollout["log_prob"][step] = distribution.log_prob(drawn).sum(-1).numpy()
            rollout["observation"][step] = observation
            rollout["action"][step] = action = drawn.numpy()
            envs.step(np.clip(action, -1, 1), rollout, step, observation)
        yield {key: torch.from_numpy(values) for key, values in rollout.items()}


settings = read_settings()
if settings.by == "ours":
    rollouts = ours()
else:
    make = Separate if settings.by == "by hand" else Vector
    rollouts = by_hand(make(settings.num_envs))
marks = Marks(settings)
for frames in range(0, settings.total_frames, settings.frames_per_batch):
    next(rollouts)
    marks(frames + settings.frames_per_batch, lambda: 0)
marks.print()
