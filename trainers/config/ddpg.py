"""Deep deterministic policy gradient: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.off_policy import MOST_NOISE, NoiseConfig, SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class DDPGConfig(NoiseConfig, TargetsConfig, SlicesConfig):
    """Keys of `algo=ddpg`; `configs/algo/ddpg.yaml` says what each is for."""

    name: Literal["ddpg"] = "ddpg"

    noise: Literal["gaussian", "ornstein_uhlenbeck"] = "ornstein_uhlenbeck"
    exploration_noise: float = number(0.2, ge=0, le=MOST_NOISE)

    actor_lr: float | None = number(None, gt=0)
    critic_lr: float | None = number(None, gt=0)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_actor: bool = True
    delay_qvalue: bool = True
    separate_losses: bool = False
    critic: str | None = None
