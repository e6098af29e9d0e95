"""Configuration: typed, ranged dataclasses and the preflight of the command line.

Nothing in this package imports torch, so that a typo is answered at once.
"""

from trainers.config.a2c import A2CConfig
from trainers.config.algo import AlgoConfig
from trainers.config.errors import ConfigError
from trainers.config.files import load_config, save_config
from trainers.config.ppo import PPOConfig
from trainers.config.reinforce import ReinforceConfig
from trainers.config.sac import SACConfig
from trainers.config.sections import (
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
from trainers.config.train import TrainConfig

__all__ = [
    "A2CConfig",
    "AlgoConfig",
    "CheckpointConfig",
    "CollectorConfig",
    "ConfigError",
    "EarlyStopConfig",
    "EnvConfig",
    "EvalConfig",
    "LogConfig",
    "LoggerConfig",
    "NetworkConfig",
    "PPOConfig",
    "ReinforceConfig",
    "ReportConfig",
    "SACConfig",
    "TrainConfig",
    "WandbConfig",
    "load_config",
    "save_config",
]
