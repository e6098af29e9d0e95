"""Rollouts with the PPO policy: by our collector, or by a loop as one writes it by hand."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import numpy as np
import torch
from common import ENV_ID, Marks, read_settings
from torch import nn
from torch.distributions import Normal

from trainers.build import build
from trainers.config import EnvConfig, NetworkConfig, PPOConfig, TrainConfig


def ours() -> Iterator[object]:
    """The collector and the policy of `algo=ppo`."""
    config = TrainConfig(
        algo=PPOConfig(frames_per_batch=settings.frames_per_batch, normalize_observation=False),
        env=EnvConfig(id=ENV_ID, name=ENV_ID, num_envs=settings.num_envs, stagger=False),
        network=NetworkConfig(hidden=settings.hidden, activation="tanh"),
        total_frames=settings.total_frames,
        seed=settings.seed,
        device="cpu",
    )
    return iter(build(config).trainer.collector)


def by_hand() -> Iterator[object]:
    """Environments in a list, which is faster than Gymnasium's vector; a policy in eager torch."""
    n, steps = settings.num_envs, settings.frames_per_batch // settings.num_envs
    envs = [gymnasium.make(ENV_ID) for _ in range(n)]
    firsts = [env.reset(seed=settings.seed + i)[0] for i, env in enumerate(envs)]
    observation = np.array(firsts, dtype=np.float32)
    num_actions = envs[0].action_space.shape[0]
    policy, width = nn.Sequential(), observation.shape[1]
    for hidden in settings.hidden:
        policy.extend([nn.Linear(width, hidden), nn.Tanh()])
        width = hidden
    policy.append(nn.Linear(width, num_actions))
    log_std = nn.Parameter(torch.zeros(num_actions))
    while True:
        rollout = {
            "observation": np.empty((steps, *observation.shape), np.float32),
            "next_observation": np.empty((steps, *observation.shape), np.float32),
            "action": np.empty((steps, n, num_actions), np.float32),
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
            clipped = np.clip(action, -1, 1)
            for i, env in enumerate(envs):
                following, reward, terminated, truncated, _ = env.step(clipped[i])
                rollout["next_observation"][step, i] = following
                rollout["reward"][step, i] = reward
                rollout["terminated"][step, i] = terminated
                rollout["truncated"][step, i] = truncated
                observation[i] = env.reset()[0] if terminated or truncated else following
        yield {key: torch.from_numpy(values) for key, values in rollout.items()}


settings = read_settings()
rollouts = ours() if settings.ours else by_hand()
marks = Marks(settings)
for frames in range(0, settings.total_frames, settings.frames_per_batch):
    next(rollouts)
    marks(frames + settings.frames_per_batch, lambda: 0)
marks.print()
