"""Soft actor-critic for discrete actions: its keys, their types and ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.off_policy import EntropyConfig, SlicesConfig, TargetsConfig
from trainers.config.schema import number


@dataclass(frozen=True)
class DiscreteSACConfig(EntropyConfig, TargetsConfig, SlicesConfig):
    """Keys of `algo=discrete_sac`; `configs/algo/discrete_sac.yaml` says what each is for."""

    name: Literal["discrete_sac"] = "discrete_sac"

    num_critics: int = number(2, ge=1)
    loss_function: Literal["l2", "l1", "smooth_l1"] = "l2"
    delay_qvalue: bool = True
    skip_done_states: bool = False
    target_entropy_weight: float = number(0.98, ge=0, le=1)
