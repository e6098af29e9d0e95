"""A hook-driven trainer on TorchRL."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.algorithms.a2c import A2CTrainer
    from trainers.algorithms.c51 import C51Trainer
    from trainers.algorithms.crossq import CrossQTrainer
    from trainers.algorithms.ddpg import DDPGTrainer
    from trainers.algorithms.discrete_sac import DiscreteSACTrainer
    from trainers.algorithms.dqn import DQNTrainer
    from trainers.algorithms.ppo import PPOTrainer
    from trainers.algorithms.redq import REDQTrainer
    from trainers.algorithms.reinforce import ReinforceTrainer
    from trainers.algorithms.sac import SACTrainer
    from trainers.algorithms.td3 import TD3Trainer
    from trainers.algorithms.tqc import TQCTrainer
    from trainers.collection.collectors import GymCollector
    from trainers.config import (
        A2CConfig,
        C51Config,
        CrossQConfig,
        DDPGConfig,
        DiscreteSACConfig,
        DQNConfig,
        EnvConfig,
        PPOConfig,
        REDQConfig,
        ReinforceConfig,
        SACConfig,
        TD3Config,
        TQCConfig,
        TrainConfig,
    )
    from trainers.environments.envs import Envs
    from trainers.errors import NonFiniteError
    from trainers.phases import Phase
    from trainers.policies.load import load_policy
    from trainers.stages import Stage
    from trainers.timetable import every
    from trainers.trainer import Trainer
    from trainers.updates import Epochs, UpdateRatio

# Loaded when first used: a wrong command line is answered without waiting for torch.
_HOMES = {
    "DDPGConfig": "config",
    "DDPGTrainer": "algorithms.ddpg",
    "CrossQConfig": "config",
    "CrossQTrainer": "algorithms.crossq",
    "DiscreteSACConfig": "config",
    "DiscreteSACTrainer": "algorithms.discrete_sac",
    "C51Config": "config",
    "C51Trainer": "algorithms.c51",
    "DQNConfig": "config",
    "DQNTrainer": "algorithms.dqn",
    "A2CConfig": "config",
    "A2CTrainer": "algorithms.a2c",
    "EnvConfig": "config",
    "Envs": "environments.envs",
    "Epochs": "updates",
    "GymCollector": "collection.collectors",
    "NonFiniteError": "errors",
    "PPOConfig": "config",
    "PPOTrainer": "algorithms.ppo",
    "Phase": "phases",
    "REDQConfig": "config",
    "REDQTrainer": "algorithms.redq",
    "ReinforceConfig": "config",
    "ReinforceTrainer": "algorithms.reinforce",
    "SACConfig": "config",
    "SACTrainer": "algorithms.sac",
    "Stage": "stages",
    "TD3Config": "config",
    "TD3Trainer": "algorithms.td3",
    "TQCConfig": "config",
    "TQCTrainer": "algorithms.tqc",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "UpdateRatio": "updates",
    "every": "timetable",
    "load_policy": "policies.load",
}

__all__ = [
    "A2CConfig",
    "A2CTrainer",
    "C51Config",
    "C51Trainer",
    "CrossQConfig",
    "CrossQTrainer",
    "DDPGConfig",
    "DDPGTrainer",
    "DQNConfig",
    "DQNTrainer",
    "DiscreteSACConfig",
    "DiscreteSACTrainer",
    "EnvConfig",
    "Envs",
    "Epochs",
    "GymCollector",
    "NonFiniteError",
    "PPOConfig",
    "PPOTrainer",
    "Phase",
    "REDQConfig",
    "REDQTrainer",
    "ReinforceConfig",
    "ReinforceTrainer",
    "SACConfig",
    "SACTrainer",
    "Stage",
    "TD3Config",
    "TD3Trainer",
    "TQCConfig",
    "TQCTrainer",
    "TrainConfig",
    "Trainer",
    "UpdateRatio",
    "every",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"trainers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'trainers' has no attribute {name!r}")
