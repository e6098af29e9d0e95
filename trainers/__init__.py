"""A hook-driven trainer on TorchRL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.algorithms.a2c import A2CTrainer
    from trainers.algorithms.ppo import PPOTrainer
    from trainers.algorithms.reinforce import ReinforceTrainer
    from trainers.algorithms.sac import SACTrainer
    from trainers.collectors import GymCollector
    from trainers.config import (
        A2CConfig,
        EnvConfig,
        PPOConfig,
        ReinforceConfig,
        SACConfig,
        TrainConfig,
    )
    from trainers.envs import Envs
    from trainers.errors import NonFiniteError
    from trainers.phases import Phase
    from trainers.stages import Stage
    from trainers.timetable import every
    from trainers.trainer import Trainer
    from trainers.updates import Epochs, UpdateRatio

# Loaded when first used: a wrong command line is answered without waiting for torch.
_HOMES = {
    "A2CConfig": "config",
    "A2CTrainer": "algorithms.a2c",
    "EnvConfig": "config",
    "Envs": "envs",
    "Epochs": "updates",
    "GymCollector": "collectors",
    "NonFiniteError": "errors",
    "PPOConfig": "config",
    "PPOTrainer": "algorithms.ppo",
    "Phase": "phases",
    "ReinforceConfig": "config",
    "ReinforceTrainer": "algorithms.reinforce",
    "SACConfig": "config",
    "SACTrainer": "algorithms.sac",
    "Stage": "stages",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "UpdateRatio": "updates",
    "every": "timetable",
}

__all__ = [
    "A2CConfig",
    "A2CTrainer",
    "EnvConfig",
    "Envs",
    "Epochs",
    "GymCollector",
    "NonFiniteError",
    "PPOConfig",
    "PPOTrainer",
    "Phase",
    "ReinforceConfig",
    "ReinforceTrainer",
    "SACConfig",
    "SACTrainer",
    "Stage",
    "TrainConfig",
    "Trainer",
    "UpdateRatio",
    "every",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"trainers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'trainers' has no attribute {name!r}")
