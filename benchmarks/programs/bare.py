"""The limits: float32 matrix multiplication in torch, and the environment by itself."""

from __future__ import annotations

import json

import gymnasium
import torch
from common import per_second, read_settings


def gflops(n: int, seconds: float) -> float:
    """Of n x n matrices; the result has its memory already, as in the best of programs."""
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / 1e9 * per_second(lambda: torch.mm(a, b, out=out), seconds)


def env_steps(seconds: float) -> float:
    """Steps a second with actions that cost nothing."""
    env = gymnasium.make(settings.env_id)
    env.reset(seed=0)
    action = env.action_space.sample()

    def step() -> None:
        *_, truncated, _ = env.step(action)
        if truncated:
            env.reset()

    return per_second(step, seconds)


settings = read_settings()
limits = {
    "matmul_256": gflops(256, settings.seconds),
    "matmul_2048": gflops(2_048, settings.seconds),
    "env": env_steps(settings.seconds),
}
print(json.dumps(limits))
