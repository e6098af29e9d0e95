"""Deep Q-learning: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.config.errors import ConfigError
from trainers.config.off_policy import SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class EpsilonGreedyConfig(TargetsConfig):
    """Of those that take the action of the largest value, or now and then any."""

    policy_draws: ClassVar[bool] = False

    adam_eps: float = number(1e-8, gt=0)
    max_grad_norm: float | None = number(10.0, gt=0)
    batch_size: int = number(128, ge=1)
    buffer_size: int = number(100_000, ge=1)
    init_random_frames: int = number(1_000, ge=0)

    epsilon_start: float = number(1.0, ge=0, le=1)
    epsilon_end: float = number(0.05, ge=0, le=1)
    exploration_fraction: float = number(0.1, gt=0, le=1)

    duelling: bool = False
    delay_value: bool = True

    def has_schedule(self) -> bool:
        """Whether anything moves over the run's horizon, `total_frames`."""
        return super().has_schedule() or self.epsilon_start != self.epsilon_end


@dataclass(frozen=True)
class DQNConfig(EpsilonGreedyConfig, SlicesConfig):
    """Keys of `algo=dqn`; `configs/algo/dqn.yaml` says what each is for."""

    name: Literal["dqn"] = "dqn"

    double: bool = True
    loss_function: Literal["l2", "l1", "smooth_l1"] = "smooth_l1"

    def check(self) -> None:
        """Two networks, of which one picks the action and the other values it."""
        # First, since a preset may set keys of targets, which super() would name instead.
        if self.double and not self.delay_value:
            allowed = "false with algo.delay_value=false: there is no second network"
            raise ConfigError("algo.double", True, allowed)
        super().check()
