"""What EnvPool can be used for in place of Gymnasium."""

from __future__ import annotations

SAME_TASKS = (
    "Acrobot-v1",
    "Ant-v5",
    "CartPole-v1",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "InvertedDoublePendulum-v5",
    "InvertedPendulum-v5",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Walker2d-v5",
)
"""Ids under which EnvPool has Gymnasium's task: tests compare beginnings, steps, rewards and ends.

EnvPool has more ids in common with Gymnasium, but not always the task: its Pendulum-v1 turns faster
than the speed limit, its Humanoid-v4 observes other forces. Box2D's landscapes cannot be compared.
"""
