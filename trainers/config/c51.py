"""Categorical DQN (C51): its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.dqn import EpsilonGreedyConfig
from trainers.config.errors import ConfigError
from trainers.config.schema import number


@dataclass(frozen=True)
class C51Config(EpsilonGreedyConfig):
    """Keys of `algo=c51`; `configs/algo/c51.yaml` says what each is for."""

    name: Literal["c51"] = "c51"

    num_atoms: int = number(51, ge=2)
    v_min: float = number(-10.0)
    v_max: float = number(10.0)

    def check(self) -> None:
        """The support has two ends; a batch is one that the loss can take."""
        super().check()
        if self.v_min >= self.v_max:
            raise ConfigError("algo.v_min", self.v_min, f"below algo.v_max={self.v_max}")
        if self.loss_module == "torchrl" and self.batch_size == 1:
            allowed = "above 1 with algo.loss_module=torchrl"
            hint = "torchrl's DistributionalDQNLoss takes no batch of one"
            raise ConfigError("algo.batch_size", 1, allowed, hint)
