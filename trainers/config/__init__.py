"""Configuration: typed, ranged dataclasses and the preflight of the command line.

Nothing in this package imports torch, so that a typo is answered at once.
"""

from trainers.config.a2c import A2CConfig
from trainers.config.algo import AlgoConfig
from trainers.config.c51 import C51Config
from trainers.config.crossq import CrossQConfig
from trainers.config.ddpg import DDPGConfig
from trainers.config.discrete_sac import DiscreteSACConfig
from trainers.config.dqn import DQNConfig
from trainers.config.errors import ConfigError
from trainers.config.files import load_config, save_config
from trainers.config.ppo import PPOConfig
from trainers.config.redq import REDQConfig
from trainers.config.reinforce import ReinforceConfig
from trainers.config.sac import SACConfig
from trainers.config.sections import (
    AtariConfig,
    CheckpointConfig,
    CollectorConfig,
    EarlyStopConfig,
    EnvConfig,
    EvalConfig,
    LogConfig,
    LoggerConfig,
    NetworkConfig,
    ReportConfig,
    WandbConfig,
)
from trainers.config.td3 import TD3Config
from trainers.config.tqc import TQCConfig
from trainers.config.train import TrainConfig

__all__ = [
    "A2CConfig",
    "AlgoConfig",
    "AtariConfig",
    "C51Config",
    "CheckpointConfig",
    "CollectorConfig",
    "ConfigError",
    "CrossQConfig",
    "DDPGConfig",
    "DQNConfig",
    "DiscreteSACConfig",
    "EarlyStopConfig",
    "EnvConfig",
    "EvalConfig",
    "LogConfig",
    "LoggerConfig",
    "NetworkConfig",
    "PPOConfig",
    "REDQConfig",
    "ReinforceConfig",
    "ReportConfig",
    "SACConfig",
    "TD3Config",
    "TQCConfig",
    "TrainConfig",
    "WandbConfig",
    "load_config",
    "save_config",
]
