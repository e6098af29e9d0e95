"""Advantage actor-critic: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.on_policy import OneUpdateConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class A2CConfig(OneUpdateConfig):
    """Keys of `algo=a2c`; `configs/algo/a2c.yaml` says what each is for."""

    name: Literal["a2c"] = "a2c"

    gae_lambda: float = number(1.0, ge=0, le=1)

    optimizer: Literal["adam", "rmsprop"] = "rmsprop"
    lr: float = number(7e-4, gt=0)

    frames_per_batch: int = number(40, ge=1)

    critic_coeff: float = number(0.5, gt=0)
    entropy_coeff: float = number(0.0, ge=0)
    samples_mc_entropy: int = number(1, ge=1)
