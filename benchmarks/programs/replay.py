"""Microseconds that a batch takes from a replay buffer that is full, as `algo=sac` uses it."""

from __future__ import annotations

import os

import torch
from common import per_second, read_settings
from tensordict import TensorDict

from trainers.replay.buffer import FastReplayBuffer
from trainers.replay.rows import RowStorage
from trainers.replay.samplers import Prioritized

OBSERVATIONS, ACTIONS = 17, 6  # HalfCheetah's


def transitions(n):
    """Such as the collector makes."""
    flags = {
        name: torch.zeros(n, 1, dtype=torch.bool) for name in ("done", "terminated", "truncated")
    }
    following = {"observation": torch.randn(n, OBSERVATIONS), "reward": torch.randn(n, 1), **flags}
    return TensorDict(
        {
            "observation": torch.randn(n, OBSERVATIONS),
            "action": torch.rand(n, ACTIONS),
            "next": TensorDict(following, [n]),
        },
        [n],
    )


def sample():
    """What an update asks of the buffer."""
    _, info = buffer.sample(settings.batch_size, return_info=True)
    if settings.prioritized:
        buffer.update_priority(info["index"], errors)


settings = read_settings()
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
storage = RowStorage(settings.stored)
sampler = Prioritized(settings.stored, alpha=0.6, beta=0.4) if settings.prioritized else None
buffer = FastReplayBuffer(storage=storage, batch_size=settings.batch_size, sampler=sampler)
chunk = 10_000
for _ in range(settings.stored // chunk):
    index = buffer.extend(transitions(chunk))
    if settings.prioritized:
        buffer.update_priority(index, torch.rand(chunk))
errors = torch.rand(settings.batch_size)
print(1e6 / per_second(sample, settings.seconds))
